"""The report as a table for the terminal (rich)."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from retrieveall.evaluation.comparison import Comparison
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.score import Score
from retrieveall.evaluation.set_metric import SET_METRIC_LABEL
from retrieveall.evaluation.views import VIEW_TITLES, VIEWS, View


def report_tables(report: EvalReport) -> list[Table]:
    """Returns the tables of ``retrieveall eval``: scores, other views of them, labels."""
    return [score_table(report), view_table(report), label_table(report)]


def score_table(report: EvalReport) -> Table:
    """Returns the main metric, the share routed right and the expected calibration error."""
    table = _titled(report)
    _add_columns(table, "strict F1 [95 %]", "prec.", "recall", "routed", "ECE", "sentences")
    for one in report.languages:
        strict = one.strict
        routing = plain(one.routing.accuracy if one.routing else None)
        ece = plain(one.reliability.ece if one.reliability else None)
        cells = with_interval(strict), plain(strict.precision), plain(strict.recall), routing, ece
        table.add_row(one.language, *cells, str(strict.sentences))
    table.add_section()
    table.add_row("macro", *_macro_cells(report), style="bold")
    return table


def view_table(report: EvalReport) -> Table:
    """Returns what training held, strict F1 on the rest and on detokenised text, and the set metric."""
    table = _titled(
        report, caption=f"seen: share of the sentences that stand in train, too\n* {SET_METRIC_LABEL}"
    )
    _add_columns(table, "seen", "unseen sentences", "unseen names", "detokenised", "set F1 *")
    for one in report.languages:
        views = (_folded(with_interval(one.scores.get(view))) for view in VIEWS[1:])
        table.add_row(one.language, plain(one.seen_share), *views)
    table.add_section()
    macro = (_folded(macro_with_interval(report, view)) for view in VIEWS[1:])
    table.add_row("macro", plain(_mean([one.seen_share for one in report.languages])), *macro, style="bold")
    return table


def label_table(report: EvalReport) -> Table:
    """Returns strict F1 with interval and support, one row per language, one column per label."""
    table = _titled(report, caption="n: gold mentions")
    labels = sorted({label for one in report.languages for label in one.labels})
    _add_columns(table, *(escape(label) for label in labels))
    for one in report.languages:
        cells = [one.labels.get(label) for label in labels]
        table.add_row(one.language, *(f"{with_interval(s)} n={s.support}" if s else "–" for s in cells))
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Returns the differences A - B with interval and one-sided p-value."""
    marks = " (SYNTHETIC)" if comparison.synthetic else ""
    title = f"{comparison.a} minus {comparison.b}, {VIEW_TITLES[comparison.view]}{marks}"
    table = Table(title=escape(title))
    _add_columns(table, "difference [95 %]", "p (A beats B)")
    for language, one in {**comparison.languages, "macro": comparison.macro}.items():
        span = escape(f"{one.difference:+.4f} [{one.low:+.4f} {one.high:+.4f}]")
        table.add_row(language, span, f"{one.p_value:.4f}")
    return table


def plain(value: float | None) -> str:
    """Returns a fraction with three digits, a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def with_interval(score: Score | None) -> str:
    """Returns ``0.812 [0.790 0.833]``, a dash for None."""
    return "–" if score is None else f"{score.f1:.3f} [{score.f1_low:.3f} {score.f1_high:.3f}]"


def macro_with_interval(report: EvalReport, view: View) -> str:
    """Returns a view's macro F1 as ``0.812 [0.790 0.833]``, a dash where there is none."""
    macro = report.macro.get(view)
    return "–" if macro is None else f"{macro.f1:.3f} [{macro.low:.3f} {macro.high:.3f}]"


def _titled(report: EvalReport, *, caption: str | None = None) -> Table:
    release = "" if report.release is None else f", release {report.release}"
    mark = " (SYNTHETIC)" if report.synthetic else ""
    return Table(
        title=f"{escape(report.name)}{mark}{release}",
        caption="\n".join([*([caption] if caption else _speed(report)), *report.notes]),
        caption_justify="left",
    )


def _folded(cell: str) -> str:
    """Puts the interval on a line of its own, so that four of them fit into 80 columns."""
    return cell.replace(" [", "\n[")


def _speed(report: EvalReport) -> list[str]:
    return [] if report.sentences_per_s is None else [f"{report.sentences_per_s:.1f} sentences/s"]


def _add_columns(table: Table, *names: str) -> None:
    table.add_column("language")
    for name in names:
        table.add_column(name, justify="right")


def _macro_cells(report: EvalReport) -> list[str]:
    routing = [one.routing.accuracy if one.routing else None for one in report.languages]
    return [
        macro_with_interval(report, "strict"),
        plain(_mean([one.strict.precision for one in report.languages])),
        plain(_mean([one.strict.recall for one in report.languages])),
        plain(_mean(routing)),
        plain(_mean([one.reliability.ece if one.reliability else None for one in report.languages])),
        str(sum(one.strict.sentences for one in report.languages)),
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None when a language lacks its value."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
