"""The report of an experiment: means over seeds with intervals over sentences, and paired tests.

An interval is of the mean over an arm's seeds, sentences resampled, the seeds held; the spread over seeds
stands beside it. Claims about examples or routing are made on the view ``unseen``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieveall.errors import NotFoundError
from retrieveall.evaluation.bootstrap import bootstrap_mean_macro
from retrieveall.evaluation.comparison import Comparison, compare_runs
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.views import View
from retrieveall.experiments.arms import ArmManifest, PlannedArm
from retrieveall.experiments.plan import Plan
from retrieveall.frozen import to_dict
from retrieveall.workspace import Workspace

SHOWN_VIEWS: tuple[View, ...] = ("strict", "unseen", "unseen_names")


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanScore:
    """A mean over seeds.

    Attributes:
        f1: The mean.
        low: Lower bound of its 95 % interval over sentences.
        high: Upper bound.
        sd: Standard deviation over seeds; None with a single one.
    """

    f1: float
    low: float
    high: float
    sd: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmSummary:
    """One arm over its seeds.

    Attributes:
        seeds: Those that are finished.
        macro: Mean over the languages, by view; a view that a language lacks has none.
        languages: By language and view.
        tokens: Training tokens of all its adapters together, mean over seeds; None where not counted.
        sentences_per_s: Mean over seeds.
        routing: Mean accuracy of the router over languages and seeds; None for the oracle.
    """

    name: str
    seeds: tuple[int, ...]
    macro: Mapping[View, MeanScore]
    languages: Mapping[str, Mapping[View, MeanScore]]
    tokens: float | None
    sentences_per_s: float | None
    routing: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentReport:
    """What a plan found so far.

    Attributes:
        missing: Arms and seeds that are not finished, such as ``both (seed 2)``.
    """

    plan: Plan
    synthetic: bool
    arms: tuple[ArmSummary, ...]
    comparisons: tuple[Comparison, ...]
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return to_dict(self)


def summarise(workspace: Workspace, plan: Plan, planned: Sequence[PlannedArm]) -> ExperimentReport:
    """Reads the finished arms of a plan and sums them up.

    Raises:
        NotFoundError: None is finished.
    """
    finished = [one for one in planned if one.is_finished(workspace)]
    if not finished:
        raise NotFoundError(f"No arm of plan {plan.name!r} is finished. Run: `retrieveall experiment run`.")
    kept: dict[str, list[tuple[ArmManifest, EvalReport]]] = {}
    for one in finished:
        kept.setdefault(one.title, []).append(one.kept(workspace))
    reports = {name: [report for _, report in runs] for name, runs in kept.items()}
    names = [name for name in plan.arms if name in kept]
    return ExperimentReport(
        plan=plan,
        synthetic=any(report.synthetic for runs in reports.values() for report in runs),
        arms=tuple(_arm(name, kept[name]) for name in names),
        comparisons=tuple(
            compare_runs(reports[a], reports[b], view=view)
            for a, b in plan.comparisons
            if a in reports and b in reports
            for view in SHOWN_VIEWS
            if all(view in report.macro for report in (*reports[a], *reports[b]))
        ),
        missing=tuple(f"{one.title} (seed {one.seed})" for one in planned if one not in finished),
    )


def _arm(name: str, runs: Sequence[tuple[ArmManifest, EvalReport]]) -> ArmSummary:
    reports = [report for _, report in runs]
    codes = [one.language for one in reports[0].languages]
    routed = [one.routing.accuracy for report in reports for one in report.languages if one.routing]
    return ArmSummary(
        name=name,
        seeds=tuple(manifest.seed for manifest, _ in runs),
        macro=_by_view(reports, codes),
        languages={code: _by_view(reports, [code]) for code in codes},
        tokens=_mean([manifest.tokens for manifest, _ in runs]),
        sentences_per_s=_mean([report.sentences_per_s for report in reports]),
        routing=_mean(routed) if routed else None,
    )


def _by_view(reports: Sequence[EvalReport], codes: Sequence[str]) -> dict[View, MeanScore]:
    """Mean over seeds of the macro F1 over some languages."""
    by_language = [{one.language: one for one in report.languages} for report in reports]
    found: dict[View, MeanScore] = {}
    for view in SHOWN_VIEWS:
        if not all(view in run[code].scores for run in by_language for code in codes):
            continue
        f1 = [float(np.mean([run[code].scores[view].f1 for code in codes])) for run in by_language]
        counts = [[run[code].counts_of(view) for code in codes] for run in by_language]
        interval = bootstrap_mean_macro(counts)
        found[view] = MeanScore(
            f1=float(np.mean(f1)),
            low=interval.low,
            high=interval.high,
            sd=float(np.std(f1, ddof=1)) if len(f1) > 1 else None,
        )
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
