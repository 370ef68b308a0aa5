"""Tags the rows of one fragment; a row that cannot be tagged has an error and harms no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from retrieveall.errors import (
    ConfigError,
    EngineClosed,
    IncompatibleArtefactError,
    InputError,
    NotFoundError,
    Overloaded,
    RetrieveAllError,
)
from retrieveall.offline.reading import InputRows
from retrieveall.tagger import ServedAdapter, TextInput, plan_documents
from retrieveall.types import TaggedText

_PROBE = "A"
_JOB_ERRORS = (ConfigError, EngineClosed, IncompatibleArtefactError, NotFoundError, Overloaded)


class RowTagger(Protocol):
    """What is needed of a `retrieveall.tagger.Tagger`."""

    release: int
    adapters: dict[str, ServedAdapter]

    def tag(self, inputs: Sequence[str | TextInput]) -> list[TaggedText]:
        """Tags texts together, answers in their order."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggedRow:
    """The answer for one row: either `tagged`, or `error`."""

    tagged: TaggedText | None
    error: str | None = None


def tag_rows(tagger: RowTagger, rows: InputRows) -> list[TaggedRow]:
    """Tags N rows together, answers in their order.

    Rows with a problem are not shown to the tagger. Where the tagger fails, halves of the rows are tried
    until the one to blame is alone; it is to blame only if the tagger still tags a harmless text.

    Raises:
        RetrieveAllError: The tagger fails for every text; no row is to blame.
    """
    answers: dict[int, TaggedRow] = {}
    inputs: list[tuple[int, TextInput]] = []
    for place, (text, language, problem) in enumerate(
        zip(rows.texts, rows.languages, rows.problems, strict=True)
    ):
        document = TextInput(text=text or "", language=language)
        refusal = problem or _refusal(tagger, document)
        if refusal:
            answers[place] = TaggedRow(tagged=None, error=refusal)
        else:
            inputs.append((place, document))
    _tag_halves(tagger, inputs, answers)
    return [answers[place] for place in range(len(rows.texts))]


def _refusal(tagger: RowTagger, document: TextInput) -> str | None:
    try:
        plan_documents([document], tagger.adapters, split=False)
    except InputError as error:
        return str(error)
    return None


def _tag_halves(
    tagger: RowTagger, inputs: list[tuple[int, TextInput]], answers: dict[int, TaggedRow]
) -> None:
    if not inputs:
        return
    try:
        tagged = tagger.tag([document for _, document in inputs])
    except _JOB_ERRORS:
        raise
    except Exception as error:
        if len(inputs) == 1:
            _check_works(tagger, error)
            answers[inputs[0][0]] = TaggedRow(tagged=None, error=f"{type(error).__name__}: {error}")
            return
        middle = len(inputs) // 2
        _tag_halves(tagger, inputs[:middle], answers)
        _tag_halves(tagger, inputs[middle:], answers)
    else:
        for (place, _), answer in zip(inputs, tagged, strict=True):
            answers[place] = TaggedRow(tagged=answer)


def _check_works(tagger: RowTagger, error: Exception) -> None:
    """Raises where the tagger fails for a harmless text of some language too."""
    try:
        tagger.tag([TextInput(text=_PROBE, language=language) for language in sorted(tagger.adapters)])
    except Exception as worse:
        raise RetrieveAllError(
            f"The tagger does not work any more: it failed with {type(error).__name__}: {error}, and then for"
            f" the text {_PROBE!r} with {type(worse).__name__}: {worse}. Mend the cause and start the job"
            " again: it goes on where it stopped."
        ) from error
