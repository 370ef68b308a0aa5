"""JSONL: every row with all its columns, one JSON object a line."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, BinaryIO

from retrieveall.offline.exports.rows import ExportRow
from retrieveall.offline.json_lines import json_text


def write_jsonl(rows: Iterable[ExportRow], stream: BinaryIO) -> None:
    """Writes all rows, those with an error too.

    What JSON has not is written as a string: bytes as base64, dates and decimals as they are read; NaN and
    infinity as null.
    """
    for row in rows:
        stream.write(f"{json_text(row.columns, _plain)}\n".encode())


def _plain(value: Any) -> str:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)
