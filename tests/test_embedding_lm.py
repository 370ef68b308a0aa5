from typing import Any

import numpy as np
import pytest
import torch

from retrieveall.embedding.lm import LmEmbedder
from retrieveall.embedding.protocol import Vectors
from retrieveall.errors import ConfigError
from retrieveall.prompting.codec import PromptCodec
from retrieveall.types import Span
from tests.models import SENTENCES, tiny_model, tiny_tokenizer

CODEC = PromptCodec(tiny_tokenizer())


@pytest.fixture(scope="module")
def embedder() -> LmEmbedder:
    return LmEmbedder(tiny_model("llama"), CODEC, base_digest="b")


def states(ids: list[int]) -> torch.Tensor:
    model: Any = tiny_model("llama").eval()  # type: ignore[no-untyped-call]
    start = list(CODEC.start_ids)
    with torch.inference_mode():
        hidden: torch.Tensor = model.base_model(input_ids=torch.tensor([[*start, *ids]])).last_hidden_state
    return hidden[0, len(start) :].float()


def unit(vector: torch.Tensor) -> Vectors:
    values: Vectors = (vector / vector.norm()).numpy()
    return values


def test_a_sentence_is_the_mean_of_its_tokens(embedder: LmEmbedder) -> None:
    expected = unit(states(CODEC.text(SENTENCES[0]).ids).mean(dim=0))
    np.testing.assert_allclose(embedder.embed_texts([SENTENCES[0]])[0], expected, atol=1e-5)


def test_a_mention_is_the_mean_of_its_tokens_inside_the_sentence(embedder: LmEmbedder) -> None:
    text = SENTENCES[0]  # Angela Merkel visited …
    encoded = CODEC.text(text)
    first, last = len(encoded.unit_ids[0]), len(encoded.unit_ids[0]) + len(encoded.unit_ids[1])
    vectors = embedder.embed_mentions([text, text], [[Span(start_char=7, end_char=13)], []])
    assert vectors.shape == (1, embedder.dimensions)
    np.testing.assert_allclose(vectors[0], unit(states(encoded.ids)[first:last].mean(dim=0)), atol=1e-5)


def test_batching_and_padding_change_nothing() -> None:
    small = LmEmbedder(tiny_model("llama"), CODEC, base_digest="b", batch_tokens=40)
    large = LmEmbedder(tiny_model("llama"), CODEC, base_digest="b")
    np.testing.assert_allclose(small.embed_texts(SENTENCES), large.embed_texts(SENTENCES), atol=1e-5)


def test_blank_and_cut_off_places_are_zero() -> None:
    short = LmEmbedder(tiny_model("llama"), CODEC, base_digest="b", max_tokens=4)
    text = SENTENCES[0]
    late = Span(start_char=len(text) - 7, end_char=len(text))
    assert not short.embed_mentions([text], [[late]]).any()
    assert not short.embed_texts(["  "]).any()


def test_centring_removes_the_common_direction_and_has_its_own_digest(embedder: LmEmbedder) -> None:
    means = [states(CODEC.text(sentence).ids).mean(dim=0) for sentence in SENTENCES]
    centre: Vectors = torch.stack(means).mean(dim=0).numpy()
    centred = LmEmbedder(tiny_model("llama"), CODEC, base_digest="b", centre=centre)
    raw, clean = embedder.embed_texts(SENTENCES), centred.embed_texts(SENTENCES)
    assert (clean @ clean.T).mean() < 0.3 * (raw @ raw.T).mean()
    assert centred.digest != embedder.digest


def test_a_centre_of_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="dimensions"):
        LmEmbedder(tiny_model("llama"), CODEC, base_digest="b", centre=np.zeros(3, np.float32))
