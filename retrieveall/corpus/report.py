"""What an import found: counted, listed, and either raised at once or collected.

Readers tell everything to one ``ImportLog``. With ``skip_bad=False`` the first problem is raised
as ``CorpusFormatError``; with ``skip_bad=True`` the sentence is left out and the problem is
listed. Harmless changes (a repaired tag, trimmed white space) and things left aside (comments,
empty sentences, types outside the label map) are counted either way: nothing goes silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from retrieveall.errors import CorpusFormatError
from retrieveall.types import Split

ProblemKind = Literal[
    "broken line", "bad tag", "bad record", "bad span", "bad label", "wrong encoding", "duplicate id"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that kept a sentence out of the corpus.

    Attributes:
        source: File (or data set and split) it stands in.
        line: Line of the file, counted from 1; row for Parquet and Hugging Face data sets.
    """

    source: str
    line: int
    kind: ProblemKind
    message: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.kind}: {self.message}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """What became of the source files.

    Attributes:
        sentences: Split to number of sentences imported.
        entities: Label to number of entities imported, over all splits.
        unmapped: Source type to number of mentions that the label map leaves out.
        empty: Sentences without any visible character, not imported.
        problems: One for each sentence that ``skip_bad`` left out.
        notes: Repairs and things left aside, with how often.
        unchanged: True when the store already held exactly this corpus.
    """

    name: str
    language: str
    digest: str
    sentences: Mapping[Split, int]
    entities: Mapping[str, int]
    unmapped: Mapping[str, int]
    empty: int
    problems: tuple[Problem, ...]
    notes: Mapping[str, int]
    unchanged: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain JSON types; ``skipped`` is the number of problems."""
        return {**asdict(self), "skipped": len(self.problems), "problems": [str(p) for p in self.problems]}


@dataclass(kw_only=True, slots=True)
class ImportLog:
    """Collects while readers run; the one mutable object of an import.

    Args:
        skip_bad: List problems instead of raising the first one.
    """

    skip_bad: bool = False
    empty: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    unmapped: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)

    def problem(self, kind: ProblemKind, source: str, line: int, message: str) -> None:
        """Lists a problem; the caller leaves the sentence out.

        Raises:
            CorpusFormatError: ``skip_bad`` is off.
        """
        found = Problem(source=source, line=line, kind=kind, message=message)
        if not self.skip_bad:
            raise CorpusFormatError(f"{found} Mend it, or skip what is broken: --skip-bad.")
        self.problems.append(found)

    def claim_id(self, id: str, source: str, line: int) -> bool:
        """Returns whether no sentence before had this id; one that had it is a problem.

        Raises:
            CorpusFormatError: The id stands there twice and ``skip_bad`` is off.
        """
        if id in self.ids:
            self.problem("duplicate id", source, line, f"{id!r} stands there twice; ids must be unique.")
            return False
        self.ids.add(id)
        return True

    def note(self, what: str, count: int = 1) -> None:
        """Counts a repair or something left aside."""
        if count:
            self.notes[what] += count
