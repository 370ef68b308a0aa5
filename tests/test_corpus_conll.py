"""CoNLL files in all their variants, and an error with file and line for all that is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieveall.corpus.conll import ConllFormat, read_conll
from retrieveall.corpus.report import ImportLog
from retrieveall.corpus.tagged import TagReading
from retrieveall.corpus.tags import TokenRun
from retrieveall.errors import CorpusFormatError, InputError
from retrieveall.types import Sentence
from tests.corpora import conll, mentions, tagged_tokens, tags_of, token_texts


def read(folder: Path, content: str | bytes, *, language: str = "en", **options: object) -> list[Sentence]:
    path = folder / "corpus.conll"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    format = options.pop("format", None)
    log = options.pop("log", None)
    assert not options and (format is None or isinstance(format, ConllFormat))
    assert log is None or isinstance(log, ImportLog)
    return list(read_conll(path, language=language, split="train", format=format, log=log))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(tagged_tokens(), min_size=1, max_size=4),
    st.sampled_from(["iob1", "iob2", "bioes", "bilou"]),
    st.sampled_from(["\t", " ", "\tX\t", " _ _ "]),
)
def test_sentences_round_trip(
    tmp_path: Path, rows: list[tuple[list[str], list[TokenRun]]], scheme: str, separator: str
) -> None:
    found = read(tmp_path, conll([(t, tags_of(runs, len(t), scheme)) for t, runs in rows], separator))
    assert [token_texts(sentence) for sentence in found] == [tokens for tokens, _ in rows]
    for sentence, (_, runs) in zip(found, rows, strict=True):
        edges = [
            (sentence.tokens[run.first].start_char, sentence.tokens[run.end - 1].end_char) for run in runs
        ]
        assert [(e.start_char, e.end_char) for e in sentence.entities] == edges
        assert [e.label for e in sentence.entities] == [run.label for run in runs]


def test_comments_and_document_marks_are_left_aside_and_counted(tmp_path: Path) -> None:
    log = ImportLog()
    content = "-DOCSTART- -X- O\n\n# id 1\tdomain=news\n# text = Amsterdam\n\nAmsterdam B-LOC\n# O\n#\tO\n"
    found = read(tmp_path, content, log=log)
    assert [token_texts(sentence) for sentence in found] == [["Amsterdam", "#", "#"]]
    assert log.notes == {"comment lines left aside": 2, "document marks (-DOCSTART-) left aside": 1}


def test_byte_order_mark_carriage_returns_and_odd_line_breaks(tmp_path: Path) -> None:
    found = read(tmp_path, "\ufeffA\u2028b\u0085c\tB-LOC\r\n\r\n\r\nNew York\tB-LOC\r\n".encode())
    assert [mentions(sentence) for sentence in found] == [[("A\u2028b\u0085c", "LOC")], [("New York", "LOC")]]


def test_columns_can_be_told(tmp_path: Path) -> None:
    format = ConllFormat(token_column=1, tag_column=2)
    found = read(tmp_path, "# text = Bonn\n1\tBonn\tB-LOC\t-\t-\n", format=format)
    assert mentions(found[0]) == [("Bonn", "LOC")]


def test_wikiann_prefixes_are_taken_off(tmp_path: Path) -> None:
    log = ImportLog()
    assert token_texts(read(tmp_path, "en:Paris\tB-LOC\nen::\tO\n", log=log)[0]) == ["Paris", ":"]
    assert log.notes.total() == 2
    assert token_texts(read(tmp_path, "en:Paris\tB-LOC\nBonn\tO\n")[0]) == ["en:Paris", "Bonn"]


def test_a_character_corpus_is_joined_without_spaces(tmp_path: Path) -> None:
    tokens = list("부산에서 만난 BTS 멤버".replace(" ", ""))
    found = read(tmp_path, conll([(tokens, ["B-LOC", "I-LOC", *["O"] * (len(tokens) - 2)])]), language="ko")
    assert found[0].text == "부산에서만난BTS멤버" and mentions(found[0]) == [("부산", "LOC")]


def test_white_space_tokens_inside_an_entity(tmp_path: Path) -> None:
    found = read(tmp_path, "ไทย\tB-LOC\n \tI-LOC\nลาว\tI-LOC\n", language="th")
    assert mentions(found[0]) == [("ไทย ลาว", "LOC")] and len(found[0].tokens) == 2


BROKEN = [
    ("Paris\tB-LOC\n\nBonn\n", 3, "broken line", "only 'Bonn'"),
    ("\tB-LOC\n", 1, "broken line", "the token is empty"),
    ("Paris\tB-LOC\nBonn\tI-PER\n", 2, "bad tag", "no B-PER has begun"),
    ("# note\n\nParis\tO\nBonn\tLOC\n", 4, "bad tag", "'LOC' is no tag"),
    ("#\tX\nParis\tB-LOC\n", 1, "bad tag", "'X'"),
    ("Paris\tB-L C\nx\tO\n", 1, "bad label", "'L C'"),
    ("Paris\tB-<LOC>\nx\tO\n", 1, "bad label", "'<LOC>'"),
    (" \tB-LOC\nx\tO\n", 1, "bad span", "no visible character"),
    (b"Paris\tO\nK\xf6ln\tB-LOC\n", 2, "wrong encoding", "byte 2 of the line, 0xf6"),
]


@pytest.mark.parametrize(("content", "line", "kind", "message"), BROKEN)
def test_what_is_broken_is_named_with_file_and_line(
    tmp_path: Path, content: str | bytes, line: int, kind: str, message: str
) -> None:
    with pytest.raises(CorpusFormatError) as error:
        read(tmp_path, content)
    assert str(error.value).startswith(f"{tmp_path / 'corpus.conll'}:{line}: {kind}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(("content", "line", "kind", "message"), BROKEN)
def test_what_is_broken_is_listed_when_skipped(
    tmp_path: Path, content: str | bytes, line: int, kind: str, message: str
) -> None:
    log = ImportLog(skip_bad=True)
    raw = content if isinstance(content, bytes) else content.encode()
    good = b"\nBonn\tB-LOC\n"
    found = read(tmp_path, raw + good, log=log)
    assert mentions(found[-1]) == [("Bonn", "LOC")]
    assert [(problem.line, problem.kind) for problem in log.problems] == [(line, kind)]
    assert message in log.problems[0].message


def test_a_broken_sentence_is_skipped_whole_and_listed_once(tmp_path: Path) -> None:
    log = ImportLog(skip_bad=True)
    found = read(tmp_path, "Bonn\nalso\nParis\tB-LOC\n\nOslo\tB-LOC\n", log=log)
    assert [sentence.text for sentence in found] == ["Oslo"] and len(log.problems) == 1


MIXED = "A\tS-PER\n\nB\tB-PER\nC\tE-PER\n\nD\tO\nE\tU-LOC\n"


def test_a_mix_of_bioes_and_bilou_names_the_first_line_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CorpusFormatError, match=r"corpus\.conll:7: bad tag: U-LOC is BILOU"):
        read(tmp_path, MIXED)


def test_the_sentences_of_the_rarer_scheme_are_listed_when_skipped(tmp_path: Path) -> None:
    log = ImportLog(skip_bad=True)
    assert [sentence.text for sentence in read(tmp_path, MIXED, log=log)] == ["A", "B C"]
    assert [(problem.line, problem.kind) for problem in log.problems] == [(7, "bad tag")]


def test_a_mix_is_read_when_the_scheme_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, MIXED, format=ConllFormat(reading=TagReading(scheme="bioes")))
    assert [mentions(sentence) for sentence in found] == [[("A", "PER")], [("B C", "PER")], [("E", "LOC")]]


def test_a_forbidden_tag_names_the_flag_that_reads_it(tmp_path: Path) -> None:
    with pytest.raises(CorpusFormatError, match="--repair-tags"):
        read(tmp_path, "A\tI-PER\nB\tB-PER\n\nC\tB-PER\n")


def test_utf16_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusFormatError, match="UTF-16"):
        read(tmp_path, "Paris\tO\n".encode("utf-16"))


def test_repairs_are_counted(tmp_path: Path) -> None:
    log = ImportLog()
    format = ConllFormat(reading=TagReading(repair_tags=True))
    found = read(tmp_path, "A\tB-PER\nB\tI-LOC\n", log=log, format=format)
    assert mentions(found[0]) == [("A", "PER"), ("B", "LOC")]
    assert log.notes == {"tags repaired as conlleval reads them": 1}


def test_a_sentence_without_visible_characters_is_counted(tmp_path: Path) -> None:
    log = ImportLog()
    assert read(tmp_path, "\u00a0\tO\n\nParis\tO\n", log=log)[0].text == "Paris"
    assert log.empty == 1


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CorpusFormatError, match=r"corpus\.conll:1: broken line: expected at least 4 columns"):
        read(tmp_path, "Paris\tB-LOC\n", format=ConllFormat(tag_column=3))


def test_the_language_is_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="language code"):
        read(tmp_path, "Paris\tB-LOC\n", language="../en")
