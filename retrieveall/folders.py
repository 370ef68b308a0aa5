"""Whole folders of a store: one that appears complete, and a copy of one on this machine.

`publish_folder` makes a folder appear at once on a local disk; on a remote store its marker file is
written last, so readers must take a folder without its marker as not there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs

from retrieveall.atomic import rename_unless_taken
from retrieveall.errors import InputError, NotFoundError
from retrieveall.names import check_path
from retrieveall.storage import Store, temporary_name


@contextlib.contextmanager
def temporary_folder(store: Store, path: str = "") -> Iterator[Path]:
    """Gives a fresh folder on this machine, inside `path` of a local store, removed afterwards.

    Fill it, then hand it to `publish_folder`, which renames it away.
    """
    parent = store.local_path(path) if store.is_local else cache_folder()
    folder = parent / temporary_name()
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish_folder(store: Store, folder: Path, path: str, *, marker: str) -> bool:
    """Makes the content of a local folder appear at `path`, which must not exist yet.

    A folder made by `temporary_folder` of the same local store is renamed, so it appears whole.
    Elsewhere the files are copied and `marker` is written last.

    Returns:
        False when a complete folder (one with its marker) stands there already: it is left alone.

    Raises:
        InputError: `folder` has no file `marker`.
    """
    if not (folder / marker).is_file():
        raise InputError(f"{folder} has no {marker}, which marks it as complete. Write it last.")
    if store.exists(f"{path}/{marker}"):
        return False
    if store.is_local:
        return _rename(store, folder, store.local_path(path), marker)
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    for name in [*(name for name in files if name != marker), marker]:
        _upload(store, folder / name, f"{path}/{name}")
    return True


def fetch_folder(store: Store, path: str, digest: str, *, cache: Path | None = None) -> Path:
    """Returns a local folder with the content of `path`: itself, or a copy named by its digest.

    Args:
        store: Where it is.
        path: A folder that never changes.
        digest: Names the copy; a copy that is there is used as it is.
        cache: Where copies live; default `cache_folder`.

    Raises:
        NotFoundError: There is no such folder.
    """
    if not store.is_folder(path):
        raise NotFoundError(f"There is no folder {path!r} in {store.uri!r}.")
    if store.is_local:
        return store.local_path(path)
    target = (cache or cache_folder()) / check_path(digest)
    if not target.is_dir():
        _download(store, path, target)
    return target


def _rename(store: Store, folder: Path, target: Path, marker: str) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.stat(folder).st_dev != os.stat(target.parent).st_dev:
        with temporary_folder(store) as near:
            return _rename(store, Path(shutil.copytree(folder, near / "copy")), target, marker)
    if rename_unless_taken(folder, target):
        return True
    if (target / marker).is_file():
        return False
    # what a crash left: without its marker nobody reads it
    left = target.rename(target.parent / temporary_name())
    shutil.rmtree(left, ignore_errors=True)
    return rename_unless_taken(folder, target)


def _upload(store: Store, source: Path, path: str) -> None:
    full = store.full_path(path)
    store.filesystem.create_dir(os.path.dirname(full), recursive=True)
    pafs.copy_files(
        str(source),
        full,
        source_filesystem=pafs.LocalFileSystem(),
        destination_filesystem=store.filesystem,
    )


def _download(store: Store, path: str, target: Path) -> None:
    temporary = target.parent / temporary_name()
    temporary.mkdir(parents=True)
    try:
        for file in store.files(path):
            copy = temporary / file.path.removeprefix(f"{path}/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            pafs.copy_files(store.full_path(file.path), str(copy), store.filesystem, pafs.LocalFileSystem())
        rename_unless_taken(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def cache_folder() -> Path:
    """Returns where local copies of remote artefacts live: RETRIEVEALL_CACHE or ~/.cache/retrieveall."""
    return Path(os.environ.get("RETRIEVEALL_CACHE") or "~/.cache/retrieveall").expanduser()
