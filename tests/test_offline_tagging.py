"""A row that cannot be tagged has an error and harms no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieveall.errors import EngineClosed, RetrieveAllError
from retrieveall.offline.options import TagOptions
from retrieveall.offline.reading import InputRows
from retrieveall.offline.tagging import tag_rows
from tests.offline import WordTagger, read_all, write


def rows_of(folder: Path, *texts: str, language: str | None = None) -> InputRows:
    inputs = write(folder, a_txt="".join(f"{text}\n" for text in texts))
    (rows,) = read_all(inputs, TagOptions(language=language))
    return rows


def test_all_rows_go_to_the_tagger_at_once(tmp_path: Path) -> None:
    tagger = WordTagger()
    answers = tag_rows(tagger, rows_of(tmp_path, "Anna met Bob.", "", "Мария спит."))

    assert tagger.calls == [["Anna met Bob.", "", "Мария спит."]]
    assert [len(row.tagged.entities) if row.tagged else None for row in answers] == [2, 0, 1]
    assert [row.error for row in answers] == [None] * 3


def test_the_row_that_makes_the_tagger_fail_is_found(tmp_path: Path) -> None:
    texts = [f"Row {number}" for number in range(9)]
    texts[5] = "a POISON row"
    answers = tag_rows(WordTagger(poison="POISON"), rows_of(tmp_path, *texts))

    assert [row.error for row in answers if row.error] == ["RuntimeError: the engine choked"]
    assert answers[5].error and answers[5].tagged is None
    assert all(row.tagged for place, row in enumerate(answers) if place != 5)


def test_rows_with_a_problem_are_not_shown_to_the_tagger(tmp_path: Path) -> None:
    tagger = WordTagger()
    (rows,) = read_all(write(tmp_path, a_txt=b"Anna\n\xff\nBob\n"))
    answers = tag_rows(tagger, rows)

    assert tagger.calls == [["Anna", "Bob"]]
    assert "UTF-8" in str(answers[1].error)


def test_an_unknown_language_is_the_rows_own_error(tmp_path: Path) -> None:
    inputs = write(tmp_path, a_jsonl='{"text": "A", "lang": "xx"}\n{"text": "B", "lang": "ru"}\n')
    (rows,) = read_all(inputs, TagOptions(language_column="lang"))
    tagger = WordTagger()
    answers = tag_rows(tagger, rows)

    assert "adapters for: en, ru" in str(answers[0].error)
    assert answers[1].tagged is not None and tagger.calls == [["B"]]


def test_a_tagger_that_works_for_nothing_ends_the_job(tmp_path: Path) -> None:
    with pytest.raises(RetrieveAllError, match=r"does not work any more.*start the job again"):
        tag_rows(WordTagger(broken=True), rows_of(tmp_path, "Anna", "Bob"))


def test_a_closed_engine_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(self: WordTagger, inputs: object) -> None:
        raise EngineClosed("The engine was closed.")

    monkeypatch.setattr(WordTagger, "tag", closed)
    with pytest.raises(EngineClosed):
        tag_rows(WordTagger(), rows_of(tmp_path, "Anna"))
