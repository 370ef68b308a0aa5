from collections.abc import Sequence

import numpy as np
import pytest

from retrieveall.embedding.protocol import Vectors
from retrieveall.errors import InputError, NotFoundError
from retrieveall.routing import (
    LangidScorer,
    LanguageScores,
    RouteSettings,
    ScoringRouter,
    fit_document_weight,
    fit_thresholds,
    open_router,
)


class LetterScorer:
    """Counts the letters a and b: language aa likes a, bb likes b; similarity is their number."""

    name = "letters"
    gives_shares = True
    languages: tuple[str, ...] = ("aa", "bb")

    def score(self, texts: Sequence[str], *, embeddings: Vectors | None = None) -> LanguageScores:
        counts = np.array([[text.count("a"), text.count("b")] for text in texts], np.float64).reshape(-1, 2)
        return LanguageScores(values=counts, similarity=counts.sum(axis=1), embeddings=embeddings)


def languages(
    router: ScoringRouter, texts: Sequence[str], documents: Sequence[int] | None = None
) -> list[str]:
    return [route.language for route in router.route(texts, documents=documents).routes]


def test_ranking_and_margin() -> None:
    route = ScoringRouter(LetterScorer()).route(["abb"]).routes[0]
    assert (route.language, route.ranking, route.margin) == ("bb", (("bb", 2.0), ("aa", 1.0)), 1.0)
    assert route.known


def test_likely_languages_have_shares() -> None:
    scorer = LetterScorer()
    routes = ScoringRouter(scorer).route(["abbb", "a" * 20 + "b", "1"]).routes
    assert [route.shares for route in routes] == [(("bb", 0.75), ("aa", 0.25)), (("aa", 1.0),), ()]
    scorer.gives_shares = False
    assert ScoringRouter(scorer).route(["abbb"]).routes[0].shares == ()


def test_short_sentences_lean_on_their_document_and_long_ones_do_not() -> None:
    long = "a a a a a a a a"
    router = ScoringRouter(LetterScorer(), RouteSettings(document_weight=1.0))
    assert languages(router, ["b", long]) == ["bb", "aa"]
    assert languages(router, ["b", long], [0, 0]) == ["aa", "aa"]
    assert languages(router, ["b", long], [0, 1]) == ["bb", "aa"]
    assert languages(router, ["b b b b b b b b", long, long], [0, 0, 0])[0] == "bb"
    assert (
        languages(ScoringRouter(LetterScorer(), RouteSettings(document_weight=0.0)), ["b", long], [0, 0])[0]
        == "bb"
    )


def test_sentences_without_letters_take_the_route_of_their_document() -> None:
    router = ScoringRouter(LetterScorer())
    assert languages(router, ["1999 !", "bbb", "2000"], [0, 0, 1])[0] == "bb"
    lone = router.route(["1999 !"], documents=[0]).routes[0]
    assert not lone.known


def test_thresholds_mark_what_is_unknown() -> None:
    router = ScoringRouter(LetterScorer(), RouteSettings(min_similarity=2.0, min_margin=1.0))
    assert [route.known for route in router.route(["aa", "ab", "a"]).routes] == [True, False, False]


def test_fitted_thresholds_lose_at_most_one_in_a_hundred() -> None:
    generator = np.random.default_rng(0)
    texts = [
        "a" * int(generator.integers(1, 400)) + "b" * int(generator.integers(1, 400)) for _ in range(1000)
    ]
    fitted = fit_thresholds(ScoringRouter(LetterScorer()), texts)
    assert fitted.min_similarity > 0
    unknown = [not route.known for route in ScoringRouter(LetterScorer(), fitted).route(texts).routes]
    assert np.mean(unknown) <= 0.01
    assert RouteSettings.from_dict(fitted.to_dict()) == fitted
    with pytest.raises(InputError, match="dev"):
        fit_thresholds(ScoringRouter(LetterScorer()), ["12"])


def test_the_document_weight_is_chosen_by_accuracy() -> None:
    texts = {"aa": ["aaaa", "aaa", "b", "aaaa", "aaa"] * 4, "bb": ["bbbb", "bbb", "a", "bbb", "bbbb"] * 4}
    assert fit_document_weight(ScoringRouter(LetterScorer()), texts).document_weight > 0


def test_no_text_has_no_route() -> None:
    assert ScoringRouter(LetterScorer()).route([]).routes == ()


def test_without_an_index_language_identification_answers() -> None:
    router = open_router("vote", {}, languages=["de", "en", "tlh"])
    assert isinstance(router.scorer, LangidScorer)
    assert router.route(["Das ist ein ganz einfacher deutscher Satz."]).routes[0].language == "de"
    with pytest.raises(NotFoundError):
        open_router("vote", {})
