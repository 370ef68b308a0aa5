"""JSONL records become sentences, and every way a record can be wrong is named with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieveall.corpus.jsonl import read_jsonl
from retrieveall.corpus.report import ImportLog
from retrieveall.errors import CorpusFormatError
from retrieveall.types import Sentence
from tests.corpora import mentions, token_texts


def read(folder: Path, *records: Any, log: ImportLog | None = None) -> list[Sentence]:
    path = folder / "corpus.jsonl"
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines), encoding="utf-8")
    return list(read_jsonl(path, language="en", split="train", log=log))


def span(start: Any, end: Any, label: Any = "LOC") -> dict[str, Any]:
    return {"start": start, "end": end, "label": label}


def test_both_spellings_of_the_fields(tmp_path: Path) -> None:
    ours = {"id": "a", "text": "In Paris, France.", "split": "dev", "language": "en"}
    ours["entities"] = [{"start_char": 3, "end_char": 8, "label": "LOC"}]  # type: ignore[assignment]
    theirs = {"text": "In Paris.", "spans": [{"start": 3, "end": 8, "type": "GPE"}]}
    first, second = read(tmp_path, ours, "", theirs)
    assert (first.id, first.split, mentions(first)) == ("a", "dev", [("Paris", "LOC")])
    assert token_texts(first) == ["In", "Paris", ",", "France", "."]
    assert (second.id, second.split, mentions(second)) == ("train-3", "train", [("Paris", "GPE")])


def test_offsets_are_code_points_and_entities_are_sorted(tmp_path: Path) -> None:
    text = "🎉 東京 and 👩‍👩‍👧 Oslo"
    oslo, tokyo = text.index("Oslo"), text.index("東京")
    (found,) = read(tmp_path, {"text": text, "entities": [span(oslo, oslo + 4), span(tokyo, tokyo + 2)]})
    assert mentions(found) == [("東京", "LOC"), ("Oslo", "LOC")]


def test_tokens_are_cut_where_entities_end(tmp_path: Path) -> None:
    (found,) = read(tmp_path, {"text": "Parisian", "entities": [span(0, 5)]})
    assert token_texts(found) == ["Paris", "ian"]


def test_given_tokens_are_kept(tmp_path: Path) -> None:
    tokens = [{"start": 0, "end": 8}, {"start": 8, "end": 9}]
    record = {"text": "New York!", "entities": [span(0, 8)], "tokens": tokens}
    (found,) = read(tmp_path, record)
    assert token_texts(found) == ["New York", "!"]


def test_white_space_at_an_entity_edge_is_trimmed_and_counted(tmp_path: Path) -> None:
    log = ImportLog()
    (found,) = read(tmp_path, {"text": "In Paris now", "entities": [span(2, 9)], "meta": 1}, log=log)
    assert mentions(found) == [("Paris", "LOC")]
    assert log.notes == {"white space trimmed from the edge of an entity": 1, "field 'meta' ignored": 1}


def test_empty_texts_are_counted(tmp_path: Path) -> None:
    log = ImportLog()
    assert read(tmp_path, {"text": " \n", "entities": []}, log=log) == []
    assert log.empty == 1


BROKEN = [
    ("{", "broken line", "not JSON"),
    ("[" * 100_000, "broken line", "not JSON"),
    ([1], "bad record", "expected an object"),
    ({"entities": []}, "bad record", "field text must be a string"),
    ({"text": "Bonn"}, "bad record", "field entities must be a list"),
    ({"text": "Bonn", "entities": {"start": 0}}, "bad record", "field entities must be a list"),
    ({"text": "Bonn", "entities": ["x"]}, "bad record", "must have start, end and label"),
    ({"text": "Bonn", "entities": [span("0", 4)]}, "bad record", "must be integers"),
    ({"text": "Bonn", "entities": [span(False, 4)]}, "bad record", "must be integers"),
    ({"text": "Bonn", "entities": [span(0, 5)]}, "bad span", "the text has 4 code points"),
    ({"text": "Bonn", "entities": [span(-1, 3)]}, "bad span", "out of range"),
    ({"text": "Bonn", "entities": [span(2, 2)]}, "bad span", "out of range"),
    ({"text": "A  B", "entities": [span(1, 3)]}, "bad span", "covers no visible character"),
    ({"text": "", "entities": [span(0, 1)]}, "bad span", "out of range"),
    ({"text": "Bonn am Rhein", "entities": [span(0, 7), span(5, 13)]}, "bad span", "overlap"),
    ({"text": "Bonn am Rhein", "entities": [span(0, 4), span(0, 13)]}, "bad span", "overlap"),
    ({"text": "Bonn", "entities": [span(0, 4, "")]}, "bad label", "''"),
    ({"text": "Bonn", "entities": [span(0, 4, "A B")]}, "bad label", "'A B'"),
    ({"text": "Bonn", "entities": [span(0, 4, None)]}, "bad label", "None"),
    ({"text": "Bonn", "entities": [span(0, 4, "a\u200b")]}, "bad label", "cannot be seen"),
    ({"text": "Bonn", "entities": [], "language": "de"}, "bad record", "language 'de'"),
    ({"text": "Bonn", "entities": [], "language": 7}, "bad record", "language 7"),
    ({"text": "Bonn", "entities": [], "split": "validation"}, "bad record", "'validation'"),
    ({"text": "Bonn", "entities": [], "tokens": "Bonn"}, "bad record", "must be a list of ranges"),
    ({"text": "Bonn", "entities": [], "tokens": ["Bonn"]}, "bad record", "must have start and end"),
    ({"text": "Bonn", "entities": [], "tokens": [span(0, 3), span(2, 4)]}, "bad span", "overlaps"),
    ({"text": "Bonn", "entities": [span(0, 2)], "tokens": [span(0, 4)]}, "bad span", "where tokens do"),
    ('{"text": "\\ud83d", "entities": []}', "wrong encoding", "surrogate"),
]


@pytest.mark.parametrize(("record", "kind", "message"), BROKEN)
def test_what_is_broken_is_named_or_listed(tmp_path: Path, record: Any, kind: str, message: str) -> None:
    good = {"text": "Oslo", "entities": [span(0, 4)]}
    with pytest.raises(CorpusFormatError) as error:
        read(tmp_path, good, record)
    assert str(error.value).startswith(f"{tmp_path / 'corpus.jsonl'}:2: {kind}: ") and message in str(
        error.value
    )
    log = ImportLog(skip_bad=True)
    assert [row.text for row in read(tmp_path, good, record, good, log=log)] == ["Oslo", "Oslo"]
    assert [(problem.line, problem.kind) for problem in log.problems] == [(2, kind)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8"), min_size=1), st.integers(0, 20), st.integers(1, 20))
def test_any_text_gives_right_offsets(tmp_path: Path, text: str, start: int, length: int) -> None:
    end = start + length
    expected = text[start:end].strip()
    if end > len(text) or not expected:
        return
    (found,) = read(tmp_path, {"text": text, "entities": [span(start, end)]})
    assert found.text == text and mentions(found) == [(expected, "LOC")]
    starts, ends = {t.start_char for t in found.tokens}, {t.end_char for t in found.tokens}
    assert found.entities[0].start_char in starts and found.entities[0].end_char in ends
