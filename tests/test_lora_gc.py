from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import retrieveall.lora.gc
from retrieveall.errors import InputError
from retrieveall.lora.gc import GarbageReport, collect_garbage
from retrieveall.storage import TEMPORARY_PREFIX
from retrieveall.workspace import Workspace
from tests.stores import add_adapter, add_index, workspace_of

LATER_S = 4e9  # long after every file of a test
NOW = "2025-01-01T00:00:00+00:00"


@pytest.fixture(params=["local", "remote"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    return workspace_of(request.param, tmp_path)


def _collect(workspace: Workspace, **options: int | bool) -> GarbageReport:
    return collect_garbage(workspace, now_s=LATER_S, min_age_s=3600, **options)  # type: ignore[arg-type]


def _publish(workspace: Workspace, folder: Path, count: int) -> list[str]:
    """Publishes adapters with an index each, one release after the other."""
    digests = []
    for seed in range(count):
        digests.append(add_adapter(workspace, folder, seed=seed))
        index = add_index(workspace, "nl", f"{seed:016x}")
        workspace.releases.publish("nl", digests[-1], index, created_at=NOW)
    return digests


def test_only_what_no_kept_release_names_goes(workspace: Workspace, tmp_path: Path) -> None:
    digests = _publish(workspace, tmp_path, 3)
    report = _collect(workspace, keep_releases=2)
    assert [garbage.path for garbage in report.removed] == [f"pool/nl/{digests[0]}", f"indexes/nl/{0:016x}"]
    assert report.kept_releases == (2, 3) and report.size_bytes > 0
    assert {adapter.digest for adapter in workspace.pool.list()} == set(digests[1:])
    assert workspace.store.list("indexes/nl") == (f"{1:016x}", f"{2:016x}")
    assert len(workspace.releases.history()) == 3
    assert _collect(workspace, keep_releases=2).removed == ()
    assert report.to_dict()["removed"][0]["kind"] == "adapter"


def test_a_dry_run_only_tells(workspace: Workspace, tmp_path: Path) -> None:
    _publish(workspace, tmp_path, 3)
    before = workspace.store.files()
    told = _collect(workspace, keep_releases=1, dry_run=True)
    assert workspace.store.files() == before and told.dry_run
    done = _collect(workspace, keep_releases=1)
    assert done.removed == told.removed and done.size_bytes == told.size_bytes
    assert sum(file.size_bytes for file in before) - done.size_bytes == sum(
        file.size_bytes for file in workspace.store.files()
    )


def test_what_is_young_stays(workspace: Workspace, tmp_path: Path) -> None:
    add_adapter(workspace, tmp_path)
    newest_s = max(file.modified_s or 0.0 for file in workspace.store.files("pool"))
    young = collect_garbage(workspace, now_s=newest_s + 50, min_age_s=60)
    assert young.removed == () and young.too_young == 1
    old = collect_garbage(workspace, now_s=newest_s + 70, min_age_s=60)
    assert len(old.removed) == 1 and workspace.pool.list() == ()


def test_temporary_leftovers_go_and_nothing_else(workspace: Workspace) -> None:
    left = [f"pool/{TEMPORARY_PREFIX}a/x", f"runs/r/{TEMPORARY_PREFIX}b", f"corpora/c/nl/t.{'0' * 32}.tmp"]
    stay = ["corpora/c/nl/train.parquet", "runs/r/notes.tmp", "reports/r/report.json"]
    for path in (*left, *stay):
        workspace.store.write_text(path, "x")
    report = _collect(workspace)
    assert sorted(garbage.path for garbage in report.removed) == sorted(
        [left[2], f"pool/{TEMPORARY_PREFIX}a", left[1]]
    )
    assert all(workspace.store.exists(path) for path in (*stay, "retrieveall.yaml"))
    assert not any(workspace.store.exists(path) for path in left)


def test_incomplete_artefacts_go_with_what_is_in_them(workspace: Workspace) -> None:
    workspace.store.write_text(f"indexes/nl/{0:016x}/context/{TEMPORARY_PREFIX}x", "rows")
    report = _collect(workspace)
    assert [(garbage.kind, garbage.size_bytes) for garbage in report.removed] == [("index", 4)]
    assert not workspace.store.exists(f"indexes/nl/{0:016x}")


def test_the_same_index_digest_of_another_language_goes(workspace: Workspace, tmp_path: Path) -> None:
    _publish(workspace, tmp_path, 1)
    add_index(workspace, "de", f"{0:016x}")
    assert [garbage.path for garbage in _collect(workspace).removed] == [f"indexes/de/{0:016x}"]


def test_a_release_made_meanwhile_is_honoured(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = add_adapter(workspace, tmp_path)
    plain = retrieveall.lora.gc._artefacts

    def publish_meanwhile(*given: object) -> object:
        found = list(plain(*given))  # type: ignore[arg-type]
        workspace.releases.publish("nl", digest, None, created_at=NOW)
        return found

    monkeypatch.setattr(retrieveall.lora.gc, "_artefacts", publish_meanwhile)
    assert _collect(workspace).removed == ()
    assert workspace.pool.get(digest).digest == digest


def test_limits_are_checked(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="keep_releases=0"):
        _collect(workspace, keep_releases=0)
    with pytest.raises(InputError, match="min_age_s=-1"):
        collect_garbage(workspace, now_s=LATER_S, min_age_s=-1)


def test_times_of_links_and_odd_files_do_no_harm(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    os.symlink(outside, workspace.store.local_path("runs") / f"{TEMPORARY_PREFIX}link")
    _collect(workspace)
    assert (outside / "precious").read_text() == "x"


_STEPS = st.lists(st.sampled_from(["nl", "de", "remove", "rollback", "extra"]), max_size=6)


@settings(max_examples=12, deadline=None)
@given(steps=_STEPS, keep_releases=st.integers(1, 4))
def test_what_a_kept_release_names_is_never_removed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], keep_releases: int
) -> None:
    folder = tmp_path_factory.mktemp("gc")
    workspace = Workspace.open(folder / "workspace", create=True)
    releases = workspace.releases
    for seed, step in enumerate(steps):
        current = releases.current()
        if step == "remove" and current.languages:
            releases.remove(next(iter(current.languages)), created_at=NOW)
        elif step == "rollback" and current.number > 1 and current.restored_from is None:
            releases.rollback(created_at=NOW)
        elif step in ("nl", "de", "extra"):
            language = "nl" if step == "extra" else step
            digest = add_adapter(workspace, folder, seed=seed, language=language)
            index = add_index(workspace, language, f"{seed:016x}")
            if step != "extra":
                releases.publish(language, digest, index, created_at=NOW)
    report = _collect(workspace, keep_releases=keep_releases)
    assert all(path.kind != "temporary" for path in report.removed)
    kept = releases.history()[-keep_releases:]
    named = {
        path
        for release in kept
        for language, entry in release.languages.items()
        for path in (
            f"pool/{language}/{entry.adapter}/card.json",
            f"indexes/{language}/{entry.index}/manifest.json",
        )
    }
    there = {f.path for f in workspace.store.files() if f.path.endswith(("card.json", "manifest.json"))}
    assert there == named
