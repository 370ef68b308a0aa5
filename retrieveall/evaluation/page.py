"""The report as one self-contained HTML page: no scripts, nothing loaded from anywhere.

Everything that comes from a corpus, a tagger or a configuration passes through Jinja's
autoescaping; only the SVG drawings, whose text matplotlib escapes, go in as markup.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from retrieveall.errors import InputError
from retrieveall.evaluation.comparison import Comparison
from retrieveall.evaluation.marking import stretches, visible
from retrieveall.evaluation.mistakes import MISTAKE_KINDS
from retrieveall.evaluation.plots import plot_f1, plot_reliability, svg_of
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.table import macro_with_interval, plain, with_interval
from retrieveall.evaluation.views import VIEW_TITLES, VIEWS, View


def render_page(reports: Sequence[EvalReport], *, comparisons: Sequence[Comparison] = ()) -> str:
    """Returns the page of one or several runs.

    Args:
        reports: The runs to show; plots show them side by side, tables one below the other.
        comparisons: Paired bootstraps between them.

    Raises:
        InputError: No report, or more than a plot can show.
    """
    if not reports:
        raise InputError("A page needs at least one report; got none.")
    template = _environment().get_template("page.html.j2")
    return template.render(
        reports=reports,
        comparisons=comparisons,
        plots=_plots(reports),
        titles=VIEW_TITLES,
        synthetic=any(report.synthetic for report in reports),
        notes=list(dict.fromkeys(note for report in reports for note in report.notes)),
        kinds=MISTAKE_KINDS,
        views=[view for view in VIEWS if view != "strict"],
        plain=plain,
        with_interval=with_interval,
        macro_with_interval=macro_with_interval,
        stretches=stretches,
        visible=visible,
        labels_of=_labels_of,
        destinations_of=_destinations_of,
        settings_of=_settings_of,
    )


def write_page(reports: Sequence[EvalReport], path: Path, *, comparisons: Sequence[Comparison] = ()) -> None:
    """Writes the page as UTF-8; folders are made.

    Raises:
        InputError: No report, or more than a plot can show.
    """
    page = render_page(reports, comparisons=comparisons)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A lone surrogate in a run's name or settings must not lose the whole page.
    path.write_bytes(page.encode("utf-8", errors="replace"))


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("retrieveall.evaluation", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _plots(reports: Sequence[EvalReport]) -> list[tuple[str, Markup]]:
    """Returns (description, drawing) of every view that some language of some run has, and of scores."""
    shown: list[View] = [
        view
        for view in VIEWS
        if view != "set_metric" and any(view in one.scores for report in reports for one in report.languages)
    ]
    drawings = [(VIEW_TITLES[view], plot_f1(reports, view=view), str(view)) for view in shown]
    for number, report in enumerate(reports):
        if (figure := plot_reliability(report)) is not None:
            drawings.append((f"What scores are worth, {report.name}", figure, f"reliability-{number}"))
    return [(title, Markup(svg_of(figure, salt=salt))) for title, figure, salt in drawings]


def _labels_of(report: EvalReport) -> list[str]:
    return sorted({label for one in report.languages for label in one.labels})


def _destinations_of(report: EvalReport) -> list[str]:
    """Returns every language that some sentence was routed to, the report's own first."""
    own = [one.language for one in report.languages]
    others = {to for one in report.languages if one.routing for to in one.routing.routed}
    return own + sorted(others - set(own))


def _settings_of(report: EvalReport) -> str:
    return json.dumps(dict(report.settings), indent=2, ensure_ascii=False, default=str)
