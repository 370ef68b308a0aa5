"""The files of an input: one file, or all below a folder, local or on any pyarrow filesystem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from retrieveall.errors import InputError, NotFoundError
from retrieveall.storage import Store

InputFormat = Literal["parquet", "jsonl", "csv", "tsv", "text"]

FORMATS: Final[tuple[InputFormat, ...]] = get_args(InputFormat)
_ENDINGS: Final[Mapping[str, InputFormat]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".text": "text",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """A file of the input; its path is relative to `Inputs.store`."""

    path: str
    format: InputFormat


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What is to be tagged.

    Attributes:
        store: The folder that the files stand in.
        files: Sorted by path.
        is_folder: The whole folder was named, not one file of it.
        ignored: Files of the folder whose ending says no format.
    """

    store: Store
    files: tuple[InputFile, ...]
    is_folder: bool
    ignored: tuple[str, ...] = ()


def find_inputs(uri: str, format: InputFormat | None = None) -> Inputs:
    """Returns the files of a path; names that begin with a dot or an underscore are left out.

    Args:
        uri: A file or a folder; a local path or any pyarrow filesystem URI.
        format: Of all files; None tells it by their endings.

    Raises:
        ConfigError: The URI names no filesystem.
        NotFoundError: There is nothing.
        InputError: There is nothing whose format is known.
    """
    folder, name = _parted(uri)
    parent = Store.open(folder)
    if name and not parent.is_folder(name):
        return _single(parent, name, format)
    return _below(parent.child(name) if name else parent, format)


def _parted(uri: str) -> tuple[str, str]:
    """Returns the folder above and the last name; options of a URI (``?region=…``) stay with the folder."""
    if "://" not in uri:
        path = uri.rstrip("/")
        folder, _, name = path.rpartition("/")
        whole = not path or name in (".", "..", "~")
        return (uri, "") if whole else (folder or ("/" if uri.startswith("/") else "."), name)
    path, mark, options = uri.partition("?")
    folder, _, name = path.rstrip("/").rpartition("/")
    return (uri, "") if folder.endswith("/") else (f"{folder}{mark}{options}", name)


def _single(store: Store, name: str, format: InputFormat | None) -> Inputs:
    if not store.exists(name):
        raise NotFoundError(f"There is no file or folder {name!r} in {store.uri!r}. Check --input.")
    found = format or _format_of(name)
    if found is None:
        raise InputError(
            f"The format of {name!r} cannot be told by its ending; known are {', '.join(_ENDINGS)}."
            f" Name it with --format: {', '.join(FORMATS)}."
        )
    return Inputs(store=store, files=(InputFile(path=name, format=found),), is_folder=False)


def _below(store: Store, format: InputFormat | None) -> Inputs:
    paths = [file.path for file in store.files() if not _is_hidden(file.path)]
    formats = {path: format or _format_of(path) for path in paths}
    files = tuple(InputFile(path=path, format=found) for path, found in formats.items() if found)
    ignored = tuple(path for path, found in formats.items() if not found)
    if not files:
        there = f"only {', '.join(ignored[:5])}" if ignored else "no file"
        raise InputError(
            f"The folder {store.uri!r} holds {there}; expected files that end in {', '.join(_ENDINGS)}."
            " Other endings need --format."
        )
    return Inputs(store=store, files=files, is_folder=True, ignored=ignored)


def _format_of(path: str) -> InputFormat | None:
    name = path.rpartition("/")[2].lower()
    return next((format for ending, format in _ENDINGS.items() if name.endswith(ending)), None)


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))
