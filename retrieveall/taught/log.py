"""The files of taught examples: one immutable Arrow file per call, numbered within its namespace.

    taught/<namespace>/00000001.arrow  00000002.arrow  …  checkpoint-00000002.arrow

A call is written under the next free number, exclusively, so the numbers have no gaps: whoever has read up
to n learns what is new by asking for n + 1 alone, on any filesystem, and lists the folder only once. A
checkpoint holds what the calls up to its number left behind; who starts reads the newest and goes on from
there. Rows are `TaughtExample`s, a deletion is a row without text.
"""

from __future__ import annotations

import io
import random
import re
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa

from retrieveall.errors import ConflictError, InputError, NotFoundError, ServiceUnavailable
from retrieveall.names import check_name
from retrieveall.storage import Store
from retrieveall.taught.example import TaughtExample
from retrieveall.types import GoldEntity

SHARED = "shared"
"""The namespace that every caller sees."""

TAUGHT_FORMAT_VERSION = 1

_ENTITY = pa.struct([("start_char", pa.int32()), ("end_char", pa.int32()), ("label", pa.string())])
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("language", pa.string()),
        ("seq", pa.int64()),
        ("created_at", pa.string()),
        ("text", pa.string()),
        ("entities", pa.list_(_ENTITY)),
        ("deleted", pa.bool_()),
    ],
    metadata={"retrieveall.taught": str(TAUGHT_FORMAT_VERSION)},
)

_FILE = re.compile(r"(checkpoint-)?([0-9]{8,})\.arrow")
_TRIES = 20
_READERS = 8  # a remote store answers many at once


@dataclass(frozen=True, kw_only=True)
class TaughtLog:
    """The taught examples of a workspace, as they were said. Safe between threads and processes.

    Attributes:
        store: The folder ``taught/``.
    """

    store: Store

    def namespaces(self) -> tuple[str, ...]:
        """Returns the namespaces in which something was said."""
        return tuple(name for name in self.store.list() if not name.startswith("."))

    def read_all(self, namespace: str) -> tuple[int, list[TaughtExample]]:
        """Returns the number of the last call and what was said, oldest first, by one listing.

        Raises:
            InputError: The name cannot be a folder, or a file is broken.
        """
        checkpoints, calls = [0], [0]
        for name in self.store.list(check_namespace(namespace)):
            if found := _FILE.fullmatch(name):
                (checkpoints if found[1] else calls).append(int(found[2]))
        start, last = max(checkpoints), max(*checkpoints, *calls)
        paths = [_call(namespace, number) for number in range(start + 1, last + 1)]
        if start:
            paths.insert(0, _checkpoint(namespace, start))
        with ThreadPoolExecutor(_READERS) as pool:
            return last, [row for rows in pool.map(self._read, paths) for row in rows]

    def read_after(self, namespace: str, seq: int) -> tuple[int, list[TaughtExample]]:
        """Returns the number of the last call and what was said after call `seq`; one look if nothing was."""
        rows: list[TaughtExample] = []
        while self.store.exists(path := _call(namespace, seq + 1)):
            rows += self._read(path)
            seq += 1
        return seq, rows

    def append(self, namespace: str, rows: Sequence[TaughtExample], *, after: int) -> int:
        """Writes one call; when this returns it is on the disk.

        Args:
            namespace: Whose.
            rows: At least one; their numbers are set to the call's.
            after: Number of a call that stands there already; the search for a free one begins behind it.

        Returns:
            The number of the call.

        Raises:
            ServiceUnavailable: Others wrote at the same time, again and again.
        """
        seq = after
        for tried in range(_TRIES):
            while self.store.exists(_call(namespace, seq + 1)):
                seq += 1
            numbered = [replace(row, seq=seq + 1) for row in rows]
            try:
                self.store.write_once(_call(namespace, seq + 1), _arrow_bytes(numbered))
            except ConflictError:
                time.sleep(random.uniform(0.0, 0.01 * 1.5**tried))
            else:
                return seq + 1
        raise ServiceUnavailable(
            f"{_TRIES} times others wrote examples into {namespace!r} at the same moment; nothing was"
            " written. Try again after 1 seconds."
        )

    def write_checkpoint(self, namespace: str, seq: int, rows: Iterable[TaughtExample]) -> None:
        """Writes what the calls up to `seq` left behind, deletions too; the calls' files stay."""
        self.store.write_bytes(_checkpoint(check_namespace(namespace), seq), _arrow_bytes(list(rows)))

    def _read(self, path: str) -> list[TaughtExample]:
        try:
            table = pa.ipc.open_file(io.BytesIO(self.store.read_bytes(path))).read_all()
        except (pa.ArrowInvalid, NotFoundError) as error:
            raise InputError(
                f"{self.store.uri}/{path} cannot be read ({error}). Restore it from a copy."
            ) from None
        if not table.schema.equals(SCHEMA, check_metadata=True):
            raise InputError(
                f"{self.store.uri}/{path} has other columns than taught examples of format"
                f" {TAUGHT_FORMAT_VERSION}. Use the version that wrote it."
            )
        return [_example(values) for values in table.to_pylist()]


def check_namespace(name: str) -> str:
    """Returns the namespace if it can be a folder.

    Raises:
        InputError: It can not.
    """
    return check_name(name, "namespace")


def _call(namespace: str, seq: int) -> str:
    return f"{check_namespace(namespace)}/{seq:08d}.arrow"


def _checkpoint(namespace: str, seq: int) -> str:
    return f"{namespace}/checkpoint-{seq:08d}.arrow"


def _example(values: dict[str, object]) -> TaughtExample:
    entities = tuple(GoldEntity(**entity) for entity in values.pop("entities"))  # type: ignore[attr-defined]
    return TaughtExample(**values, entities=entities)  # type: ignore[arg-type]  # the schema was compared


def _arrow_bytes(rows: Sequence[TaughtExample]) -> bytes:
    entities = [
        [{"start_char": e.start_char, "end_char": e.end_char, "label": e.label} for e in row.entities]
        for row in rows
    ]
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names if name != "entities"}
    table = pa.table({**columns, "entities": entities}, schema=SCHEMA)
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_table(table)
    return sink.getvalue()
