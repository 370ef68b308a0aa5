import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from retrieveall.embedding import EmbedderSpec, NgramEmbedder, load_embedder, spec_for
from retrieveall.errors import ConfigError, IncompatibleArtefactError, MissingDependencyError
from tests.models import save_tiny_base


@pytest.mark.parametrize(
    "spec",
    [
        EmbedderSpec(dimensions=32, lengths=(2, 3)),
        EmbedderSpec(name="lm", model="tiny", base_digest="d", centre=(0.5, -1.0)),
        EmbedderSpec(name="sentence-transformers", model="some/model"),
    ],
)
def test_a_spec_survives_json(spec: EmbedderSpec) -> None:
    assert EmbedderSpec.from_dict(spec.to_dict()) == spec


def test_ngram_from_its_spec() -> None:
    assert load_embedder(EmbedderSpec(dimensions=32)).digest == NgramEmbedder(dimensions=32).digest


def test_lm_from_a_folder(tmp_path: Path) -> None:
    folder = str(save_tiny_base(tmp_path / "base", "qwen3"))
    embedder = load_embedder(spec_for("lm", base_model=folder))
    assert embedder.embed_texts(["Oslo is here"]).shape == (1, embedder.dimensions)
    with pytest.raises(IncompatibleArtefactError, match="other"):
        load_embedder(EmbedderSpec(name="lm", model=folder, base_digest="other"))


@pytest.mark.parametrize("name", ["lm", "sentence-transformers"])
def test_a_model_must_be_named(name: Any) -> None:
    with pytest.raises(ConfigError, match="needs a model"):
        load_embedder(EmbedderSpec(name=name))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="Known: ngram"):
        load_embedder(EmbedderSpec(name="word2vec"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--base-model"):
        spec_for("lm")


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'retrieveall\[sentence-transformers\]'"):
        load_embedder(spec_for("some/model"))


class FakeModel:
    """Encodes a text as its length and its number of spaces."""

    devices: ClassVar[list[str]] = []

    def __init__(self, model: str, device: str) -> None:
        self.model = model
        self.devices.append(device)

    def get_sentence_embedding_dimension(self) -> int:
        return 2

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        return np.array([[len(text), text.count(" ")] for text in texts], np.float32)


def test_sentence_transformers_vectors_are_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=FakeModel))
    vectors = load_embedder(spec_for("some/model")).embed_texts(["a b c", " "])
    np.testing.assert_allclose(vectors[0], np.array([5, 2]) / np.sqrt(29), rtol=1e-5)
    assert not vectors[1].any()


@pytest.mark.parametrize(
    ("gpu", "asked", "device"), [(True, None, "cuda"), (False, None, "cpu"), (True, "cpu", "cpu")]
)
def test_a_model_runs_on_a_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, asked: str | None, device: str
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=FakeModel))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    load_embedder(spec_for("some/model"), device=asked)
    assert FakeModel.devices[-1] == device


def test_the_base_runs_on_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(name: str, *, device: str) -> None:
        raise InterruptedError(device)

    monkeypatch.setattr("retrieveall.models.base.open_base", opened)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InterruptedError, match="cuda"):
        load_embedder(spec_for("lm", base_model="tiny"))


def test_n_grams_never_ask_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("nobody asks"))
    assert load_embedder(EmbedderSpec()).dimensions
