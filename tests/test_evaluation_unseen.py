from __future__ import annotations

from retrieveall.evaluation.strict import count_strict
from retrieveall.evaluation.unseen import SeenInTraining, fold_text, restrict_to_unseen_names, unseen_mask
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
