"""A folder on a local disk or on any pyarrow filesystem, and what all rooms do with its files.

Paths are relative POSIX strings inside the folder (``"en/3f2a/manifest.json"``); absolute paths and
``..`` are refused. What holds:

- `Store.write_bytes` replaces a file atomically: a reader sees the old or the new content whole.
- `Store.write_once` creates a file that may never be replaced; of several writers at once at most one
  wins. On a local disk exactly one does (a hard link, or O_EXCL where links are not supported). On a
  remote store, where pyarrow knows no conditional write, writers announce themselves with claim files
  first: safe where listings are consistent (S3, GCS, Azure), but all of them may lose and must retry.
- Temporary names start with `TEMPORARY_PREFIX`; listings leave them out, ``retrieveall gc`` removes
  those that a crash left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from retrieveall.atomic import link_exclusively, write_through
from retrieveall.errors import ConfigError, ConflictError, InputError, NotFoundError
from retrieveall.names import check_path

TEMPORARY_PREFIX = ".tmp-"
_CLAIM_STALE_S = 600.0  # a writer that has claimed but not written for so long has died


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file or folder of a store.

    Attributes:
        path: Relative to the store, also where it was found below a folder of it.
        size_bytes: 0 for a folder.
        modified_s: Unix time; None where the filesystem does not tell.
    """

    path: str
    size_bytes: int
    modified_s: float | None
    is_folder: bool = False


