from __future__ import annotations

from pathlib import Path

import pytest

from retrieveall.errors import InputError, NotFoundError
from retrieveall.folders import fetch_folder, publish_folder, temporary_folder
from retrieveall.storage import Store
from tests.stores import remote_store, store_of


@pytest.fixture(params=["local", "remote", "fsspec"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return store_of(request.param, tmp_path)


def _publish(store: Store, content: str, path: str = "en/1") -> bool:
    with temporary_folder(store) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "rows").write_text(content)
        (folder / "manifest.json").write_text("{}")
        return publish_folder(store, folder, path, marker="manifest.json")


def test_a_folder_appears_whole_and_once(store: Store) -> None:
    assert _publish(store, "one")
    assert not _publish(store, "two")
    assert store.read_text("en/1/sub/rows") == "one"
    assert store.list() == ("en",) and store.list("en/1") == ("manifest.json", "sub")


def test_a_folder_without_its_marker_is_replaced(store: Store) -> None:
    store.write_text("en/1/sub/rows", "half")
    assert _publish(store, "whole")
    assert store.read_text("en/1/sub/rows") == "whole"


def test_a_folder_must_have_its_marker(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no manifest\.json"):
        publish_folder(store, tmp_path, "en/1", marker="manifest.json")


def test_fetch_copies_remote_folders_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVEALL_CACHE", str(tmp_path / "cache"))
    store = remote_store(tmp_path / "far")
    _publish(store, "one")
    copy = fetch_folder(store, "en/1", "0" * 16)
    assert copy == tmp_path / "cache" / ("0" * 16)
    assert (copy / "sub" / "rows").read_text() == "one"
    store.remove("en/1/sub/rows")
    assert (fetch_folder(store, "en/1", "0" * 16) / "sub" / "rows").read_text() == "one"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["0" * 16]


def test_fetch_of_a_local_folder_is_the_folder(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    _publish(store, "one")
    assert fetch_folder(store, "en/1", "0" * 16) == tmp_path / "en" / "1"
    with pytest.raises(NotFoundError, match="no folder"):
        fetch_folder(store, "en/2", "0" * 16)
