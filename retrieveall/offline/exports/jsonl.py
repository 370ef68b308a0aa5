"""JSONL: every row with all its columns, one JSON object a line."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any, BinaryIO

from retrieveall.offline.exports.rows import ExportRow


def write_jsonl(rows: Iterable[ExportRow], stream: BinaryIO) -> None:
    """Writes all rows, those with an error too.

    What JSON has not is written as a string: bytes as base64, dates and decimals as they are read.
    """
    for row in rows:
        line = json.dumps(row.columns, ensure_ascii=False, default=_plain)
        stream.write(f"{line}\n".encode())


def _plain(value: Any) -> str:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)