@dataclass(frozen=True, kw_only=True)
class Store:
    """A folder somewhere. Picklable as its filesystem is; safe to share between threads.

    Attributes:
        uri: What the user named, for messages.
        filesystem: The pyarrow filesystem that holds it.
        root: The folder's path on that filesystem.
    """

    uri: str
    filesystem: pafs.FileSystem
    root: str

    @classmethod
    def open(cls, uri: str | os.PathLike[str], *, create: bool = False) -> Store:
        """Opens a local path or any URI that pyarrow knows (``s3://``, ``gs://``, ``file://`` …).

        Raises:
            ConfigError: The URI names no filesystem.
            NotFoundError: The folder does not exist and `create` is false.
        """
        store = cls.at(uri)
        if create:
            store.filesystem.create_dir(store.root, recursive=True)
        elif not store.is_folder():
            raise NotFoundError(
                f"The folder {store.uri!r} does not exist. Check the path, or create it first."
            )
        return store

    @classmethod
    def at(cls, uri: str | os.PathLike[str]) -> Store:
        """Returns a folder that need not be there.

        Raises:
            ConfigError: The URI names no filesystem.
        """
        filesystem, root = _resolve(os.fspath(uri))
        return cls(uri=os.fspath(uri), filesystem=filesystem, root=root)

    @property
    def is_local(self) -> bool:
        """Whether files can be opened (and mapped) by their path on this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def full_path(self, path: str = "") -> str:
        """Returns the path on `filesystem`, for pyarrow readers.

        Raises:
            InputError: The path is absolute or leaves the folder.
        """
        return f"{self.root}/{check_path(path)}" if path else self.root

    def local_path(self, path: str = "") -> Path:
        """Returns the path on this machine.

        Raises:
            ConfigError: The store is remote; `folders.fetch_folder` makes a local copy.
        """
        if not self.is_local:
            raise ConfigError(f"{self.uri!r} is not a local folder; fetch a local copy of {path!r} first.")
        return Path(self.full_path(path))

    def child(self, path: str) -> Store:
        """Returns a folder inside this one as a store of its own; it need not exist yet."""
        return Store(
            uri=f"{self.uri.rstrip('/')}/{path}", filesystem=self.filesystem, root=self.full_path(path)
        )

    def exists(self, path: str = "") -> bool:
        """Tells whether a file or folder stands there."""
        return bool(self._info(path).type != pafs.FileType.NotFound)

    def is_folder(self, path: str = "") -> bool:
        """Tells whether a folder stands there."""
        return bool(self._info(path).type == pafs.FileType.Directory)

    def size_bytes(self, path: str) -> int:
        """Returns the size of a file, 0 where there is none."""
        return int(self._info(path).size or 0)

    def list(self, path: str = "") -> tuple[str, ...]:
        """Returns the sorted names in a folder without temporary ones; nothing where there is none."""
        selector = pafs.FileSelector(self.full_path(path), allow_not_found=True)
        names = (info.base_name for info in self.filesystem.get_file_info(selector))
        return tuple(sorted(name for name in names if not name.startswith(TEMPORARY_PREFIX)))

    def files(self, path: str = "") -> tuple[StoredFile, ...]:
        """Returns every file below a folder, temporary ones too, sorted by path."""
        return tuple(found for found in self.entries(path) if not found.is_folder)

    def entries(self, path: str = "") -> tuple[StoredFile, ...]:
        """Returns every file and folder below a folder, temporary ones too, sorted by path."""
        selector = pafs.FileSelector(self.full_path(path), allow_not_found=True, recursive=True)
        found = self.filesystem.get_file_info(selector)
        return tuple(sorted(map(self._stored, found), key=lambda file: file.path))

    def read_bytes(self, path: str) -> bytes:
        """Reads a whole file.

        Raises:
            NotFoundError: It does not exist.
        """
        try:
            with self.filesystem.open_input_file(self.full_path(path)) as file:
                return bytes(file.read())
        except FileNotFoundError:
            raise NotFoundError(f"There is no file {path!r} in {self.uri!r}.") from None

    def read_text(self, path: str) -> str:
        """Reads a whole UTF-8 file.

        Raises:
            NotFoundError: It does not exist.
            InputError: It is not UTF-8.
        """
        try:
            return self.read_bytes(path).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.uri}/{path} is not UTF-8 text ({error.reason}).") from None

    def read_json(self, path: str) -> Any:
        """Reads a JSON file.

        Raises:
            NotFoundError: It does not exist.
            InputError: It is not JSON.
        """
        try:
            return json.loads(self.read_text(path))
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{self.uri}/{path} is not valid JSON: {error}") from None

    def write_bytes(self, path: str, data: bytes) -> None:
        """Writes a file atomically, replacing an older one; missing folders are made."""
        temporary = self._write_temporary(path, data)
        if self.is_local:
            os.replace(temporary, self.full_path(path))
        else:
            self.filesystem.move(temporary, self.full_path(path))

    def write_text(self, path: str, text: str) -> None:
        """Writes a UTF-8 file atomically."""
        self.write_bytes(path, text.encode("utf-8"))

    def write_json(self, path: str, value: Any) -> None:
        """Writes a JSON file atomically: sorted keys, indented, real characters, no NaN."""
        self.write_bytes(path, json_bytes(value))

    def write_once(self, path: str, data: bytes) -> None:
        """Creates a file that must not exist yet, with its whole content at once.

        Raises:
            ConflictError: It exists, or another writer is creating it right now.
        """
        if self.exists(path):
            raise _taken(self.uri, path)
        if not self.is_local:
            return self._claim_and_write(path, data)
        temporary = self._write_temporary(path, data)
        try:
            link_exclusively(temporary, self.full_path(path), data)
        except FileExistsError:
            raise _taken(self.uri, path) from None
        finally:
            os.unlink(temporary)
        return None

    def remove(self, path: str, *, marker: str | None = None) -> None:
        """Removes a file or a folder with all it holds; nothing happens where there is none.

        Args:
            path: What to remove.
            marker: The file that marks the folder as complete: it goes first, so that nobody takes a
                half-removed folder for a whole one.
        """
        kind = self._info(path).type
        with contextlib.suppress(FileNotFoundError):
            if kind == pafs.FileType.Directory:
                if marker is not None:
                    self.remove(f"{path}/{marker}")
                self.filesystem.delete_dir(self.full_path(path))
            elif kind != pafs.FileType.NotFound:
                self.filesystem.delete_file(self.full_path(path))

    @contextlib.contextmanager
    def lock(self, path: str) -> Iterator[None]:
        """Lets one process at a time into the block, on a local disk; a crash frees the lock.

        On a remote store there is no lock: the last writer wins.
        """
        if not self.is_local:
            yield
            return
        import fcntl  # not on Windows, where only remote stores work

        target = self.local_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _info(self, path: str) -> pafs.FileInfo:
        return self.filesystem.get_file_info(self.full_path(path))

    def _stored(self, info: pafs.FileInfo) -> StoredFile:
        modified = None if info.mtime_ns is None else info.mtime_ns / 1e9
        # some filesystems list with a leading slash what was asked for without one
        path = info.path.lstrip("/").removeprefix(self.root.lstrip("/")).lstrip("/")
        folder = info.type == pafs.FileType.Directory
        return StoredFile(path=path, size_bytes=info.size or 0, modified_s=modified, is_folder=folder)

    def _write_temporary(self, path: str, data: bytes) -> str:
        """Writes the data beside `path` under a temporary name; returns that name's full path."""
        folder = os.path.dirname(self.full_path(path))
        temporary = f"{folder}/{temporary_name()}"
        self.filesystem.create_dir(folder, recursive=True)
        if self.is_local:
            write_through(Path(temporary), data)
        else:
            with self.filesystem.open_output_stream(temporary) as stream:
                stream.write(data)
        return temporary

    def _claim_and_write(self, path: str, data: bytes) -> None:
        """Remote exclusive creation: announce, look for others and for the file, then write.

        Safe because a claim is removed only after its file stands: of two writers the one that lists
        later sees the other's claim or file. Source: own choice.
        """
        folder = path.rpartition("/")[0]
        prefix = f"{TEMPORARY_PREFIX}claim-{path.rpartition('/')[2]}-"
        mine = f"{folder}/{prefix}{uuid.uuid4().hex}".lstrip("/")
        self.write_bytes(mine, b"")
        try:
            claims = {file.path: file for file in self.files(folder) if f"/{prefix}" in f"/{file.path}"}
            now_s = (claims[mine].modified_s if mine in claims else None) or 0.0
            others = [file for file in claims.values() if file.path != mine]
            rivals = [file for file in others if now_s - (file.modified_s or now_s) < _CLAIM_STALE_S]
            if rivals or self.exists(path):
                raise _taken(self.uri, path)
            self.write_bytes(path, data)
        finally:
            self.remove(mine)


def temporary_name() -> str:
    """Returns a fresh name for something that is not complete yet."""
    return TEMPORARY_PREFIX + uuid.uuid4().hex


def json_bytes(value: Any) -> bytes:
    """Returns the bytes of a JSON file: sorted keys, indented, real characters, no NaN."""
    return (json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    if not uri:
        raise ConfigError("An empty path was given; expected a folder or a filesystem URI.")
    if "://" not in uri:
        return pafs.LocalFileSystem(), Path(uri).expanduser().absolute().as_posix()
    try:
        filesystem, root = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise ConfigError(
            f"The URI {uri!r} names no filesystem that pyarrow knows ({error})."
            " Give a local path or a URI such as s3://bucket/folder or gs://bucket/folder."
        ) from None
    return filesystem, root.rstrip("/")


def _taken(uri: str, path: str) -> ConflictError:
    return ConflictError(
        f"{path!r} in {uri!r} exists already or is being written by another process, and it is never"
        " replaced. Look at what stands there now, then try again."
    )
