from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from retrieveall.errors import InputError
from retrieveall.evaluation.plots import plot_f1, save_png, svg_of
from retrieveall.evaluation.report import EvalReport
from tests.test_evaluation_report import full_report, language_report


def test_png_is_written(tmp_path: Path) -> None:
    save_png(plot_f1([full_report()]), tmp_path / "plots" / "f1.png")
    assert (tmp_path / "plots" / "f1.png").read_bytes().startswith(b"\x89PNG")


def test_points_and_intervals_stand_where_the_scores_are() -> None:
    report = full_report()
    (axes,) = plot_f1([report]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["en", "de", "macro"]
    (points, _, (bars,)) = axes.containers[0]
    assert list(points.get_xdata()) == [*(one.strict.f1 for one in report.languages), report.macro_f1]
    first = report.languages[0].strict
    assert bars.get_segments()[0][:, 0].tolist() == pytest.approx([first.f1_low, first.f1_high])


def test_svg_takes_its_colours_from_the_page_and_escapes_names() -> None:
    runs = [
        EvalReport.of([language_report("en")], name="<script>alert(1)</script> $x$ & co"),
        EvalReport.of([language_report("en", keep=0.4)], name="off"),
    ]
    svg = svg_of(plot_f1(runs), salt="a")
    ElementTree.fromstring(svg)
    assert "var(--run-0)" in svg
    assert "var(--run-1)" in svg
    assert "var(--ink)" in svg
    assert "<script" not in svg
    assert "&lt;script&gt;alert(1)&lt;/script&gt; $x$ &amp; co" in svg
    assert svg == svg_of(plot_f1(runs), salt="a")


def test_synthetic_is_written_on_the_plot() -> None:
    (axes,) = plot_f1([full_report(synthetic=True)]).axes
    assert "SYNTHETIC" in axes.get_title(loc="left")
    (axes,) = plot_f1([full_report()]).axes
    assert "SYNTHETIC" not in axes.get_title(loc="left")


def test_too_many_runs_are_refused() -> None:
    with pytest.raises(InputError, match="got 8"):
        plot_f1([full_report()] * 8)
