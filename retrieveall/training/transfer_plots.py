"""Pictures of what languages share: F1(q), the overlap of top sets, and where continued adapters moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from retrieveall.evaluation.plots import GRID, INK, series_style
from retrieveall.training.transfer import TransferReport


def transfer_figures(report: TransferReport) -> dict[str, Figure]:
    """Returns the pictures by name; ``moved`` is left out where no adapter was continued."""
    figures = {"f1-kept": plot_kept(report), "overlap": plot_overlap(report)}
    return {**figures, "moved": plot_moved(report)} if report.moved else figures


def plot_kept(report: TransferReport) -> Figure:
    """Draws each language's dev F1 over the share of weights kept, with intervals."""
    figure, axes = _axes()
    for number, code in enumerate(report.sentences):
        scores = [one.dev[code] for one in report.kept]
        below = [max(0.0, one.f1 - one.f1_low) for one in scores]
        above = [max(0.0, one.f1_high - one.f1) for one in scores]
        axes.errorbar(
            [one.percent for one in report.kept],
            [one.f1 for one in scores],
            yerr=[below, above],
            label=code,
            elinewidth=1,
            **series_style(number),
        )
    _dress(axes, report, "Strict dev F1 with the top q % of the weights, 95 % intervals", "q, % (by Fisher)")
    axes.set_ylabel("F1", color=INK)
    axes.set_ylim(0, 1)
    return figure


def plot_overlap(report: TransferReport) -> Figure:
    """Draws the overlap of the languages' top sets as one matrix for each q below 100 %."""
    shown = [one for one in report.overlaps if one.percent < 100] or list(report.overlaps)
    codes = list(report.sentences)
    figure = Figure(
        figsize=(1.2 + (0.7 + 0.45 * len(codes)) * len(shown), 1.4 + 0.45 * len(codes)), layout="constrained"
    )
    for place, one in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), place + 1)
        axes.imshow(one.matrix, vmin=0, vmax=1, cmap="Blues")
        axes.set_xticks(range(len(codes)), codes)
        axes.set_yticks(range(len(codes)), codes)
        axes.tick_params(colors=INK, length=0, labelsize=8)
        axes.set_title(f"q {one.percent:g} %\nchance {one.chance:.2f}", color=INK, fontsize=9)
        for row, values in enumerate(one.matrix):
            for column, value in enumerate(values):
                ink = "white" if value > 0.6 else INK
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=ink)
    title = "Share of a language's top weights that another's top holds"
    figure.suptitle(f"{title}{_mark(report)}", color=INK, fontsize=10)
    return figure


def plot_moved(report: TransferReport) -> Figure:
    """Draws how much of each continued adapter's move fell into the weights that all languages share."""
    figure, axes = _axes()
    by_adapter: dict[tuple[str, str], dict[float, float]] = {}
    for one in report.moved:
        by_adapter.setdefault((one.language, one.adapter), {})[one.percent] = one.in_shared
    for number, ((language, adapter), shares) in enumerate(by_adapter.items()):
        axes.plot(
            list(shares), list(shares.values()), label=f"{language} {adapter[:6]}", **series_style(number)
        )
    percents: Sequence[float] = [one.percent for one in report.overlaps]
    chance: Mapping[float, float] = {one.percent: one.shared for one in report.overlaps}
    axes.plot(percents, [chance[q] for q in percents], color=INK, linestyle=":", label="chance")
    _dress(axes, report, "Share of a continued adapter's squared move on shared weights", "q, % (by Fisher)")
    axes.set_ylim(0, 1.02)
    return figure


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    return figure, figure.add_subplot()


def _dress(axes: Axes, report: TransferReport, title: str, label: str) -> None:
    axes.set_title(f"{title}{_mark(report)}", color=INK, fontsize=10, loc="left")
    axes.set_xscale("log")
    percents = [one.percent for one in report.overlaps]
    axes.set_xticks(percents, [f"{percent:g}" for percent in percents])
    axes.minorticks_off()
    axes.set_xlabel(label, color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0, labelsize=9)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _mark(report: TransferReport) -> str:
    return "\nSYNTHETIC corpus" if report.synthetic else ""
