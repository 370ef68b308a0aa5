import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from retrieveall.corpus import read_conll
from retrieveall.embedding import NgramEmbedder
from retrieveall.errors import NotFoundError
from retrieveall.retrieval import LanguageIndex
from retrieveall.routing import (
    CentroidScorer,
    LangidScorer,
    LanguageScorer,
    LinearScorer,
    ScoringRouter,
    VoteScorer,
    learn_from_indexes,
)
from tests.indexes import SMALL, contexts_only, training

LANGUAGES = ("de", "en", "es", "fr", "pt", "ru")
TRAIN, TEST = 3_000, 150


@pytest.fixture(scope="module")
def small() -> dict[str, LanguageIndex]:
    english = training("the cat is on the mat", "this is the house of the king", "where is the river")
    spanish = training(
        "el gato está en la casa", "la casa del rey es grande", "dónde está el río", language="es"
    )
    return {"en": contexts_only(english, SMALL), "es": contexts_only(spanish, SMALL)}


@pytest.mark.parametrize("kind", [VoteScorer, CentroidScorer.from_indexes])
def test_the_nearest_language_wins(small: dict[str, LanguageIndex], kind: type[LanguageScorer]) -> None:
    router = ScoringRouter(kind(small))  # type: ignore[call-arg]
    routed = router.route(["the house is grand", "la casa es la del gato"])
    assert [route.language for route in routed.routes] == ["en", "es"]
    assert routed.embeddings is not None
    np.testing.assert_array_equal(routed.embeddings[0], SMALL.embed_texts(["the house is grand"])[0])


def test_shares_of_the_votes_sum_to_one(small: dict[str, LanguageIndex]) -> None:
    scores = VoteScorer(small, k=4).score(["the cat", "el gato"])
    np.testing.assert_allclose(scores.values.sum(axis=1), 1.0)
    assert VoteScorer(small).score([""]).values.tolist() == [[0.0, 0.0]]


def test_plain_votes_break_ties_by_summed_similarity(small: dict[str, LanguageIndex]) -> None:
    values = VoteScorer(small, k=6, power=0.0).score(["la casa es la del gato"]).values[0]
    assert values[1] > values[0] > 0.4  # three votes each


def test_given_vectors_are_used(small: dict[str, LanguageIndex]) -> None:
    vector = SMALL.embed_texts(["el gato está en la casa"])
    for scorer in (VoteScorer(small), CentroidScorer.from_indexes(small)):
        assert scorer.score(["ignored"], embeddings=vector).values[0].argmax() == 1


@pytest.mark.parametrize("kind", [VoteScorer, CentroidScorer.from_indexes])
def test_nothing_to_route_to(kind: type[LanguageScorer]) -> None:
    with pytest.raises(NotFoundError, match="retrieveall index"):
        kind({})  # type: ignore[call-arg]


def accuracy(scorer: LanguageScorer, texts: Mapping[str, list[str]]) -> float:
    router = ScoringRouter(scorer)
    return float(np.mean([r.language == code for code in texts for r in router.route(texts[code]).routes]))


def test_votes_beat_lingua_on_short_sentences_full_of_names_and_linear_beats_votes() -> None:
    root = os.environ.get("RETRIEVEALL_TEST_DATA")
    if root is None:
        pytest.skip("RETRIEVEALL_TEST_DATA is not set")
    embedder, indexes, texts = NgramEmbedder(), {}, {}
    for code in LANGUAGES:
        folder = Path(root) / "ner" / "panx" / code
        train = list(read_conll(folder / "train.conll", language=code, split="train"))[:TRAIN]
        indexes[code] = contexts_only(train, embedder)
        test = list(read_conll(folder / "test.conll", language=code, split="test"))[:TEST]
        texts[code] = [sentence.text for sentence in test]
    votes = accuracy(VoteScorer(indexes), texts)
    assert votes > accuracy(LangidScorer(LANGUAGES), texts)
    assert accuracy(LinearScorer(learn_from_indexes(indexes)), texts) > votes
