"""The report of an experiment as tables in Markdown, for the terminal and for documents alike."""

from __future__ import annotations

from collections.abc import Sequence

from retrieveall.evaluation.bootstrap import Difference
from retrieveall.evaluation.report import SYNTHETIC_NOTE
from retrieveall.evaluation.table import plain
from retrieveall.evaluation.views import VIEW_TITLES
from retrieveall.experiments.summary import SHOWN_VIEWS, ArmSummary, ExperimentReport, MeanScore


def experiment_tables(report: ExperimentReport) -> str:
    """Returns the tables: macro scores, F1 by language, paired tests; and what must stand beside them."""
    plan = report.plan
    seeds = ", ".join(map(str, plan.seeds))
    parts = [
        f"# {plan.name}",
        f"Corpus {plan.corpus}, {plan.split} split, {plan.test_limit or 'all'} sentences of each of"
        f" {', '.join(sorted(plan.languages))}; seeds {seeds}. Means over seeds, 95 % bootstrap intervals"
        " over sentences, ± is the standard deviation over seeds.",
        *([f"**{SYNTHETIC_NOTE}**"] if report.synthetic else []),
        *([f"Not finished: {', '.join(report.missing)}."] if report.missing else []),
        "## Macro F1",
        _macro_table(report.arms),
        "## Strict F1 by language",
        _language_table(report.arms),
    ]
    if report.comparisons:
        parts += ["## Paired tests: does A beat B?", _comparison_table(report)]
    return "\n\n".join(parts) + "\n"


def _macro_table(arms: Sequence[ArmSummary]) -> str:
    columns = ["arm", *(VIEW_TITLES[view] for view in SHOWN_VIEWS), "routing", "training tokens", "÷ first"]
    first = arms[0].tokens
    rows = [
        [
            arm.name,
            *(_cell(arm.macro.get(view)) for view in SHOWN_VIEWS),
            plain(arm.routing),
            "–" if arm.tokens is None else f"{arm.tokens:,.0f}",
            "–" if arm.tokens is None or not first else f"{arm.tokens / first:.2f}",
            "–" if arm.sentences_per_s is None else f"{arm.sentences_per_s:.1f}",
        ]
        for arm in arms
    ]
    return _table([*columns, "sentences/s"], rows)


def _language_table(arms: Sequence[ArmSummary]) -> str:
    codes = list(arms[0].languages)
    rows = [[arm.name, *(_cell(arm.languages.get(code, {}).get("strict")) for code in codes)] for arm in arms]
    return _table(["arm", *codes], rows)


def _comparison_table(report: ExperimentReport) -> str:
    rows = []
    for one in report.comparisons:
        by_language = " ".join(f"{code} {d.difference:+.3f}" for code, d in one.languages.items())
        test = one.macro
        rows.append(
            [one.a, one.b, VIEW_TITLES[one.view], _difference(test), f"{test.p_value:.4f}", by_language]
        )
    return _table(["A", "B", "score", "macro A − B", "p", "by language"], rows)


def _difference(one: Difference) -> str:
    return f"{one.difference:+.3f} [{one.low:+.3f} {one.high:+.3f}]"


def _cell(score: MeanScore | None) -> str:
    if score is None:
        return "–"
    spread = "" if score.sd is None else f" ± {score.sd:.3f}"
    return f"{score.f1:.3f}{spread} [{score.low:.3f} {score.high:.3f}]"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = [columns, ["---"] * len(columns)]
    lines = ([cell.replace("|", "\\|") for cell in row] for row in (*head, *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
