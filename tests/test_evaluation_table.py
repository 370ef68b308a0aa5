from __future__ import annotations

import io

from rich.console import Console, RenderableType

from retrieveall.evaluation.comparison import compare
from retrieveall.evaluation.language import evaluate
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.table import comparison_table, report_tables
from tests.annotated import annotated
from tests.test_evaluation_report import full_report


def printed(*tables: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(*tables)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_scores_stand_on_one_line_with_their_interval() -> None:
    report = full_report()
    lines = printed(*report_tables(report)).splitlines()
    strict = report.languages[0].strict
    cell = f"{strict.f1:.3f} [{strict.f1_low:.3f} {strict.f1_high:.3f}]"
    assert any("en" in line and cell in line for line in lines)
    assert any("macro" in line and f"{report.macro_f1:.3f}" in line for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_every_table_of_a_synthetic_corpus_says_so() -> None:
    report = full_report(synthetic=True)
    for table in [*report_tables(report), comparison_table(compare(report, report))]:
        assert "SYNTHETIC" in printed(table)
    assert "SYNTHETIC" not in printed(*report_tables(full_report()))


def test_set_metric_carries_its_label() -> None:
    assert "for comparison with the literature only" in printed(*report_tables(full_report()))


def test_what_was_not_measured_is_a_dash() -> None:
    report = EvalReport.of([evaluate([annotated("[Anna](PER)")], [[]])])
    row = next(line for line in printed(*report_tables(report)).splitlines() if " en " in line)
    assert "–" in row


def test_names_are_not_read_as_markup() -> None:
    report = EvalReport.of([evaluate([annotated("[Anna](PER)")], [[]])], name="[red]run[/red]")
    assert "[red]run[/red]" in printed(*report_tables(report))
