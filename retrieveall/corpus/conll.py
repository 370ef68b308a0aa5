"""CoNLL files: one token a line with its tag, a blank line between sentences, UTF-8.

Two or more columns, parted by one tab, or by spaces where a line has no tab. The token stands in
the first column, the tag in the last (both can be told). ``-DOCSTART-`` lines are left aside, and
so are comments: lines that begin with ``#`` and do not end in a tag (``#<TAB>O`` is a token, and
``#<TAB>X`` a token with a bad tag).
WikiANN's original ``nl:`` before every token is taken off. Everything left aside is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from retrieveall.corpus.lines import read_lines
from retrieveall.corpus.report import ImportLog
from retrieveall.corpus.tagged import TaggedTokens, TagReading, tagged_sentences
from retrieveall.corpus.tags import is_tag
from retrieveall.languages import check_language
from retrieveall.types import Sentence, Split

_SPACES = re.compile(r"[ \t]+")  # str.split() would also part at a no-break space inside a token
_DOCUMENT_MARK = "-DOCSTART-"


@dataclass(frozen=True, kw_only=True, slots=True)
class ConllFormat:
    """Where a CoNLL file keeps what.

    Attributes:
        token_column: Column of the token, from 0; negative counts from the end.
        tag_column: Column of the tag, likewise.
        reading: How the tags are read.
    """

    token_column: int = 0
    tag_column: int = -1
    reading: TagReading = field(default_factory=TagReading)


def read_conll(
    path: Path | str,
    *,
    language: str,
    split: Split,
    format: ConllFormat | None = None,
    log: ImportLog | None = None,
) -> Iterator[Sentence]:
    """Yields the sentences of one file.

    Args:
        path: A local file.
        language: BCP-47 code of all its sentences.
        split: Where they belong.
        format: Columns and scheme; the defaults fit most files.
        log: Collects what was found; None raises at the first problem.

    Raises:
        CorpusFormatError: A line, tag or byte is broken; the message names file and line.
        InputError: The language is no code.
    """
    log = log if log is not None else ImportLog()
    format = format or ConllFormat()
    language = check_language(language)
    rows = list(_blocks(Path(path), format, log))
    rows = _without_language_prefix(rows, language, log)
    yield from tagged_sentences(
        rows, source=str(path), language=language, split=split, reading=format.reading, log=log
    )


@dataclass(slots=True)
class _Block:
    """The sentence that is being read."""

    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    broken: bool = False

    def add(self, token: str, tag: str, line: int) -> None:
        self.tokens.append(token)
        self.tags.append(tag)
        self.lines.append(line)

    def usable(self) -> bool:
        return bool(self.tokens) and not self.broken


def _blocks(path: Path, format: ConllFormat, log: ImportLog) -> Iterator[TaggedTokens]:
    block = _Block()
    for number, line in read_lines(path, log):
        if line is None:
            block.broken = True
        elif not line.strip():
            if block.usable():
                yield TaggedTokens(tokens=block.tokens, tags=block.tags, lines=block.lines)
            block = _Block()
        elif not block.broken:
            _read_line(line, number, block, path, format, log)
    if block.usable():
        yield TaggedTokens(tokens=block.tokens, tags=block.tags, lines=block.lines)


def _read_line(
    line: str, number: int, block: _Block, path: Path, format: ConllFormat, log: ImportLog
) -> None:
    columns = line.split("\t") if "\t" in line else _SPACES.split(line.strip(" "))
    if line.startswith(_DOCUMENT_MARK):
        log.note("document marks (-DOCSTART-) left aside")
    elif line.startswith("#") and not line.startswith("#\t") and not is_tag(columns[-1]):
        log.note("comment lines left aside")
    else:
        wrong = _broken(columns, format)
        if wrong:
            block.broken = True
            log.problem("broken line", str(path), number, wrong)
        else:
            block.add(columns[format.token_column], columns[format.tag_column].strip(), number)


def _broken(columns: list[str], format: ConllFormat) -> str | None:
    if len(columns) < 2:
        return f"expected a token and a tag, found only {columns[0][:60]!r}."
    wanted = max(format.token_column, format.tag_column, -1 - format.token_column, -1 - format.tag_column)
    if len(columns) <= wanted:
        return f"expected at least {wanted + 1} columns, found {len(columns)}."
    if not columns[format.token_column]:
        return "the token is empty."
    return None


def _without_language_prefix(rows: list[TaggedTokens], language: str, log: ImportLog) -> list[TaggedTokens]:
    prefix = f"{language}:"
    if not rows or not all(token.startswith(prefix) for row in rows for token in row.tokens):
        return rows
    log.note(f"tokens without their WikiANN prefix {prefix!r}", sum(len(row.tokens) for row in rows))
    return [
        TaggedTokens(tokens=[token[len(prefix) :] for token in row.tokens], tags=row.tags, lines=row.lines)
        for row in rows
    ]
