"""A job's plan, its output files, and what is taken up and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from retrieveall.errors import ConflictError, IncompatibleArtefactError, InputError
from retrieveall.offline.job import FragmentTagger, begin, finished, recorded_release
from retrieveall.offline.options import TagOptions
from retrieveall.offline.output import output_name, read_about
from tests.offline import WordTagger, job_of, tagged, write

JSONL = """\
{"text": "Anna met Bob. Мария спит.", "id": "one", "entities": [1]}
{broken
{"text": "x", "id": "two"}
"""


def test_the_output_holds_the_inputs_columns_and_what_was_found(tmp_path: Path) -> None:
    output = tagged(write(tmp_path / "in", a_jsonl=JSONL), tmp_path / "out", TagOptions(rows_per_fragment=2))
    table = pq.read_table(output.full_path("rows")).sort_by("row")
    first, broken, last = table.to_pylist()

    assert table.column_names == [
        "text", "id", "input_entities", "file", "row", "entities", "sentences", "release", "status", "error",
    ]  # fmt: skip
    assert (first["id"], first["input_entities"], first["file"], first["row"]) == ("one", [1], "a.jsonl", 0)
    assert [(e["text"], e["start_char"], e["label"], e["score"]) for e in first["entities"]] == [
        ("Anna", 0, "PER", 0.5),
        ("Bob", 9, "PER", 0.5),
        ("Мария", 14, "PER", 0.5),
    ]
    assert [(s["language"], s["ranking"], s["tokens"]) for s in first["sentences"]] == [
        ("en", [{"language": "en", "score": 1.0}], 13),
        ("ru", [{"language": "ru", "score": 1.0}], 11),
    ]
    assert (first["release"], first["status"], first["error"]) == (7, "ok", None)
    assert (broken["status"], broken["entities"], broken["sentences"], broken["row"]) == (
        "error",
        None,
        None,
        1,
    )
    assert broken["error"].startswith("no JSON")
    assert (last["id"], last["entities"], last["row"]) == ("two", [], 2)


def test_no_column_is_overwritten() -> None:
    names = ["text", "row", "input_row", "input_input_row", "input_text"]
    assert [output_name(name) for name in names] == [
        "text", "input_row", "input_input_row", "input_input_input_row", "input_text",
    ]  # fmt: skip


def test_labels_and_scores_are_filtered(tmp_path: Path) -> None:
    inputs = write(tmp_path / "in", a_txt="Anna\n")
    for number, options in enumerate([TagOptions(labels=("LOC",)), TagOptions(min_score=0.6)]):
        output = tagged(inputs, tmp_path / f"out-{number}", options)
        assert pq.read_table(output.full_path("rows")).column("entities").to_pylist() == [[]]


def test_each_fragment_is_one_file_that_is_not_written_twice(tmp_path: Path) -> None:
    inputs = write(tmp_path / "in", a_txt="Anna\nBob\nCarl\n")
    job, fragments = job_of(inputs, tmp_path / "out", TagOptions(rows_per_fragment=2))
    tagger = WordTagger()
    worker = FragmentTagger(job, tagger)
    first = [worker.run(fragment) for fragment in fragments]
    again = [worker.run(fragment) for fragment in fragments]

    assert again == first and len(tagger.calls) == 2
    assert [job.path(fragment) for fragment in fragments] == sorted(
        finished(job, fragments), key=list(map(job.path, fragments)).index
    )
    assert [read_about(job.output, job.path(f))["fragment"]["first_row"] for f in fragments] == [0, 2]


def test_names_follow_fragment_release_and_options(tmp_path: Path) -> None:
    inputs = write(tmp_path / "in", a_txt="Anna\nBob\n")
    job, (fragment,) = job_of(inputs, tmp_path / "out")
    others = [
        replace(job, release=8),
        replace(job, options=replace(job.options, min_score=0.1)),
        replace(job, pinned={"settings": 1}),
    ]
    paths = {job.path(fragment), *(other.path(fragment) for other in others)}
    moved = replace(job, inputs=job.inputs.child("elsewhere"))

    assert len(paths) == 4
    assert moved.path(fragment) == job.path(fragment)
    assert job.path(replace(fragment, first_row=1)) not in paths


def test_a_job_begins_once_and_another_is_refused(tmp_path: Path) -> None:
    job, _ = job_of(write(tmp_path / "in", a_txt="Anna\n"), tmp_path / "out")
    assert recorded_release(job.output) is None
    begin(job)
    begin(job)
    assert recorded_release(job.output) == 7
    with pytest.raises(ConflictError, match=r"release was 7 and is now 8.*an --output of its own"):
        begin(replace(job, release=8))
    with pytest.raises(ConflictError, match="rows_per_fragment"):
        begin(replace(job, options=TagOptions(rows_per_fragment=3)))


def test_more_files_are_taken_up_but_changed_rows_are_refused(tmp_path: Path) -> None:
    tagged(write(tmp_path / "in", a_txt="Anna\n"), tmp_path / "out")
    more, fragments = job_of(write(tmp_path / "in", b_txt="Bob\n"), tmp_path / "out")
    assert finished(more, fragments) == {more.path(fragments[0])}

    changed, fragments = job_of(write(tmp_path / "in", a_txt="Hanna\n"), tmp_path / "out")
    with pytest.raises(ConflictError, match=r"1 output files .*\(a\.txt, rows 0 to 0\)"):
        finished(changed, fragments)


def test_what_others_wrote_is_not_taken_for_ours(tmp_path: Path) -> None:
    output = tagged(write(tmp_path / "in", a_txt="Anna\n"), tmp_path / "out")
    pq.write_table(
        pq.read_table(output.full_path("rows")).replace_schema_metadata(None), tmp_path / "x.parquet"
    )
    output.write_bytes("rows/x.parquet", (tmp_path / "x.parquet").read_bytes())
    with pytest.raises(IncompatibleArtefactError, match="was not written by"):
        read_about(output, "rows/x.parquet")


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="0 rows per fragment"):
        TagOptions(rows_per_fragment=0)
    with pytest.raises(InputError, match="give one of them"):
        TagOptions(language="en", language_column="lang")
