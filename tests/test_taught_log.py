from __future__ import annotations

import threading
from pathlib import Path

import pytest

from retrieveall.errors import ConflictError, InputError, ServiceUnavailable
from retrieveall.taught.example import TaughtExample
from retrieveall.taught.log import TaughtLog
from retrieveall.types import GoldEntity
from tests.stores import store_of


@pytest.fixture(params=["local", "remote", "fsspec"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> TaughtLog:
    return TaughtLog(store=store_of(request.param, tmp_path).child("taught"))


def example(text: str, *, seq: int = 0, deleted: bool = False) -> TaughtExample:
    entities = (GoldEntity(start_char=0, end_char=1, label="PER"),)
    return TaughtExample(
        id=f"{len(text):016x}",
        language="de",
        seq=seq,
        created_at="2026-01-01T00:00:00+00:00",
        text="" if deleted else text,
        entities=() if deleted else entities,
        deleted=deleted,
    )


def test_calls_are_numbered_and_read_back_from_any_filesystem(log: TaughtLog) -> None:
    assert log.read_all("me") == (0, [])
    assert log.append("me", [example("A"), example("Ωß 👩")], after=0) == 1
    assert log.append("me", [example("A", deleted=True)], after=0) == 2
    assert log.append("you", [example("B")], after=0) == 1

    everything = [example("A", seq=1), example("Ωß 👩", seq=1), example("A", seq=2, deleted=True)]
    assert log.read_all("me") == (2, everything)
    assert log.read_after("me", 1) == (2, everything[2:])
    assert log.read_after("me", 2) == (2, [])
    assert log.namespaces() == ("me", "you")


def test_a_checkpoint_stands_for_the_calls_before_it(log: TaughtLog) -> None:
    log.append("me", [example("A")], after=0)
    log.append("me", [example("A", deleted=True)], after=1)
    log.write_checkpoint("me", 2, [example("A", seq=2, deleted=True)])
    log.append("me", [example("BB")], after=0)

    assert log.read_all("me") == (3, [example("A", seq=2, deleted=True), example("BB", seq=3)])
    assert log.read_after("me", 2) == (3, [example("BB", seq=3)])


def test_writers_at_once_leave_no_gap_and_lose_nothing(tmp_path: Path) -> None:
    log = TaughtLog(store=store_of("local", tmp_path).child("taught"))
    numbers: list[int] = []

    def write(who: int) -> None:
        rows = [example("x" * (10 * who + turn + 1)) for turn in range(5)]
        numbers.extend(log.append("me", [row], after=0) for row in rows)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(numbers) == list(range(1, 31))
    last, rows = log.read_all("me")
    assert last == 30 and len({row.text for row in rows}) == 30


def test_a_store_where_nobody_ever_wins_is_told_to_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = TaughtLog(store=store_of("local", tmp_path).child("taught"))

    def taken(*_: object) -> None:
        raise ConflictError("taken")

    monkeypatch.setattr("retrieveall.taught.log.time.sleep", lambda _: None)
    monkeypatch.setattr("retrieveall.storage.Store.write_once", taken)
    with pytest.raises(ServiceUnavailable, match="after 1 second"):
        log.append("me", [example("A")], after=0)


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "ü"])
def test_names_that_are_no_folder_are_refused(tmp_path: Path, name: str) -> None:
    log = TaughtLog(store=store_of("local", tmp_path).child("taught"))
    with pytest.raises(InputError, match="namespace"):
        log.append(name, [example("A")], after=0)
    with pytest.raises(InputError, match="namespace"):
        log.read_all(name)


def test_broken_and_foreign_files_are_told(tmp_path: Path) -> None:
    log = TaughtLog(store=store_of("local", tmp_path).child("taught"))
    log.store.write_bytes("me/00000001.arrow", b"no arrow")
    with pytest.raises(InputError, match="cannot be read"):
        log.read_all("me")
