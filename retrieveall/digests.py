"""Content digests: what an artefact is called, and how one proves that it was not changed.

A digest is SHA-256, in full 64 hexadecimal digits; names of folders and fields of manifests use the
short form, the first 16. Source: own choice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from retrieveall.errors import NotFoundError

SHORT = 16


def canonical_json(value: Any) -> bytes:
    """Returns the one JSON spelling of a value: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        ValueError: The value holds NaN or infinity.
        TypeError: The value holds something that JSON has not.
    """
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def digest_bytes(data: bytes) -> str:
    """Returns the short digest of bytes."""
    return hashlib.sha256(data).hexdigest()[:SHORT]


def digest_json(value: Any) -> str:
    """Returns the short digest of a JSON value; the order of keys does not matter."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """Returns the full digest of a file's content, read in blocks.

    Raises:
        NotFoundError: There is no such file.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {path} to compute a digest of.") from None


def digest_parts(parts: Mapping[str, str]) -> str:
    """Returns the short digest of named digests, such as the files of an artefact."""
    return digest_json(dict(parts))


def digest_folder(folder: Path, names: Iterable[str] | None = None) -> str:
    """Returns the short digest of a folder: names and contents, not times or permissions.

    Args:
        folder: A local folder.
        names: Relative POSIX paths to count; default every file below the folder.

    Raises:
        NotFoundError: The folder or one of the named files does not exist.
    """
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {folder} to compute a digest of.")
    if names is None:
        names = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return digest_parts({name: digest_file(folder / name) for name in names})
