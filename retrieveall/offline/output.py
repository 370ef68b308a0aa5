"""The output: the input's columns and what the tagger found, one Parquet file per fragment.

Columns of the input that are called like ours get the prefix ``input_``. Each file's schema carries its
fragment and statistics (`FILE_KEY`), so that a summary need not read its rows.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from retrieveall.answer import AnswerOptions, answer_body
from retrieveall.errors import IncompatibleArtefactError
from retrieveall.offline.fragments import Fragment
from retrieveall.offline.reading import InputRows
from retrieveall.offline.tagging import TaggedRow
from retrieveall.storage import Store

FILE_KEY: Final = b"retrieveall.fragment"
ROWS_FOLDER: Final = "rows"

ENTITY = pa.struct(
    [
        ("start_char", pa.int32()),
        ("end_char", pa.int32()),
        ("text", pa.string()),
        ("label", pa.string()),
        ("score", pa.float64()),
    ]
)
SENTENCE = pa.struct(
    [
        ("start_char", pa.int32()),
        ("end_char", pa.int32()),
        ("language", pa.string()),
        ("adapter", pa.string()),
        ("composition", pa.string()),
        ("ranking", pa.list_(pa.struct([("language", pa.string()), ("score", pa.float64())]))),
        ("margin", pa.float64()),
        ("examples_dropped", pa.int32()),
        ("tokens", pa.int32()),
    ]
)
ADDED = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("entities", pa.list_(ENTITY)),
        ("sentences", pa.list_(SENTENCE)),
        ("release", pa.int32()),
        ("status", pa.string()),
        ("error", pa.string()),
    ]
)


_PREFIX: Final = "input_"


def output_name(column: str) -> str:
    """Returns what a column of the input is called in the output; no two get the same name."""
    bare = re.sub(f"^({_PREFIX})+", "", column)
    return f"{_PREFIX}{column}" if bare in ADDED.names else column


def output_rows(
    rows: InputRows, tagged: Sequence[TaggedRow], release: int, options: AnswerOptions
) -> list[Any]:
    """Returns, per row, the tagger's part of the answer of `POST /v1/tag`, or None for an error.

    Each sentence also says how many ``tokens`` the model read and wrote for it.
    """
    good = [(text or "", row.tagged) for text, row in zip(rows.texts, tagged, strict=True) if row.tagged]
    body = answer_body(release, [text for text, _ in good], [answer for _, answer in good], options)
    for result, (_, answer) in zip(body["results"], good, strict=True):
        for shown, sentence in zip(result["sentences"], answer.sentences, strict=True):
            shown["ranking"] = [{"language": code, "score": score} for code, score in shown["ranking"]]
            shown["tokens"] = sentence.tokens
    results = iter(body["results"])
    return [next(results) if row.tagged else None for row in tagged]


def output_table(
    fragment: Fragment, rows: InputRows, tagged: Sequence[TaggedRow], results: Sequence[Any], release: int
) -> pa.Table:
    """Returns the table of one output file.

    Args:
        fragment: Where the rows come from.
        rows: N rows.
        tagged: N answers.
        results: Their bodies, from `output_rows`.
        release: That answered.
    """
    count = len(tagged)
    added = {
        "file": [fragment.file] * count,
        "row": list(range(fragment.first_row, fragment.first_row + count)),
        "entities": [result and result["entities"] for result in results],
        "sentences": [result and result["sentences"] for result in results],
        "release": [release] * count,
        "status": ["ok" if row.tagged else "error" for row in tagged],
        "error": [row.error for row in tagged],
    }
    arrays = [pa.array(added[field.name], field.type) for field in ADDED]
    names = [output_name(name) for name in rows.columns.column_names]
    return pa.table([*rows.columns.columns, *arrays], names=[*names, *ADDED.names])


def write_output(store: Store, path: str, table: pa.Table, about: Mapping[str, Any]) -> None:
    """Writes one output file under a temporary name and moves it to its own.

    Args:
        store: The output's folder.
        path: Inside of it.
        table: From `output_table`.
        about: Kept in the file's schema: fragment, statistics.
    """
    about_bytes = json.dumps(about, ensure_ascii=False).encode()
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({FILE_KEY: about_bytes}), buffer, compression="zstd")
    store.write_bytes(path, buffer.getvalue())


def read_about(store: Store, path: str) -> dict[str, Any]:
    """Reads what `write_output` kept about an output file, without its rows.

    Raises:
        IncompatibleArtefactError: Something else wrote the file.
    """
    with store.filesystem.open_input_file(store.full_path(path)) as source:
        metadata = pq.read_schema(source).metadata or {}
    if FILE_KEY not in metadata:
        raise IncompatibleArtefactError(
            f"{path!r} in {store.uri!r} was not written by `retrieveall tag`. Give the job an --output of"
            " its own."
        )
    about: dict[str, Any] = json.loads(metadata[FILE_KEY])
    return about
