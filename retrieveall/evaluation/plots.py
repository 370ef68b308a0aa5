"""Plots of evaluation reports: F1 per language with intervals, several runs side by side.

One drawing serves two media: a PNG on white for documents, and an inline SVG whose colours are
CSS variables of the page, so that it follows a light or dark theme.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from retrieveall.errors import InputError
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.views import VIEW_TITLES, View

# Okabe and Ito's colours, told apart with any kind of colour vision; shapes say the same again.
RUN_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a7a7a", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
INK = "#1f2430"
GRID = "#d7dae0"


def plot_f1(reports: Sequence[EvalReport], *, view: View = "strict") -> Figure:
    """Draws F1 per language, and the macro average where there are several languages.

    Args:
        reports: One to five runs; a language that a run lacks is left empty in its row.
        view: Which score.

    Returns:
        A figure; write it with ``save_png`` or ``svg_of``.

    Raises:
        InputError: No report, or more than can be told apart.
    """
    if not 1 <= len(reports) <= len(RUN_COLOURS):
        raise InputError(f"A plot shows 1 to {len(RUN_COLOURS)} runs; got {len(reports)}.")
    rows = list(dict.fromkeys(one.language for report in reports for one in report.languages))
    if len(rows) > 1 and any(view in report.macro for report in reports):
        rows.append("macro")
    height_inch = 1.3 + len(rows) * (0.26 + 0.13 * len(reports))
    figure = Figure(figsize=(7.2, height_inch), layout="constrained")
    axes = figure.add_subplot()
    for number, report in enumerate(reports):
        _draw_run(axes, report, rows, view, number, len(reports))
    _dress(axes, rows, VIEW_TITLES[view], synthetic=any(report.synthetic for report in reports))
    if len(reports) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, labelcolor=INK)
    return figure


def plot_reliability(report: EvalReport) -> Figure | None:
    """Draws the share of right entities over their scores, a line for each language; None without scores."""
    shown = [(one.language, one.reliability) for one in report.languages if one.reliability is not None]
    if not shown:
        return None
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GRID, linewidth=1.6)
    for number, (language, found) in enumerate(shown):
        axes.plot(
            [one.score for one in found.bins],
            [one.right for one in found.bins],
            linewidth=1.2,
            markersize=5,
            label=f"{language}, ECE {found.ece:.3f}",
            **series_style(number),
        )
    mark = "\nSYNTHETIC corpus" if report.synthetic else ""
    axes.set_title(f"What scores are worth{mark}", color=INK, fontsize=10, loc="left")
    axes.set_xlabel("score", color=INK, fontsize=9)
    axes.set_ylabel("share right", color=INK, fontsize=9)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    _bare(axes)
    axes.legend(loc="upper left", frameon=False, labelcolor=INK, fontsize=8)
    return figure


def series_style(number: int) -> dict[str, Any]:
    """Returns colour and marker of one of up to 49 series, no two alike."""
    colours = len(RUN_COLOURS)
    shift = number // colours
    return {"color": RUN_COLOURS[number % colours], "marker": MARKERS[(number + shift) % len(MARKERS)]}


def save_png(figure: Figure, path: Path, *, dpi: int = 160) -> None:
    """Writes the figure on white; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi, facecolor="white", format="png")


def svg_of(figure: Figure, *, salt: str) -> str:
    """Returns the figure as an ``<svg>`` element for a page that defines the colour variables.

    Variables: ``--ink``, ``--grid`` and ``--run-0`` … ``--run-6``. The output is deterministic.

    Args:
        figure: Drawn by this module.
        salt: Keeps the ids of several drawings of one page apart.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    variables = {INK: "--ink", GRID: "--grid"} | {c: f"--run-{i}" for i, c in enumerate(RUN_COLOURS)}
    for colour, variable in variables.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def _draw_run(
    axes: Axes, report: EvalReport, rows: Sequence[str], view: View, number: int, runs: int
) -> None:
    points = _points(report, view)
    shown = [row for row in rows if row in points]
    offset = (number - (runs - 1) / 2) * 0.7 / runs
    f1 = [points[row][0] for row in shown]
    # An interval of resamples need not hold the value itself; an error bar must not be negative.
    below = [max(0.0, value - low) for value, low, _ in map(points.__getitem__, shown)]
    above = [max(0.0, high - value) for value, _, high in map(points.__getitem__, shown)]
    axes.errorbar(
        f1,
        [rows.index(row) + offset for row in shown],
        xerr=[below, above],
        fmt=MARKERS[number],
        color=RUN_COLOURS[number],
        markersize=6,
        elinewidth=1.6,
        label=report.name.replace("$", r"\$"),
    )


def _points(report: EvalReport, view: View) -> dict[str, tuple[float, float, float]]:
    """Returns (F1, low, high) per row."""
    scores = {one.language: one.scores[view] for one in report.languages if view in one.scores}
    points = {language: (score.f1, score.f1_low, score.f1_high) for language, score in scores.items()}
    if view in report.macro:
        macro = report.macro[view]
        points["macro"] = macro.f1, macro.low, macro.high
    return points


def _dress(axes: Axes, rows: Sequence[str], title: str, *, synthetic: bool) -> None:
    mark = "\nSYNTHETIC corpus" if synthetic else ""
    axes.set_title(f"{title}, with 95 % bootstrap intervals{mark}", color=INK, fontsize=10, loc="left")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    if rows[-1] == "macro":
        axes.axhline(len(rows) - 1.5, color=GRID, linewidth=1)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.tick_params(colors=INK, length=0, labelsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
