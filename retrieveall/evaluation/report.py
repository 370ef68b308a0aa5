"""The evaluation report: the object that ``eval --json`` prints and ``report.json`` keeps.

``to_dict()`` is the printed contract; ``to_dict(full=True)`` adds what a page, a plot or a later
comparison needs (the worst mistakes, counts per sentence). All scores are fractions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pydantic

from retrieveall.errors import IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.evaluation.bootstrap import RESAMPLES, bootstrap_macro
from retrieveall.evaluation.language import CountRows, LanguageReport
from retrieveall.evaluation.views import VIEWS, View

FORMAT_VERSION = 1
AUDIT_ABOVE_F1 = 0.90  # a higher score on a public corpus is a reason to look for leakage
SYNTHETIC_NOTE = "synthetic corpus: these scores say that the machinery works, not how good the product is"

_FULL_ONLY = ("worst", "counts", "sentences_digest")
_VIEW_KEYS: Mapping[str, View] = {
    "f1_unseen": "unseen",
    "f1_unseen_names": "unseen_names",
    "f1_detokenised": "detokenised",
    "set_f1": "set_metric",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MacroScore:
    """Mean of the languages' F1.

    Attributes:
        f1: A fraction.
        low: Lower bound of the 95 % interval, every language's sentences resampled on their own.
        high: Upper bound.
    """

    f1: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalReport:
    """What one evaluation run found.

    Attributes:
        name: What a plot calls this run, such as ``examples on``.
        languages: One report per language, in the order to be shown.
        macro: Macro average per view; a view that some language lacks has none, because means over
            different sets of languages do not compare.
        sentences_per_s: Speed of tagging; None when it was not measured.
        release: Number of the pinned release; None when adapters outside any release were run.
        synthetic: True marks every place where these scores are shown.
        settings: The run's configuration, as JSON values.
    """

    name: str
    languages: tuple[LanguageReport, ...]
    macro: Mapping[View, MacroScore]
    sentences_per_s: float | None = None
    release: int | None = None
    synthetic: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        languages: Sequence[LanguageReport],
        *,
        name: str = "RetrieveAll",
        sentences_per_s: float | None = None,
        release: int | None = None,
        synthetic: bool = False,
        settings: Mapping[str, Any] | None = None,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> Self:
        """Joins language reports and computes the macro average with its interval.

        Raises:
            InputError: No language was given, or one twice.
        """
        names = [one.language for one in languages]
        if not names or len(set(names)) != len(names):
            raise InputError(f"A report needs one or more languages, each once; got {names}.")
        views = [view for view in VIEWS if all(view in one.scores for one in languages)]
        return cls(
            name=name,
            languages=tuple(languages),
            macro={view: _macro(languages, view, resamples, seed) for view in views},
            sentences_per_s=sentences_per_s,
            release=release,
            synthetic=synthetic,
            settings=dict(settings or {}),
        )

    @property
    def macro_f1(self) -> float:
        """Mean of the languages' strict F1."""
        return self.macro["strict"].f1

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that must stand beside the scores wherever they are shown."""
        notes = [SYNTHETIC_NOTE] if self.synthetic else []
        if self.macro_f1 > AUDIT_ABOVE_F1 and not self.synthetic:
            notes.append(
                "macro F1 is above 0.90: audit the data for leakage and the scorer before quoting it"
            )
        return tuple(notes)

    def to_dict(self, *, full: bool = False) -> dict[str, Any]:
        """Returns the JSON object of ``eval --json``.

        Args:
            full: Also what ``report.json`` keeps for pages and comparisons.
        """
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "synthetic": self.synthetic,
            "macro_f1": self.macro_f1,
            "macro": {view: asdict(score) for view, score in self.macro.items()},
            "languages": {one.language: _language_to_dict(one, full=full) for one in self.languages},
            "sentences_per_s": self.sentences_per_s,
            "release": self.release,
            "settings": dict(self.settings),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Reads what ``to_dict(full=True)`` wrote.

        Raises:
            IncompatibleArtefactError: The report has another format version.
            InputError: A key is missing or has the wrong type.
        """
        version = saved.get("format_version")
        if version != FORMAT_VERSION:
            raise IncompatibleArtefactError(
                f"The report has format version {version}, this code reads {FORMAT_VERSION}; "
                "evaluate again, or read it with the version of RetrieveAll that wrote it."
            )
        try:
            return cls(
                languages=tuple(_language_from_dict(*item) for item in saved["languages"].items()),
                macro={view: MacroScore(**score) for view, score in saved["macro"].items()},
                **{key: saved[key] for key in _PLAIN},
            )
        except (KeyError, AttributeError, TypeError, pydantic.ValidationError) as error:
            raise InputError(
                f"The report cannot be read ({type(error).__name__}: {error}); it must be the "
                "object of to_dict(full=True), as report.json holds it."
            ) from error


_PLAIN = ("name", "sentences_per_s", "release", "synthetic", "settings")


def write_report(report: EvalReport, path: Path) -> None:
    """Writes ``report.json``; folders are made, an older file is replaced whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    # ASCII, because the sentences of the mistakes may hold lone surrogates, which UTF-8 cannot.
    fresh.write_text(json.dumps(report.to_dict(full=True), indent=1), encoding="ascii")
    fresh.replace(path)


def read_report(path: Path) -> EvalReport:
    """Reads a ``report.json``.

    Raises:
        NotFoundError: There is no such file.
        IncompatibleArtefactError: It has another format version.
        InputError: It is not a report.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no report at {path}; write one with `retrieveall eval`.") from error
    except ValueError as error:
        raise InputError(
            f"{path} is not JSON ({error}); give a report.json of `retrieveall eval`."
        ) from error
    if not isinstance(saved, dict):
        raise InputError(f"{path} holds a JSON {type(saved).__name__}; a report is an object.")
    return EvalReport.from_dict(saved)


def _macro(languages: Sequence[LanguageReport], view: View, resamples: int, seed: int) -> MacroScore:
    counts = [one.counts_of(view) for one in languages]
    interval = bootstrap_macro(counts, resamples=resamples, seed=seed)
    f1 = float(np.mean([one.scores[view].f1 for one in languages]))
    return MacroScore(f1=f1, low=interval.low, high=interval.high)


def _language_to_dict(one: LanguageReport, *, full: bool) -> dict[str, Any]:
    saved = {
        **asdict(one.strict),
        **{key: one.scores[view].f1 if view in one.scores else None for key, view in _VIEW_KEYS.items()},
        "seen_share": one.seen_share,
        "routing_accuracy": one.routing.accuracy if one.routing else None,
        **asdict(one),
        "counts": {view: _pack(rows) for view, rows in one.counts.items()},
    }
    left_out = ("language",) if full else ("language", *_FULL_ONLY)
    return {key: value for key, value in saved.items() if key not in left_out}


def _language_from_dict(language: str, saved: Mapping[str, Any]) -> LanguageReport:
    counts = {view: _unpack(packed) for view, packed in saved["counts"].items()}
    return _LANGUAGE.validate_python({**saved, "language": language, "counts": counts})


def _pack(rows: CountRows) -> str:
    """Counts as ``1,0,0 0,2,1``: thousands of sentences on one line of JSON."""
    return " ".join(f"{tp},{fp},{fn}" for tp, fp, fn in rows)


def _unpack(packed: str) -> list[list[str]]:
    return [row.split(",") for row in packed.split()]


_LANGUAGE = pydantic.TypeAdapter(LanguageReport)
