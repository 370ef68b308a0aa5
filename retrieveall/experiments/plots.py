"""Pictures of an experiment: macro F1 of the arms, and the differences of the paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from retrieveall.evaluation.plots import GRID, INK, series_style
from retrieveall.evaluation.views import VIEW_TITLES, View
from retrieveall.experiments.summary import SHOWN_VIEWS, ExperimentReport

Points = Mapping[str, tuple[float, float, float]]
"""Value and bounds of its interval by row."""


def experiment_figures(report: ExperimentReport) -> dict[str, Figure]:
    """Returns the pictures by name; ``differences`` is left out where nothing was compared."""
    figures = {"macro-f1": plot_arms(report)}
    return {**figures, "differences": plot_differences(report)} if report.comparisons else figures


def plot_arms(report: ExperimentReport) -> Figure:
    """Draws every arm's macro F1, one mark per view, with intervals."""
    rows = [arm.name for arm in report.arms]
    series: dict[View, Points] = {
        view: {
            arm.name: (score.f1, score.low, score.high)
            for arm in report.arms
            if (score := arm.macro.get(view)) is not None
        }
        for view in SHOWN_VIEWS
    }
    figure = _forest(rows, series, f"Macro F1, mean over seeds, 95 % intervals over sentences{_mark(report)}")
    figure.axes[0].set_xlim(0, 1)
    return figure


def plot_differences(report: ExperimentReport) -> Figure:
    """Draws every paired difference of macro F1 with its interval; right of the line A is better."""
    series: dict[View, dict[str, tuple[float, float, float]]] = {view: {} for view in SHOWN_VIEWS}
    for one in report.comparisons:
        test = one.macro
        series[one.view][f"{one.a} − {one.b}"] = test.difference, test.low, test.high
    rows = list(dict.fromkeys(row for points in series.values() for row in points))
    figure = _forest(rows, series, f"Difference of macro F1, paired 95 % intervals{_mark(report)}")
    figure.axes[0].axvline(0, color=INK, linewidth=1)
    return figure


def _forest(rows: Sequence[str], series: Mapping[View, Points], title: str) -> Figure:
    figure = Figure(figsize=(8.0, 1.4 + 0.5 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for number, (view, points) in enumerate(series.items()):
        shown = [row for row in rows if row in points]
        values = [points[row] for row in shown]
        # an interval of resamples need not hold the value itself; an error bar must not be negative
        below = [max(0.0, value - low) for value, low, _ in values]
        above = [max(0.0, high - value) for value, _, high in values]
        offset = (number - (len(series) - 1) / 2) * 0.22
        axes.errorbar(
            [value for value, _, _ in values],
            [rows.index(row) + offset for row in shown],
            xerr=[below, above],
            linestyle="",
            label=VIEW_TITLES[view],
            **series_style(number),
        )
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    axes.set_yticks(range(len(rows)), [row.replace("$", r"\$") for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0, labelsize=9)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.12), frameon=False, labelcolor=INK, fontsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _mark(report: ExperimentReport) -> str:
    return "\nSYNTHETIC corpus" if report.synthetic else ""
