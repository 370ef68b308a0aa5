import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.retrieval.keys import sentence_key, surface_key, surface_keys
from retrieveall.retrieval.rows import ContextRows, EntityRows, context_table, entity_table
from tests.indexes import training

MENTIONS = st.sampled_from(["[Oslo](LOC)", "[Oslo](ORG)", "[Anna](PER)", "[New York](LOC)", "word", "oslo"])
SENTENCES = st.lists(st.lists(MENTIONS, min_size=1, max_size=4).map(" ".join), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(SENTENCES)
def test_rows_against_counting_by_hand(marked: list[str]) -> None:
    sentences = training(*marked)
    contexts = ContextRows(context_table(sentences))
    rows = EntityRows(entity_table(sentences, per_occurrence=False), contexts)
    occurrences = [
        (s.text[e.start_char : e.end_char], e.label, number)
        for number, s in enumerate(sentences)
        for e in s.entities
    ]
    names = sorted({(mention, label) for mention, label, _ in occurrences})
    assert [(rows.mention(row), rows.label(row)) for row in range(len(rows))] == names
    for row, name in enumerate(names):
        assert rows.sources(row).tolist() == [
            n for mention, label, n in occurrences if (mention, label) == name
        ]
    for number, sentence in enumerate(sentences):
        same = contexts.with_key(sentence_key(sentence.text))
        assert number in same.tolist()
        assert same.tolist() == [n for n, other in enumerate(sentences) if other.text == sentence.text]
        gone = set(same.tolist())
        assert rows.only_in(same).tolist() == [
            r for r in range(len(rows)) if set(rows.sources(r).tolist()) <= gone
        ]


def test_look_up_by_surface_ignores_case() -> None:
    rows = entity_rows("[Oslo](LOC) and [Anna](PER)", "[OSLO](ORG)")
    which, found = rows.with_keys(surface_keys(["nothing", "oslo", "Anna"]))
    assert [(w, rows.mention(r), rows.label(r)) for w, r in zip(which, found, strict=True)] == [
        (1, "OSLO", "ORG"),
        (1, "Oslo", "LOC"),
        (2, "Anna", "PER"),
    ]


def test_sentences_count_tagged_and_untagged_occurrences() -> None:
    rows = entity_rows("[May](PER) spoke", "in may", "in May and may")
    assert rows.sentences.tolist() == [3]
    assert rows.keys.tolist() == [surface_key("May")]


def test_one_row_per_occurrence_where_the_context_counts() -> None:
    sentences = training("[Oslo](LOC) and [Oslo](LOC)", "[Oslo](LOC)")
    assert entity_table(sentences, per_occurrence=True)["sources"].to_pylist() == [[0], [0], [1]]


def test_no_rows_at_all() -> None:
    rows = entity_rows("nothing here")
    assert len(rows) == 0
    assert rows.only_in(np.array([0])).tolist() == []
    assert rows.with_keys(surface_keys(["nothing"]))[1].tolist() == []


def entity_rows(*marked: str) -> EntityRows:
    sentences = training(*marked)
    return EntityRows(entity_table(sentences, per_occurrence=False), ContextRows(context_table(sentences)))
