"""spaCy's DocBin: tokens, entities and sentence starts of every tagged row, for ``spacy train``.

A DocBin is one piece, so all rows of an input file are in memory until it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO

from retrieveall.errors import MissingDependencyError
from retrieveall.offline.exports.rows import ExportRow
from retrieveall.text.units import cut_units, split_units


def check_spacy() -> None:
    """Raises where spaCy is not installed.

    Raises:
        MissingDependencyError: It is not.
    """
    try:
        import spacy.tokens  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "The export spacy needs spaCy, which is not installed: `pip install spacy`."
        ) from error


def write_docbin(rows: Iterable[ExportRow], stream: BinaryIO) -> None:
    """Writes one Doc per tagged row; ``doc.user_data`` names its file and row.

    Raises:
        MissingDependencyError: spaCy is not installed.
    """
    check_spacy()
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    vocab = Vocab()
    docs = DocBin(attrs=["ENT_IOB", "ENT_TYPE", "SENT_START", "SPACY"], store_user_data=True)
    for row in rows:
        if row.is_tagged:
            docs.add(_doc(row, vocab))
    stream.write(docs.to_bytes())


def _doc(row: ExportRow, vocab: Any) -> Any:
    from spacy.tokens import Doc

    words, spaces = _words(row)
    doc: Any = Doc(vocab, words=words, spaces=spaces)
    starts = {sentence["start_char"] for sentence in row.sentences}
    for token in doc:
        token.is_sent_start = token.idx in starts
    doc.ents = [doc.char_span(e["start_char"], e["end_char"], label=e["label"]) for e in row.entities]
    doc.user_data.update(file=row.columns["file"], row=row.columns["row"])
    return doc


def _words(row: ExportRow) -> tuple[list[str], list[bool]]:
    """Returns spaCy's tokens and whether a space follows each: together the text, to the character."""
    text, words, spaces = row.text, list[str](), list[bool]()
    tokens = cut_units(split_units(text), row.edges)
    at = 0
    for start, end in [*((token.start_char, token.end_char) for token in tokens), (len(text), len(text))]:
        gap = text[at:start]
        if words and gap.startswith(" "):
            spaces[-1] = True
            gap = gap[1:]
        for piece in filter(None, (gap, text[start:end])):
            words.append(piece)
            spaces.append(False)
        at = end
    return words, spaces
