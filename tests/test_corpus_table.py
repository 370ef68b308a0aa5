"""Sentences survive Arrow unchanged, in both forms."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.corpus.detokenise import detokenise
from retrieveall.corpus.joining import join_tokens
from retrieveall.corpus.table import SCHEMA, from_table, to_table
from retrieveall.corpus.tags import TokenRun
from retrieveall.types import SPLITS, GoldEntity, Sentence
from tests.corpora import tagged_tokens


@st.composite
def sentences(draw: st.DrawFn) -> list[Sentence]:
    """Draws sentences with entities."""
    drawn: list[tuple[list[str], list[TokenRun]]] = draw(st.lists(tagged_tokens(), max_size=4))
    rows = []
    for number, (tokens, runs) in enumerate(drawn):
        text, spans = join_tokens(tokens, "spaced")
        placed = tuple(span for span in spans if span)
        entities = tuple(
            GoldEntity(start_char=first.start_char, end_char=last.end_char, label=run.label)
            for run in runs
            for first, last in [(placed[run.first], placed[run.end - 1])]
        )
        split = draw(st.sampled_from(SPLITS))
        rows.append(
            Sentence(id=str(number), language="en", text=text, tokens=placed, entities=entities, split=split)
        )
    return rows


@settings(max_examples=40)
@given(sentences())
def test_both_forms_round_trip(rows: list[Sentence]) -> None:
    twins = [detokenise(row) for row in rows]
    table = to_table(rows, twins)
    table.validate(full=True)
    assert table.schema == SCHEMA
    assert list(from_table(table)) == rows
    assert list(from_table(table, "detokenised")) == twins


@settings(max_examples=40)
@given(sentences())
def test_slices_and_chunks_round_trip(rows: list[Sentence]) -> None:
    table = pa.concat_tables([to_table(rows, rows)] * 2)
    assert list(from_table(table.slice(1), "detokenised")) == (rows * 2)[1:]


def test_without_a_detokenised_form_the_column_is_null() -> None:
    row = Sentence(id="a", language="en", text="a", tokens=(), entities=(), split="dev")
    assert to_table([row], None)["detokenised"].null_count == 1
