"""From tagged tokens, as CoNLL files and Hugging Face data sets hold them, to sentences.

Scheme and joining are found from all sentences of a file at once, so that one short sentence
cannot mislead them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from retrieveall.corpus.joining import JoiningChoice, is_character_tokenised, join_tokens, sentence_joining
from retrieveall.corpus.report import ImportLog
from retrieveall.corpus.spans import label_problem
from retrieveall.corpus.tags import (
    Scheme,
    SchemeChoice,
    TagError,
    TokenRun,
    check_marks,
    decode_tags,
    detect_scheme,
    stray_marks,
)
from retrieveall.types import GoldEntity, Sentence, Span, Split


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggedTokens:
    """One sentence as its source holds it.

    Attributes:
        tokens: T strings.
        tags: T tags.
        lines: T line (or row) numbers, counted from 1.
    """

    tokens: Sequence[str]
    tags: Sequence[str]
    lines: Sequence[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class TagReading:
    """How tagged tokens are read.

    Attributes:
        scheme: ``auto`` finds iob1, iob2 or bioes from the tags of the whole file.
        repair_tags: Read tags that the scheme forbids as conlleval does, and count them.
        joining: ``auto`` goes by script, and by whether all tokens are single characters.
    """

    scheme: SchemeChoice = "auto"
    repair_tags: bool = False
    joining: JoiningChoice = "auto"


def tagged_sentences(
    rows: Sequence[TaggedTokens],
    *,
    source: str,
    language: str,
    split: Split,
    reading: TagReading,
    log: ImportLog,
) -> Iterator[Sentence]:
    """Yields one sentence per row that can be used; ids are ``<split>-<number of the row>``.

    Args:
        rows: All sentences of one file.
        source: What error messages call the file.
        language: A checked code.
        split: The split of them all.
        reading: Scheme and joining.
        log: Told about what is left out or repaired.

    Raises:
        CorpusFormatError: A tag is bad, or of another scheme than most of the file, and ``log`` does
            not skip.
    """
    scheme, stray = _scheme(rows, reading.scheme)
    joining = reading.joining
    if joining == "auto" and is_character_tokenised(row.tokens for row in rows):
        joining = "characters"
    for number, row in enumerate(rows):
        runs = _runs(row, scheme, stray, reading, source, log)
        if runs is None:
            continue
        chosen = joining if joining != "auto" else sentence_joining(row.tokens, language)
        text, spans = join_tokens(row.tokens, chosen)
        log.note("tokens that are only white space", spans.count(None))
        if not text:
            log.empty += 1
            continue
        entities = _entities(runs, spans, row, source, log)
        if entities is None:
            continue
        yield Sentence(
            id=f"{split}-{number}",
            language=language,
            text=text,
            tokens=tuple(span for span in spans if span is not None),
            entities=entities,
            split=split,
        )


def _scheme(rows: Sequence[TaggedTokens], chosen: SchemeChoice) -> tuple[Scheme, frozenset[str]]:
    """Returns the scheme, and the marks that do not fit it; whoever names a scheme knows what it reads."""
    if chosen != "auto":
        return chosen, frozenset()
    return detect_scheme(row.tags for row in rows), stray_marks(row.tags for row in rows)


def _runs(
    row: TaggedTokens,
    scheme: Scheme,
    stray: frozenset[str],
    reading: TagReading,
    source: str,
    log: ImportLog,
) -> list[TokenRun] | None:
    try:
        check_marks(row.tags, stray)
        runs, repairs = decode_tags(row.tags, scheme, repair=reading.repair_tags)
    except TagError as error:
        log.problem("bad tag", source, row.lines[error.index], f"{error.message}.")
        return None
    log.note("tags repaired as conlleval reads them", repairs)
    return runs


def _entities(
    runs: list[TokenRun], spans: list[Span | None], row: TaggedTokens, source: str, log: ImportLog
) -> tuple[GoldEntity, ...] | None:
    entities = []
    for run in runs:
        inside = [span for span in spans[run.first : run.end] if span is not None]
        wrong = label_problem(run.label)
        if wrong or not inside:
            message = wrong or f"the {run.label} entity has no visible character."
            log.problem("bad label" if wrong else "bad span", source, row.lines[run.first], message)
            return None
        entities.append(
            GoldEntity(start_char=inside[0].start_char, end_char=inside[-1].end_char, label=run.label)
        )
    return tuple(entities)
