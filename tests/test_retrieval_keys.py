import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.retrieval.keys import fold_space, sentence_key, surface_key


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Saint - Denis", "Saint-Denis"),
        ("  a \n b", "a b"),
        ("Paris , France .", "Paris, France."),
        ("東京 。", "東京。"),
    ],
)
def test_tokenised_and_prose_have_one_key(a: str, b: str) -> None:
    assert sentence_key(a) == sentence_key(b)


@pytest.mark.parametrize(("a", "b"), [("to go", "togo"), ("May", "may"), ("Paris", "Pariš")])
def test_different_sentences_have_different_keys(a: str, b: str) -> None:
    assert sentence_key(a) != sentence_key(b)


def test_surfaces_also_fold_case_and_compatibility_forms() -> None:
    assert surface_key("NEW YORK") == surface_key("New  York") == surface_key("Ｎew York")
    assert surface_key("to go") != surface_key("Togo")


@given(st.text(max_size=20))
def test_composed_and_decomposed_text_have_one_key(text: str) -> None:
    assert sentence_key(unicodedata.normalize("NFD", text)) == sentence_key(
        unicodedata.normalize("NFC", text)
    )
    assert fold_space(fold_space(text)) == fold_space(text)
