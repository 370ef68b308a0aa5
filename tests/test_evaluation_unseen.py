from __future__ import annotations

import os
from pathlib import Path

import pytest

from retrieveall.corpus.conll import read_conll
from retrieveall.evaluation.strict import count_strict
from retrieveall.evaluation.unseen import SeenInTraining, restrict_to_unseen_names, unseen_mask
from retrieveall.text.folding import fold_text
from tests.annotated import annotated, found

TRAIN = [
    annotated("[Anna](PER) lives in [Oslo](LOC) .", split="train"),
    annotated("Café  closed .", split="train"),
]
SEEN = SeenInTraining.of(TRAIN)


def test_folding_composes_letters_and_white_space() -> None:
    assert fold_text(" Cafe\u0301\u00a0 \n closed ") == "Café closed"


def test_sentence_is_seen_in_another_normal_form_and_spacing() -> None:
    test = [annotated("Cafe\u0301 closed ."), annotated("café closed ."), annotated("Anna lives in Oslo .")]
    assert unseen_mask(test, SEEN).tolist() == [False, True, False]


def test_only_unseen_names_are_scored() -> None:
    sentence = annotated("[ANNA](ORG) , [Olaf](PER) and [Bergen](LOC) met .")
    predicted = [
        found(sentence, "ANNA ,", "PER"),  # overlaps a seen name: dropped, though wrong
        found(sentence, "Olaf", "PER"),  # right
        found(sentence, "met", "LOC"),  # touches nothing: stays and is spurious
    ]
    gold, kept = restrict_to_unseen_names([sentence], [predicted], SEEN)
    assert [sentence.text[m.start_char : m.end_char] for m in gold[0].entities] == ["Olaf", "Bergen"]
    assert count_strict(gold, kept).per_sentence.tolist() == [[1, 1, 1]]


def test_prediction_over_a_seen_and_an_unseen_name_is_dropped_and_the_unseen_one_missed() -> None:
    sentence = annotated("[Oslo](LOC) [Olaf](PER)")
    gold, kept = restrict_to_unseen_names([sentence], [[found(sentence, "Oslo Olaf", "PER")]], SEEN)
    assert count_strict(gold, kept).per_sentence.tolist() == [[0, 0, 1]]


def test_name_seen_under_another_label_is_seen() -> None:
    sentence = annotated("[Oslo](ORG) won")
    assert SEEN.holds_name(sentence, sentence.entities[0])


def test_case_form_of_a_known_name_is_seen_with_its_citation_form() -> None:
    train = [annotated("[Москве](LOC)", split="train")]
    sentence = annotated("[Москвы](LOC) [Казани](LOC)")
    citation = {"Москве": "Москва", "Москвы": "Москва", "Казани": "Казань"}
    for seen, expected in (
        (SeenInTraining.of(train), [False, False]),
        (SeenInTraining.of(train, citation=citation), [True, False]),
    ):
        assert [seen.holds_name(sentence, mention) for mention in sentence.entities] == expected


@pytest.mark.parametrize(("language", "percent"), [("es", 16.2)])
def test_duplicates_of_panx_are_the_known_share(language: str, percent: float) -> None:
    """Gold against itself is perfect and lies on token borders."""
    data = os.environ.get("RETRIEVEALL_TEST_DATA")
    if not data:
        pytest.skip("set RETRIEVEALL_TEST_DATA to a folder with ner/panx")
    folder = Path(data) / "ner" / "panx" / language
    train = read_conll(folder / "train.conll", language=language, split="train")
    test = list(read_conll(folder / "test.conll", language=language, split="test"))
    seen = SeenInTraining.of(train)
    assert 100 * (1 - unseen_mask(test, seen).mean()) == pytest.approx(percent, abs=0.1)
    counts = count_strict(test, [sentence.entities for sentence in test])
    assert counts.unaligned == 0
    assert counts.per_sentence[:, 1:].sum() == 0
