"""The linear router learns from training sentences alone, always the same, and scores each for itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieveall.embedding.protocol import Vectors
from retrieveall.errors import NotFoundError
from retrieveall.routing import LinearScorer, ScoringRouter, learn_from_indexes, open_router
from retrieveall.routing.learning import (
    MOST_BITS,
    MOST_OF_A_LANGUAGE,
    MOST_SENTENCES,
    MOST_WEIGHTS,
    learn,
    sentences_of_each,
    table_size,
)
from tests.indexes import SMALL, contexts_only, training

ENGLISH = ("the cat is on the mat", "this is the house of the king", "where is the river")
SPANISH = ("el gato está en la casa", "la casa del rey es grande", "dónde está el río")
NEW = ("the house is grand", "la casa es la del gato")


@pytest.fixture(scope="module")
def scorer() -> LinearScorer:
    return LinearScorer(learn({"es": SPANISH, "en": ENGLISH}))


def test_new_sentences_find_their_language(scorer: LinearScorer) -> None:
    assert scorer.languages == ("en", "es")
    routes = ScoringRouter(scorer).route(NEW).routes
    assert [route.language for route in routes] == ["en", "es"]
    assert all(route.known and route.margin > 0.1 for route in routes)


def test_values_are_shares_and_similarity_is_what_the_language_has_seen(scorer: LinearScorer) -> None:
    scores = scorer.score([ENGLISH[0], "the cat Ω", "Ωμέγα", "", "the"])
    np.testing.assert_allclose(scores.values.sum(axis=1), 1.0)
    assert scores.similarity[0] == scores.similarity[4] == 1.0
    assert 1.0 > scores.similarity[1] > 0.5
    assert scores.similarity[2] == scores.similarity[3] == 0.0
    assert scores.values[3].tolist() == [0.5, 0.5]


def test_nothing_known_is_unknown(scorer: LinearScorer) -> None:
    assert not ScoringRouter(scorer).route(["Ωμέγα"]).routes[0].known


def test_capitals_tell_languages_apart() -> None:
    scorer = LinearScorer(learn({"de": ["Der Hund", "Das Haus"], "nl": ["de hond", "het huis", "der dag"]}))
    assert scorer.score(["der", "Der"]).values.argmax(axis=1).tolist() == [1, 0]


def test_the_same_sentences_give_the_same_weights() -> None:
    first = learn({"en": ENGLISH, "es": SPANISH})
    torch.manual_seed(1)
    np.random.seed(1)
    again = learn({"es": SPANISH, "en": ENGLISH})
    assert torch.equal(first.rows_RL, again.rows_RL)
    np.testing.assert_array_equal(first.seen, again.seen)


def test_a_batch_scores_as_its_sentences_alone(scorer: LinearScorer) -> None:
    texts = [*NEW, "", "42", "\ud800", "x" * 5_000, *ENGLISH] * 30
    together = scorer.score(texts)
    for row, text in enumerate(texts[:12]):
        alone = scorer.score([text])
        np.testing.assert_array_equal(together.values[row], alone.values[0])
        assert together.similarity[row] == alone.similarity[0]
    assert scorer.score([]).values.shape == (0, 2)


def test_one_language_has_all_of_every_sentence() -> None:
    scorer = LinearScorer(learn({"en": ENGLISH}))
    scores = scorer.score(["the cat", "Ωμέγα"])
    assert scores.values.tolist() == [[1.0], [1.0]]
    assert scores.similarity[0] > 0.9 and scores.similarity[1] == 0.0


def test_a_language_of_few_sentences_counts_as_the_others() -> None:
    many = [f"the {noun} is on the {place}" for noun in ("cat", "dog", "king") for place in "abcdefgh"]
    scorer = LinearScorer(learn({"en": many, "nl": ["de kat is op de mat"]}))
    assert scorer.score(["de kat", "de hond is op de stoel"]).values.argmax(axis=1).tolist() == [1, 1]


def test_a_language_without_sentences_is_never_chosen() -> None:
    scores = LinearScorer(learn({"en": ENGLISH, "es": SPANISH, "xx": []})).score(NEW)
    assert scores.values.argmax(axis=1).tolist() == [0, 1]
    assert LinearScorer(learn({"xx": []})).score(["text"]).similarity.tolist() == [0.0]


def test_it_learns_from_indexes_and_hands_vectors_on() -> None:
    indexes = {
        "en": contexts_only(training(*ENGLISH), SMALL),
        "es": contexts_only(training(*SPANISH, language="es"), SMALL),
    }
    expected = learn({"en": ENGLISH, "es": SPANISH})
    assert torch.equal(learn_from_indexes(indexes).rows_RL, expected.rows_RL)
    router = open_router("linear", indexes)
    vectors: Vectors = SMALL.embed_texts(NEW)
    assert router.route(NEW, embeddings=vectors).embeddings is vectors
    assert router.route(NEW).embeddings is None
    given = open_router("linear", indexes, weights=learn({"en": SPANISH, "es": ENGLISH}))
    assert [route.language for route in given.route(NEW).routes] == ["es", "en"]


def test_nothing_to_learn_from() -> None:
    with pytest.raises(NotFoundError, match="retrieveall index"):
        learn_from_indexes({})


@pytest.mark.parametrize("languages", [1, 6, 25, 100, 1_000])
def test_limits_hold_for_any_number_of_languages(languages: int) -> None:
    rows, slots = table_size(languages)
    assert rows * languages <= MOST_WEIGHTS and slots * languages <= MOST_BITS
    assert 1 <= sentences_of_each(languages) <= MOST_OF_A_LANGUAGE
    assert sentences_of_each(languages) * languages <= MOST_SENTENCES
    assert (rows, slots) >= (1 << 16, 1 << 20)
