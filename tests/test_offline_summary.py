"""Counts, progress, and the page of a finished job."""

from __future__ import annotations

from pathlib import Path

from retrieveall.offline.inputs import Inputs
from retrieveall.offline.job import begin
from retrieveall.offline.options import TagOptions
from retrieveall.offline.page import render_summary, write_summary
from retrieveall.offline.progress import ProgressCounter, duration
from retrieveall.offline.statistics import MOST_SHOWN, Statistics, merge_statistics
from retrieveall.offline.summary import TagSummary, all_statistics, count_files
from retrieveall.storage import Store
from tests.offline import job_of, plans_of, tagged, write

JSONL = '{"text": "Anna met Bob. Мария спит."}\n{broken\n{"text": "x"}\n{"text": "Мария <b>"}\n'


def summary_of(inputs: Inputs, folder: Path, size: int) -> tuple[TagSummary, Store]:
    options = TagOptions(rows_per_fragment=size)
    output = tagged(inputs, folder, options)
    job, fragments = job_of(inputs, folder, options)
    begin(job)
    summary = TagSummary(
        job=job.record,
        output=output.uri,
        files=count_files(plans_of(inputs, options)),
        ignored=("notes.md",),
        statistics=all_statistics(job, [job.path(fragment) for fragment in fragments]),
        reused_rows=2,
        seconds=4.0,
        rows_per_s=0.5,
    )
    return summary, output


def test_counts_do_not_depend_on_how_the_input_is_cut(tmp_path: Path) -> None:
    inputs = write(tmp_path / "in", a_jsonl=JSONL)
    whole, _ = summary_of(inputs, tmp_path / "whole", 10)
    cut, _ = summary_of(inputs, tmp_path / "cut", 1)
    counts = whole.statistics

    assert cut.statistics == counts
    assert (counts.rows, counts.errors, counts.characters) == (4, 1, 35)
    assert counts.sentences == {"en": 2, "ru": 2}
    assert counts.entities == {"en": {"PER": 2}, "ru": {"PER": 2}}
    assert counts.labels == {"PER": 4}
    assert [(row.row, row.tokens, row.sentences) for row in counts.slow] == [(0, 24, 2), (3, 9, 1), (2, 1, 1)]
    assert [(error.file, error.row) for error in counts.shown_errors] == [("a.jsonl", 1)]
    assert Statistics.from_dict(counts.to_dict()) == counts


def test_lists_stay_short(tmp_path: Path) -> None:
    lines = "".join(f"{'word ' * number}\n" for number in range(1, 60))
    summary, _ = summary_of(
        write(tmp_path / "in", a_txt=lines.encode() + b"\xff\n" * 50), tmp_path / "out", 7
    )

    assert summary.statistics.errors == 50
    assert len(summary.statistics.shown_errors) == len(summary.statistics.slow) == MOST_SHOWN
    assert [row.row for row in summary.statistics.slow[:3]] == [58, 57, 56]
    assert merge_statistics([]).rows == 0


def test_the_page_shows_counts_and_escapes_what_the_input_says(tmp_path: Path) -> None:
    inputs = write(tmp_path / "in" / "<script>", a_jsonl=JSONL)
    summary, output = summary_of(inputs, tmp_path / "out", 10)
    write_summary(output, summary)
    page = output.read_text("summary.html")

    assert page == render_summary(summary)
    assert "1 of 4 rows could not be tagged" in page and "notes.md" in page
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert output.read_json("summary.json")["statistics"]["sentences"] == {"en": 2, "ru": 2}
    assert output.read_json("summary.json")["labels"] == {"PER": 4}


def test_the_page_of_nothing_can_be_made(tmp_path: Path) -> None:
    summary, _ = summary_of(write(tmp_path / "in", a_txt=""), tmp_path / "out", 10)
    assert "Tagged corpus" in render_summary(summary)


def test_progress_tells_speed_and_time_left() -> None:
    times = iter([10.0, 10.0, 14.0])
    counter = ProgressCounter(total=1_000, reused=200, clock=lambda: next(times))
    before = counter.now()
    counter.add(Statistics(rows=100, errors=2, sentences={"ru": 30, "en": 80}))
    now = counter.now()

    assert before.line() == "200/1,000 rows"
    assert (now.done, now.rows_per_s, now.left_s) == (300, 25.0, 28.0)
    assert now.line() == "300/1,000 rows · 25.0 rows/s · 28 s left · en 80 ru 30 · 2 errors"


def test_durations_read_well() -> None:
    assert [duration(seconds) for seconds in (0.4, 75, 7_500)] == ["0 s", "1 min 15 s", "2 h 5 min"]
