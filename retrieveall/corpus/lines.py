"""Lines of a UTF-8 file with their numbers, and a clear answer where a line is not UTF-8.

Only the line feed ends a line: the many other characters that ``str.splitlines`` breaks at (U+0085,
U+2028 …) are text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from retrieveall.corpus.report import ImportLog
from retrieveall.errors import CorpusFormatError

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_lines(path: Path, log: ImportLog) -> Iterator[tuple[int, str | None]]:
    """Yields ``(number from 1, line without its end)``; None for a line that is not UTF-8.

    Args:
        path: A text file; a byte order mark and carriage returns are taken off.
        log: Told about each line that is not UTF-8.

    Raises:
        CorpusFormatError: A line is not UTF-8 and ``log`` does not skip; or the file is UTF-16.
    """
    data = path.read_bytes()
    if data.startswith(_UTF16_MARKS):
        raise CorpusFormatError(f"{path}:1: wrong encoding: the file is UTF-16. Save it as UTF-8.")
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            yield number, line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            found = f"byte {error.start + 1} of the line, {line[error.start]:#04x}, is not UTF-8."
            log.problem("wrong encoding", str(path), number, f"{found} Save the file as UTF-8.")
            yield number, None
