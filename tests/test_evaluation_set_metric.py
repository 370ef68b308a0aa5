from __future__ import annotations

from retrieveall.evaluation.set_metric import count_sets
from retrieveall.evaluation.strict import count_strict
from tests.annotated import annotated, found


def test_case_position_and_repetition_do_not_count() -> None:
    sentence = annotated("[Oslo](LOC) and [OSLO](LOC) and [Anna](PER)")
    predicted = [found(sentence, "Oslo", "LOC"), found(sentence, "and", "ORG")]
    assert count_sets([sentence], [predicted]).tolist() == [[1, 1, 1]]
    assert count_strict([sentence], [predicted]).per_sentence.tolist() == [[1, 1, 2]]
