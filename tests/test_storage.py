from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieveall.errors import ConfigError, ConflictError, InputError, NotFoundError
from retrieveall.storage import TEMPORARY_PREFIX, Store
from tests.stores import remote_store, store_of


@pytest.fixture(params=["local", "remote", "fsspec"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return store_of(request.param, tmp_path)


def test_what_is_written_is_read_and_replaced_whole(store: Store) -> None:
    store.write_json("a/b.json", {"x": "é"})
    assert store.read_json("a/b.json") == {"x": "é"}
    store.write_text("a/b.json", "[]")
    assert store.read_json("a/b.json") == []
    assert [file.path for file in store.files()] == ["a/b.json"]
    assert store.size_bytes("a/b.json") == 2


def test_stores_are_picklable(store: Store) -> None:
    store.write_text("x", "1")
    assert pickle.loads(pickle.dumps(store)).read_text("x") == "1"


def test_a_crash_while_writing_leaves_the_old_content(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_text("CURRENT", "1")

    def crash(*_: object) -> None:
        raise OSError("power gone")

    monkeypatch.setattr(os, "replace", crash)
    if not store.is_local:
        monkeypatch.setattr(Store, "_write_temporary", crash)
    with pytest.raises(OSError, match="power gone"):
        store.write_text("CURRENT", "2")
    assert store.read_text("CURRENT") == "1"
    assert store.list() == ("CURRENT",)


def test_readers_never_see_half_a_file(store: Store) -> None:
    store.write_bytes("x", b"a" * 100_000)
    stop = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(store.read_bytes("x"))

    with ThreadPoolExecutor(1) as threads:
        reader = threads.submit(read)
        for letter in b"bcdefgh" * 2:
            store.write_bytes("x", bytes([letter]) * 100_000)
        stop.set()
        reader.result()
    assert seen and all(len(data) == 100_000 and len(set(data)) == 1 for data in seen)


def test_write_once_refuses_a_second_content(store: Store) -> None:
    store.write_once("1.json", b"first")
    with pytest.raises(ConflictError, match="never replaced"):
        store.write_once("1.json", b"second")
    assert store.read_bytes("1.json") == b"first"
    assert [file.path for file in store.files()] == ["1.json"]


def _race(store: Store, writers: int) -> list[bytes]:
    barrier = threading.Barrier(writers)

    def write(number: int) -> bytes | None:
        barrier.wait()
        try:
            store.write_once("sub/1.json", data := str(number).encode() * 1000)
        except ConflictError:
            return None
        return data

    with ThreadPoolExecutor(writers) as threads:
        return [data for data in threads.map(write, range(writers)) if data is not None]


@pytest.mark.parametrize("attempt", range(5))
def test_of_many_local_writers_exactly_one_wins(tmp_path: Path, attempt: int) -> None:
    store = Store.open(tmp_path, create=True)
    won = _race(store, 8)
    assert len(won) == 1 and store.read_bytes("sub/1.json") == won[0]


@pytest.mark.parametrize("attempt", range(5))
def test_of_many_remote_writers_at_most_one_wins(tmp_path: Path, attempt: int) -> None:
    store = remote_store(tmp_path)
    won = _race(store, 4)
    assert len(won) <= 1
    assert store.exists("sub/1.json") == bool(won)
    assert not [file for file in store.files() if TEMPORARY_PREFIX in file.path]


def test_a_dead_remote_writer_does_not_block_for_ever(tmp_path: Path) -> None:
    store = remote_store(tmp_path)
    claim = f"{TEMPORARY_PREFIX}claim-1.json-dead"
    store.write_bytes(claim, b"")
    with pytest.raises(ConflictError):
        store.write_once("1.json", b"x")
    os.utime(tmp_path / "bucket" / claim, (1, 1))
    store.write_once("1.json", b"x")
    assert store.read_bytes("1.json") == b"x"


def test_write_once_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "not on this disk")

    monkeypatch.setattr(os, "link", no_links)
    store = Store.open(tmp_path, create=True)
    store.write_once("x", b"1")
    with pytest.raises(ConflictError):
        store.write_once("x", b"2")
    assert store.read_bytes("x") == b"1"


def test_remove_takes_folders_and_files_and_nothing(store: Store) -> None:
    store.write_text("en/1/sub/rows", "one")
    store.write_text("en/1/manifest.json", "{}")
    store.write_text("x", "1")
    store.remove("en/1", marker="manifest.json")
    store.remove("x")
    store.remove("never/there")
    assert store.files() == ()


@pytest.mark.parametrize(
    "use", [Store.read_bytes, Store.exists, Store.list, Store.child, Store.remove, Store.full_path]
)
def test_paths_outside_are_refused(store: Store, use: Callable[[Store, str], object]) -> None:
    with pytest.raises(InputError, match="relative path"):
        use(store, "../x")


def test_open_explains_what_it_cannot_open(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        Store.open(tmp_path / "missing")
    with pytest.raises(ConfigError, match="names no filesystem"):
        Store.open("ftp://host/folder")
    with pytest.raises(ConfigError, match="empty path"):
        Store.open("")


def test_open_takes_file_uris(tmp_path: Path) -> None:
    Store.open(f"file://{tmp_path}/a", create=True).write_text("x", "1")
    assert (tmp_path / "a" / "x").read_text() == "1"


def test_broken_files_are_named(store: Store) -> None:
    store.write_bytes("bad.json", b"{")
    store.write_bytes("bad.txt", b"\xff")
    with pytest.raises(InputError, match=r"bad\.json is not valid JSON"):
        store.read_json("bad.json")
    with pytest.raises(InputError, match=r"bad\.txt is not UTF-8"):
        store.read_text("bad.txt")
    with pytest.raises(NotFoundError, match="no file"):
        store.read_json("none.json")


def test_a_lock_lets_one_writer_in(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.write_text("count", "0")

    def add(_: int) -> None:
        with store.lock(".lock"):
            store.write_text("count", str(int(store.read_text("count")) + 1))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(40)))
    assert store.read_text("count") == "40"
