"""From a path to the files of each split.

A folder holds one file per split, told by a word of its name: ``train``; ``dev``, ``valid`` or
``validation``; ``test`` (``train.conll``, ``nl-test.iob2``, ``train-00000-of-00001.parquet``). A
single file is the split that its name says, else ``train``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from retrieveall.errors import InputError, NotFoundError
from retrieveall.types import SPLITS, Split

SPLIT_WORDS: Final[Mapping[str, Split]] = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
_SUFFIXES: Final = {
    "conll": {"", ".conll", ".txt", ".tsv", ".bio", ".iob", ".iob2", ".bioes", ".train", ".dev", ".test"},
    "jsonl": {".jsonl", ".json", ".ndjson"},
    "parquet": {".parquet"},
}


def split_of_name(name: str) -> Split | None:
    """Returns the split that a file name or split name tells, None when it tells none or several."""
    words = re.split(r"[^a-z]+", name.lower())
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None


def find_split_files(path: Path, format: str, split: Split | None = None) -> dict[Split, list[Path]]:
    """Finds the files of each split.

    Args:
        path: A file, or a folder with a file for each split.
        format: ``conll``, ``jsonl`` or ``parquet``.
        split: For a single file: the split it is, whatever its name says.

    Returns:
        Splits in the order train, dev, test, each with its files by name; Parquet may have several.

    Raises:
        NotFoundError: Nothing stands at ``path``.
        InputError: The folder has no such files, or several for one split.
    """
    if path.is_file():
        return {split or split_of_name(path.name) or "train": [path]}
    if not path.exists():
        raise NotFoundError(f"{path} does not exist. Give a file, or a folder with train/dev/test files.")
    if split is not None:
        raise InputError(f"{path} is a folder: its file names tell the splits. Leave out --split.")
    files: dict[Split, list[Path]] = {known: [] for known in SPLITS}
    for file in sorted(path.iterdir()):
        found = split_of_name(file.name) if file.is_file() and file.suffix in _SUFFIXES[format] else None
        if found:
            files[found].append(file)
    _check(files, path, format)
    return {known: found for known, found in files.items() if found}


def _check(files: Mapping[Split, list[Path]], path: Path, format: str) -> None:
    if not any(files.values()):
        there = ", ".join(sorted(file.name for file in path.iterdir())[:8]) or "nothing"
        wanted = ", ".join(sorted(filter(None, _SUFFIXES[format])))
        raise InputError(
            f"{path} has no train, dev or test file of the format {format} ({wanted}); there is {there}."
        )
    for split, found in files.items():
        if len(found) > 1 and format != "parquet":
            names = ", ".join(file.name for file in found)
            raise InputError(f"{path} has several {split} files: {names}. Leave one, or import one file.")
