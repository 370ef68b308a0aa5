"""A tagging job: its plan, what of it is done, and the work on one fragment.

    OUTPUT/job.json               what the job does, written once: release, options, columns
    OUTPUT/rows/<digest>.parquet  one file per fragment, named by digest(fragment, job)
    OUTPUT/summary.json, .html    written when all fragments are done

A file of ``rows/`` is complete or not there, so a job that was killed goes on with the fragments that
have none. Jobs that differ never share an output: rows would stand there twice.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import pyarrow as pa

from retrieveall.answer import AnswerOptions
from retrieveall.digests import digest_json
from retrieveall.errors import ConflictError
from retrieveall.offline.columns import storable, unify, unify_strictly
from retrieveall.offline.fragments import FilePlan, Fragment
from retrieveall.offline.options import TagOptions
from retrieveall.offline.output import (
    ROWS_FOLDER,
    output_name,
    output_rows,
    output_table,
    read_about,
    write_output,
)
from retrieveall.offline.reading import FragmentReader
from retrieveall.offline.statistics import Statistics, count_fragment
from retrieveall.offline.tagging import RowTagger, tag_rows
from retrieveall.storage import Store, json_bytes

JOB_FILE: Final = "job.json"
FORMAT_VERSION: Final = 1
_SHOWN_CHARS = 200


@dataclass(frozen=True, kw_only=True)
class TagJob:
    """What a worker must know. Picklable as its stores are.

    Attributes:
        inputs: The input's folder.
        output: The output's folder.
        options: What is asked for.
        release: Number of the release, pinned.
        pinned: What else makes the entities: the release itself, the settings of retrieval and prompts, and
            what priors learn.
        schema: Columns of the whole input.
    """

    inputs: Store
    output: Store
    options: TagOptions
    release: int
    pinned: Mapping[str, Any]
    schema: pa.Schema

    @cached_property
    def record(self) -> dict[str, Any]:
        """The content of ``job.json``."""
        return {
            "format_version": FORMAT_VERSION,
            "input": self.inputs.uri,
            "release": self.release,
            "options": self.options.to_dict(),
            "pinned": dict(self.pinned),
            "columns": {field.name: str(field.type) for field in self.schema},
        }

    @cached_property
    def digest(self) -> str:
        """Digest of all that makes the output, but for the fragments; where the input lies is not of it."""
        return digest_json({key: value for key, value in self.record.items() if key != "input"})

    def path(self, fragment: Fragment) -> str:
        """Returns where the output of a fragment stands."""
        return f"{ROWS_FOLDER}/{digest_json({'fragment': fragment.to_dict(), 'job': self.digest})}.parquet"


def job_schema(plans: Sequence[FilePlan]) -> pa.Schema:
    """Returns the columns of an input.

    Raises:
        InputError: A Parquet column has types in two files that no type can hold.
    """
    if any(fragment.format == "parquet" for plan in plans for fragment in plan.fragments):
        return unify_strictly({plan.file: plan.schema for plan in plans})
    schema = pa.schema([])
    for plan in plans:
        schema = unify(schema, plan.schema)
    return storable(schema)


def recorded_release(output: Store) -> int | None:
    """Returns the release that a job in this output was pinned to; None where no job began."""
    return int(output.read_json(JOB_FILE)["release"]) if output.exists(JOB_FILE) else None


def begin(job: TagJob) -> None:
    """Writes ``job.json``, or checks that the job that began here is this one.

    Raises:
        ConflictError: It is another.
    """
    if not job.output.exists(JOB_FILE):
        with contextlib.suppress(ConflictError):  # another driver was quicker: compare with what it wrote
            job.output.write_once(JOB_FILE, json_bytes(job.record))
    before = job.output.read_json(JOB_FILE)
    wanted = json.loads(json_bytes(job.record))
    different = [
        f"{key} was {_shown(before.get(key))} and is now {_shown(wanted[key])}"
        for key in wanted
        if key != "input" and before.get(key) != wanted[key]
    ]
    if different:
        raise ConflictError(
            f"Another job began in {job.output.uri!r}: {'; '.join(different)}. Ask for the same again, or"
            " give this job an --output of its own."
        )


def finished(job: TagJob, fragments: Sequence[Fragment]) -> frozenset[str]:
    """Returns the paths of output files that are there.

    Raises:
        ConflictError: Some were made of rows that the input does not hold any more.
    """
    there = {f"{ROWS_FOLDER}/{name}" for name in job.output.list(ROWS_FOLDER)}
    stale = sorted(there - {job.path(fragment) for fragment in fragments})
    if stale:
        place = Fragment.from_dict(read_about(job.output, stale[0])["fragment"]).place
        raise ConflictError(
            f"{len(stale)} output files in {job.output.uri!r} were made of rows that the input does not hold"
            f" any more, such as {stale[0]} ({place}). Give the changed input an --output of its own, or"
            " delete these files to have only the changed rows tagged again."
        )
    return frozenset(there)


class FragmentTagger:
    """Tags fragments of a job; safe to share between threads, so that several share the engine's batches.

    Args:
        job: What is to be done.
        tagger: Of the job's release.
    """

    def __init__(self, job: TagJob, tagger: RowTagger) -> None:
        self._job, self._tagger = job, tagger
        self._reader = FragmentReader(job.inputs, job.schema, job.options)
        options = job.options
        labels = None if options.labels is None else frozenset(options.labels)
        self._answer = AnswerOptions(labels=labels, min_score=options.min_score)

    def run(self, fragment: Fragment) -> Statistics:
        """Tags a fragment and writes its file, unless it is there; returns its counts.

        Raises:
            InputError: The input changed.
            RetrieveAllError: The tagger does not work.
        """
        path = self._job.path(fragment)
        if self._job.output.exists(path):
            return read_statistics(self._job.output, path)
        rows = self._reader.read(fragment)
        tagged = tag_rows(self._tagger, rows)
        results = output_rows(rows, tagged, self._job.release, self._answer)
        table = output_table(fragment, rows, tagged, results, self._job.release)
        statistics = count_fragment(fragment, rows, tagged, results)
        about = {
            "fragment": fragment.to_dict(),
            "job": self._job.digest,
            "text_column": output_name(self._job.options.text_column),
            "statistics": statistics.to_dict(),
        }
        write_output(self._job.output, path, table, about)
        return statistics


def read_statistics(output: Store, path: str) -> Statistics:
    """Returns the counts of a fragment that is done."""
    return Statistics.from_dict(read_about(output, path)["statistics"], source=path)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
