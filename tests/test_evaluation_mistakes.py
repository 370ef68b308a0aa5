from __future__ import annotations

from hypothesis import given, settings

from retrieveall.evaluation.mistakes import count_mistakes, find_mistakes, worst_mistakes
from retrieveall.evaluation.strict import count_strict
from retrieveall.evaluation.unseen import SeenInTraining
from tests.annotated import annotated, found, spans_over_tokens
from tests.test_evaluation_strict import Spans, cases


def test_every_kind_is_told_apart() -> None:
    sentence = annotated(
        "[Anna](PER) of [Bank of Norway](ORG) in [New Oslo](LOC) , [Bergen](LOC) , [Rome](LOC) ."
    )
    predicted = [
        found(sentence, "Anna", "ORG"),
        found(sentence, "Bank", "ORG"),
        found(sentence, "Oslo", "PER"),
        found(sentence, "Rome", "LOC"),
        found(sentence, "in", "LOC"),
    ]
    mistakes = find_mistakes([sentence], [predicted])
    named = {(m.kind, m.gold and sentence.text[m.gold.start_char : m.gold.end_char]) for m in mistakes}
    assert named == {
        ("wrong label", "Anna"),
        ("wrong border", "Bank of Norway"),
        ("wrong label and border", "New Oslo"),
        ("missed", "Bergen"),
        ("spurious", None),
    }


def test_same_borders_are_paired_before_larger_overlap() -> None:
    sentence = annotated("[Bank](ORG) of Norway")
    predicted = [found(sentence, "Bank of Norway", "ORG"), found(sentence, "Bank", "LOC")]
    assert [m.kind for m in find_mistakes([sentence], [predicted])] == ["wrong label", "spurious"]


@settings(max_examples=50, deadline=None)
@given(cases())
def test_mistakes_account_for_every_false_count(case: tuple[list[str], Spans, Spans]) -> None:
    words, wanted, guessed = case
    gold, predicted = spans_over_tokens(words, wanted), spans_over_tokens(words, guessed).entities
    mistakes = find_mistakes([gold], [predicted])
    _, spurious, missed = count_strict([gold], [predicted]).per_sentence[0]
    assert sum(m.found is not None for m in mistakes) == spurious
    assert sum(m.gold is not None for m in mistakes) == missed


def test_worst_are_the_surest_and_the_missed_that_training_held() -> None:
    sentence = annotated("[Anna](PER) and [Olaf](PER) and x and y")
    seen = SeenInTraining.of([annotated("[Olaf](PER)", split="train")])
    predicted = [found(sentence, "x", "LOC", score=0.2), found(sentence, "y", "LOC", score=0.9)]
    mistakes = find_mistakes([sentence], [predicted], seen=seen)
    worst = worst_mistakes(mistakes, per_kind=1)
    assert [(m.kind, m.score, m.seen) for m in worst] == [("missed", None, True), ("spurious", 0.9, None)]
    assert count_mistakes(mistakes)["missed"] == 2
