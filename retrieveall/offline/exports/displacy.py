"""An HTML page in the manner of spaCy's displaCy: the texts with their entities marked, to be read.

Made here, without spaCy: no scripts, nothing loaded from anywhere, control characters made visible. Entities
and labels are isolated: names that stand side by side in a text from right to left keep their own labels.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, BinaryIO

from retrieveall.evaluation.marking import visible
from retrieveall.offline.exports.rows import ExportRow

_LINE_FEED_SHOWN = visible("\n")
_HEAD = """<!doctype html>
<html lang="mul">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Tagged texts</title>
<style>
body { font: 16px/2.2 system-ui, "Noto Sans", sans-serif; max-width: 60rem; margin: 2rem auto; }
h2 { font-size: .8rem; font-weight: 400; color: #5b6270; margin: 1.5rem 0 0; }
.entities { unicode-bidi: isolate; overflow-wrap: anywhere; white-space: pre-wrap; }
.entity { color: #1f2430; padding: .3em .5em; margin: 0 .2em; line-height: 1; border-radius: .35em; }
.entity, .entity span { unicode-bidi: isolate; }
.entity span { font-size: .7em; font-weight: 700; margin-inline-start: .5em; }
</style>
</head>
<body>
"""


def write_displacy(rows: Iterable[ExportRow], stream: BinaryIO) -> None:
    """Writes one page with every tagged row."""
    stream.write(_HEAD.encode())
    for row in rows:
        if row.is_tagged:
            marked = "".join(_pieces(row))
            heading = f"<h2>{_shown(row.key)}</h2>"
            stream.write(f'{heading}\n<div class="entities" dir="auto">{marked}</div>\n'.encode())
    stream.write(b"</body>\n</html>\n")


def _pieces(row: ExportRow) -> Iterator[str]:
    at = 0
    for entity in row.entities:
        yield _shown(row.text[at : entity["start_char"]])
        yield _mark(entity)
        at = entity["end_char"]
    yield _shown(row.text[at:])


def _mark(entity: Mapping[str, Any]) -> str:
    label = entity["label"]
    hue = zlib.crc32(label.encode()) % 360
    style = f"background: hsl({hue} 80% 84%)"
    title = f"score {entity['score']:.3f}"
    shown = f"{_shown(entity['text'])}<span>{_shown(label)}</span>"
    return f'<mark class="entity" style="{style}" title="{title}">{shown}</mark>'


def _shown(text: str) -> str:
    return escape(visible(text).replace(_LINE_FEED_SHOWN, "\n"))
