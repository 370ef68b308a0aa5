"""Label Studio: tasks with predictions, for people to look over and mend.

The labelling configuration needs ``<Text name="text" value="$text"/>`` and ``<Labels name="label"
toName="text">`` with the labels of the release. Offsets count code points, as Label Studio stores them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from retrieveall.offline.exports.rows import ExportRow
from retrieveall.offline.json_lines import json_text


def write_label_studio(rows: Iterable[ExportRow], stream: BinaryIO) -> None:
    """Writes one JSON array of tasks."""
    before = "[\n"
    for row in rows:
        if row.is_tagged:
            stream.write(f"{before}{json_text(_task(row))}".encode())
            before = ",\n"
    stream.write(b"[]\n" if before == "[\n" else b"\n]\n")


def _task(row: ExportRow) -> dict[str, Any]:
    scores = [entity["score"] for entity in row.entities]
    prediction = {
        "model_version": f"release {row.columns['release']}",
        "score": min(scores, default=1.0),
        "result": [_region(place, entity) for place, entity in enumerate(row.entities)],
    }
    return {
        "data": {"text": row.text, "file": row.columns["file"], "row": row.columns["row"]},
        "predictions": [prediction],
    }


def _region(place: int, entity: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"entity-{place}",
        "from_name": "label",
        "to_name": "text",
        "type": "labels",
        "score": entity["score"],
        "value": {
            "start": entity["start_char"],
            "end": entity["end_char"],
            "text": entity["text"],
            "labels": [entity["label"]],
        },
    }
