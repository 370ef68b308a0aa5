import sys

import pytest

from retrieveall.errors import MissingDependencyError, NotFoundError
from retrieveall.routing import LangidScorer


def best(scorer: LangidScorer, text: str) -> str:
    return scorer.languages[int(scorer.score([text]).values[0].argmax())]


def test_plain_sentences() -> None:
    scorer = LangidScorer(["ru", "en", "zh-hans"])
    assert best(scorer, "This is a rather simple sentence.") == "en"
    assert best(scorer, "Это совсем простое предложение.") == "ru"
    assert best(scorer, "这是一个简单的句子。") == "zh-hans"


def test_scripts_of_one_language_share_its_confidence() -> None:
    values = LangidScorer(["zh-hans", "zh-hant", "en"]).score(["这是一个简单的句子。"]).values[0]
    assert values[1] == values[2] > values[0]


def test_one_language_and_none() -> None:
    assert best(LangidScorer(["sw"]), "anything") == "sw"
    assert LangidScorer(["tlh"]).score(["anything"]).similarity.tolist() == [0.0]
    with pytest.raises(NotFoundError, match="codes"):
        LangidScorer([])


def test_any_text_is_scored() -> None:
    values = LangidScorer(["en", "de"]).score(["", "123", "\ud800", "😀"]).values
    assert values.shape == (4, 2)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lingua", None)
    with pytest.raises(MissingDependencyError, match="pip install lingua-language-detector"):
        LangidScorer(["en"])
