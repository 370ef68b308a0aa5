from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieveall.errors import ConflictError, IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.lora.release import Release
from retrieveall.lora.releases import Publication, Releases
from retrieveall.storage import Store
from retrieveall.workspace import Workspace
from tests.stores import EMBEDDER, add_adapter, add_index, dev, workspace_of

NOW = "2025-01-01T00:00:00+00:00"
INDEX = "1" * 16


@pytest.fixture(params=["local", "remote"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    return workspace_of(request.param, tmp_path)


def _publish(workspace: Workspace, language: str, adapter: str, *, force: bool = False) -> Release:
    return workspace.releases.publish(language, adapter, None, created_at=NOW, force=force)


def test_before_the_first_release_there_is_an_empty_one(workspace: Workspace) -> None:
    assert workspace.releases.current() == Release(number=0)
    assert workspace.releases.history() == ()
    with pytest.raises(NotFoundError, match="no adapter for 'nl'"):
        workspace.releases.current().entry("nl")
    with pytest.raises(NotFoundError, match="no release 1"):
        workspace.releases.load(1)


def test_publishing_adds_a_language_and_leaves_the_others(workspace: Workspace, tmp_path: Path) -> None:
    nl, de = add_adapter(workspace, tmp_path), add_adapter(workspace, tmp_path, seed=1, language="de")
    add_index(workspace, "de", INDEX)
    first = _publish(workspace, "nl", nl)
    second = workspace.releases.publish("de", de, INDEX, created_at=NOW)
    assert (first.number, second.number) == (1, 2)
    assert second.languages["nl"] == first.languages["nl"]
    assert second.entry("de").index == INDEX
    assert workspace.releases.current() == workspace.releases.load(2) == second
    assert workspace.releases.load(1) == first
    assert workspace.releases.history() == (first, second)
    assert workspace.store.read_text("releases/CURRENT") == "2\n"


def test_publishing_what_is_there_writes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    digest = add_adapter(workspace, tmp_path)
    assert _publish(workspace, "nl", digest) == _publish(workspace, "nl", digest)
    assert workspace.releases.current_number() == 1


def test_many_languages_make_one_release_or_none(workspace: Workspace, tmp_path: Path) -> None:
    nl, de = add_adapter(workspace, tmp_path), add_adapter(workspace, tmp_path, seed=1, language="de")
    wishes = [Publication(language=code, adapter=a, index=None) for code, a in (("nl", nl), ("de", de))]
    with pytest.raises(NotFoundError):
        workspace.releases.publish_many(
            [*wishes, Publication(language="fr", adapter="0" * 16, index=None)], created_at=NOW
        )
    assert workspace.releases.current_number() == 0
    assert set(workspace.releases.publish_many(wishes, created_at=NOW).release.languages) == {"de", "nl"}
    for bad in ([], [wishes[0], wishes[0]]):
        with pytest.raises(InputError, match="each language once"):
            workspace.releases.publish_many(bad, created_at=NOW)


def test_a_worse_adapter_needs_force(workspace: Workspace, tmp_path: Path) -> None:
    good = add_adapter(workspace, tmp_path, dev=dev(0.8))
    within = add_adapter(workspace, tmp_path, seed=1, dev=dev(0.72))
    worse = add_adapter(workspace, tmp_path, seed=2, dev=dev(0.6))
    unknown = add_adapter(workspace, tmp_path, seed=3, dev=None)
    _publish(workspace, "nl", good)
    for refused in (worse, unknown):
        with pytest.raises(ConflictError, match=f"{refused}.* below 0.7000"):
            _publish(workspace, "nl", refused)
    assert _publish(workspace, "nl", within).number == 2
    assert _publish(workspace, "nl", worse, force=True).entry("nl").adapter == worse


def test_an_adapter_measured_again_takes_its_own_place_and_does_not_give_it_back(
    workspace: Workspace, tmp_path: Path
) -> None:
    trained = add_adapter(workspace, tmp_path, dev=dev(0.6))
    worse = add_adapter(workspace, tmp_path, dev=dev(0.3), trained_as=trained)
    better = add_adapter(workspace, tmp_path, dev=dev(0.9), trained_as=trained)
    other = add_adapter(workspace, tmp_path, dev=dev(0.3), trained_as="0" * 16)
    _publish(workspace, "nl", trained)
    with pytest.raises(ConflictError, match=r"below 0\.5000"):
        _publish(workspace, "nl", other)
    for again in (worse, better):
        assert _publish(workspace, "nl", again).entry("nl").adapter == again
    with pytest.raises(ConflictError, match=r"below 0\.8000"):
        _publish(workspace, "nl", trained)


def test_what_is_refused_does_not_hold_back_the_others(workspace: Workspace, tmp_path: Path) -> None:
    good = add_adapter(workspace, tmp_path, dev=dev(0.8))
    worse = add_adapter(workspace, tmp_path, seed=1, dev=dev(0.6))
    german = add_adapter(workspace, tmp_path, seed=2, language="de")
    wishes = [
        Publication(language=code, adapter=a, index=None) for code, a in (("nl", worse), ("de", german))
    ]
    _publish(workspace, "nl", good)
    published = workspace.releases.publish_many(wishes, created_at=NOW)
    again = workspace.releases.publish_many(wishes, created_at=NOW)
    assert {code: e.adapter for code, e in published.release.languages.items()} == {"de": german, "nl": good}
    assert published.release.action == "publish de"
    assert list(published.refused) == ["nl"]
    assert f"publish nl@{worse} --force" in published.refused["nl"]
    assert again == published  # nothing new writes nothing
    forced = workspace.releases.publish_many(wishes, created_at=NOW, force=True)
    assert forced.release.entry("nl").adapter == worse and not forced.refused


def test_what_was_refused_is_named_where_the_rest_does_not_fit_beside_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    _publish(workspace, "nl", add_adapter(workspace, tmp_path, dev=dev(0.8)))
    other = "d" * 16
    worse = add_adapter(workspace, tmp_path, seed=1, dev=dev(0.6), base_digest=other)
    german = add_adapter(workspace, tmp_path, seed=2, language="de", base_digest=other)
    wishes = [
        Publication(language=code, adapter=a, index=None) for code, a in (("nl", worse), ("de", german))
    ]
    with pytest.raises(IncompatibleArtefactError, match=f"one base model.*publish nl@{worse} --force"):
        workspace.releases.publish_many(wishes, created_at=NOW)
    assert workspace.releases.current_number() == 1


def test_a_pin_holds_until_force(workspace: Workspace, tmp_path: Path) -> None:
    old, new = add_adapter(workspace, tmp_path), add_adapter(workspace, tmp_path, seed=1, dev=dev(0.9))
    _publish(workspace, "nl", new)
    assert workspace.releases.pin("nl", old, created_at=NOW).entry("nl").pinned
    with pytest.raises(ConflictError, match=f"pinned to adapter {old}"):
        _publish(workspace, "nl", new)
    add_index(workspace, "nl", INDEX)
    assert workspace.releases.publish("nl", old, INDEX, created_at=NOW).entry("nl").pinned
    assert not _publish(workspace, "nl", new, force=True).entry("nl").pinned


def test_a_pin_takes_the_index_of_the_card_where_it_is(workspace: Workspace, tmp_path: Path) -> None:
    here, gone = add_index(workspace, "nl", INDEX), "2" * 16
    first = add_adapter(workspace, tmp_path, index_digest=here)
    second = add_adapter(workspace, tmp_path, seed=1, index_digest=gone)
    assert workspace.releases.pin("nl", first, created_at=NOW).entry("nl").index == here
    assert workspace.releases.pin("nl", second, created_at=NOW).entry("nl").index == here


def test_rollbacks_go_further_and_further_back(workspace: Workspace, tmp_path: Path) -> None:
    digests = [add_adapter(workspace, tmp_path, seed=seed) for seed in range(3)]
    for digest in digests:
        _publish(workspace, "nl", digest)
    rolled = [workspace.releases.rollback(created_at=NOW) for _ in range(2)]
    assert [release.entry("nl").adapter for release in rolled] == [digests[1], digests[0]]
    assert [release.number for release in rolled] == [4, 5]
    with pytest.raises(NotFoundError, match="no release before 5"):
        workspace.releases.rollback(created_at=NOW)
    assert workspace.releases.rollback(3, created_at=NOW).entry("nl").adapter == digests[2]


def test_a_rollback_to_what_is_gone_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    first, second = add_adapter(workspace, tmp_path), add_adapter(workspace, tmp_path, seed=1)
    _publish(workspace, "nl", first)
    _publish(workspace, "nl", second)
    workspace.store.remove(f"pool/nl/{first}")
    with pytest.raises(NotFoundError, match=first):
        workspace.releases.rollback(created_at=NOW)
    assert workspace.releases.current_number() == 2


def test_removing_a_language_keeps_its_adapter(workspace: Workspace, tmp_path: Path) -> None:
    digest = add_adapter(workspace, tmp_path)
    _publish(workspace, "nl", digest)
    empty = workspace.releases.remove("nl", created_at=NOW)
    assert empty.languages == {} and empty.base_digest is None
    assert workspace.pool.get(digest).digest == digest
    with pytest.raises(NotFoundError):
        workspace.releases.remove("nl", created_at=NOW)


def test_a_polyglot_adapter_answers_for_any_language(workspace: Workspace, tmp_path: Path) -> None:
    polyglot = add_adapter(workspace, tmp_path, language="mul")
    assert _publish(workspace, "nl", polyglot).entry("nl").adapter == polyglot
    german = add_adapter(workspace, tmp_path, seed=1, language="de")
    with pytest.raises(InputError, match="is for 'de'"):
        _publish(workspace, "nl", german)


@pytest.mark.parametrize(
    ("field", "value"), [("base_digest", "a" * 16), ("embedder_digest", "d" * 16), ("prompt_format", "0")]
)
def test_a_release_never_mixes(workspace: Workspace, tmp_path: Path, field: str, value: str) -> None:
    nl = add_adapter(workspace, tmp_path, embedder_digest=EMBEDDER)
    de = add_adapter(
        workspace, tmp_path, seed=1, language="de", **{"embedder_digest": EMBEDDER, field: value}
    )
    other = add_adapter(workspace, tmp_path, seed=2, **{"embedder_digest": EMBEDDER, field: value})
    _publish(workspace, "nl", nl)
    with pytest.raises(IncompatibleArtefactError, match=value):
        _publish(workspace, "de", de)
    both = [Publication(language=code, adapter=a, index=None) for code, a in (("nl", other), ("de", de))]
    assert getattr(workspace.releases.publish_many(both, created_at=NOW).release, field) == value


def test_an_index_must_be_complete(workspace: Workspace, tmp_path: Path) -> None:
    digest = add_adapter(workspace, tmp_path)
    add_index(workspace, "nl", INDEX)
    workspace.store.remove(f"indexes/nl/{INDEX}/manifest.json")
    with pytest.raises(NotFoundError, match="no complete index"):
        workspace.releases.publish("nl", digest, INDEX, created_at=NOW)
    with pytest.raises(InputError, match="digest"):
        workspace.releases.publish("nl", digest, "../../x", created_at=NOW)


def test_adapter_and_index_must_be_of_one_embedder(workspace: Workspace, tmp_path: Path) -> None:
    trained = add_adapter(workspace, tmp_path, embedder_digest=EMBEDDER)
    free = add_adapter(workspace, tmp_path, seed=1, language="de")
    other = "d" * 16
    for language in ("nl", "de"):
        add_index(workspace, language, INDEX, embedder=other)
    with pytest.raises(IncompatibleArtefactError, match=f"{EMBEDDER}, here it is {other}"):
        workspace.releases.publish("nl", trained, INDEX, created_at=NOW)
    assert workspace.releases.publish("de", free, INDEX, created_at=NOW).embedder_digest == other
    with pytest.raises(IncompatibleArtefactError, match="One release has one embedder"):
        workspace.releases.publish("nl", trained, None, created_at=NOW)


def test_a_crash_before_current_moves_leaves_one_whole_release(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = add_adapter(workspace, tmp_path), add_adapter(workspace, tmp_path, seed=1)
    _publish(workspace, "nl", first)
    with monkeypatch.context() as patched:

        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(Store, "write_text", crash)
        with pytest.raises(KeyboardInterrupt):
            _publish(workspace, "nl", second)
    assert workspace.store.read_text("releases/CURRENT") == "1\n"
    assert workspace.releases.current().entry("nl").adapter == second  # its number file is the commit
    assert workspace.releases.remove("nl", created_at=NOW).number == 3
    assert workspace.store.read_text("releases/CURRENT") == "3\n"


def test_a_crash_before_the_number_is_written_changes_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = add_adapter(workspace, tmp_path)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "_write_temporary", crash)
        with pytest.raises(KeyboardInterrupt):
            _publish(workspace, "nl", digest)
    assert workspace.releases.current_number() == 0
    assert _publish(workspace, "nl", digest).number == 1


class _Paused(Releases):
    """Waits for the other writers between reading the current release and writing the next."""

    barrier: threading.Barrier

    def current(self) -> Release:
        found = super().current()
        self.barrier.wait(timeout=30)
        return found


@pytest.mark.parametrize("attempt", range(3))
def test_of_two_threads_one_publishes_and_one_is_told(tmp_path: Path, attempt: int) -> None:
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    digests = [add_adapter(workspace, tmp_path, seed=seed) for seed in range(2)]
    plain = workspace.releases
    releases = _Paused(store=plain.store, pool=plain.pool, indexes=plain.indexes)
    object.__setattr__(releases, "barrier", threading.Barrier(2))

    def publish(digest: str) -> Release | ConflictError:
        try:
            return releases.publish("nl", digest, None, created_at=NOW)
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(publish, digests))
    won = [answer for answer in answers if isinstance(answer, Release)]
    lost = [answer for answer in answers if isinstance(answer, ConflictError)]
    assert len(won) == len(lost) == 1
    assert "Release 1 was written by another process" in str(lost[0])
    assert plain.current() == won[0] and plain.history() == (won[0],)


_PUBLISH = """
import sys
from retrieveall.errors import ConflictError
from retrieveall.workspace import Workspace
folder, language, digest = sys.argv[1:]
releases = Workspace.open(folder).releases
sys.stdin.read()
try:
    print(releases.publish(language, digest, None, created_at="now").number)
except ConflictError:
    print("conflict")
"""


def test_processes_never_lose_each_others_languages(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    codes = ["nl", "de", "fr"]
    digests = [add_adapter(workspace, tmp_path, seed=i, language=code) for i, code in enumerate(codes)]
    pipe: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, "-c", _PUBLISH, workspace.uri, code, digest], **pipe)
        for code, digest in zip(codes, digests, strict=True)
    ]
    for process in processes:  # all are let go at once
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    answers = [process.communicate(timeout=100)[0].strip() for process in processes]
    numbers = sorted(int(answer) for answer in answers if answer != "conflict")
    assert numbers == list(range(1, len(numbers) + 1)) and numbers
    told = {code for code, answer in zip(codes, answers, strict=True) if answer != "conflict"}
    assert set(workspace.releases.current().languages) == told


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "9" * 20, "../1"])
def test_a_broken_pointer_is_named(workspace: Workspace, text: str) -> None:
    workspace.store.write_text("releases/CURRENT", text)
    with pytest.raises(InputError, match="CURRENT holds"):
        workspace.releases.current_number()


@pytest.mark.parametrize(
    "change",
    [{"number": 7}, {"languages": {"../x": {"adapter": "0" * 16, "index": None}}}, {"languages": {"nl": 1}}],
)
def test_a_broken_release_is_refused(workspace: Workspace, tmp_path: Path, change: dict[str, object]) -> None:
    release = _publish(workspace, "nl", add_adapter(workspace, tmp_path))
    workspace.store.write_json("releases/1.json", {**release.to_dict(), **change})
    with pytest.raises(InputError):
        workspace.releases.current()


_ACTIONS = st.sampled_from(
    ["publish0", "publish1", "publish2", "force2", "pin0", "rollback", "remove", "lag"]
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_ACTIONS, max_size=8))
def test_whatever_is_done_history_is_whole(
    tmp_path_factory: pytest.TempPathFactory, actions: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    workspace = Workspace.open(folder / "workspace", create=True)
    digests = [add_adapter(workspace, folder, seed=i, dev=dev(0.8 - 0.2 * i)) for i in range(3)]
    releases = workspace.releases
    seen: dict[int, Release] = {}
    for action in actions:
        before = releases.current_number()
        try:
            match action:
                case "rollback":
                    releases.rollback(created_at=NOW)
                case "remove":
                    releases.remove("nl", created_at=NOW)
                case "pin0":
                    releases.pin("nl", digests[0], created_at=NOW)
                case "lag":  # an overtaken writer moves the pointer back
                    releases.store.write_text("CURRENT", str(max(0, before - 1)))
                case _:
                    releases.publish(
                        "nl", digests[int(action[-1])], None, created_at=NOW, force=action == "force2"
                    )
        except (ConflictError, NotFoundError):
            assert releases.current_number() == before
        current = releases.current()
        assert current.number in (before, before + 1)
        assert all(releases.load(number) == release for number, release in seen.items())
        seen |= {current.number: current} if current.number else {}
    assert [release.number for release in releases.history()] == list(range(1, releases.current_number() + 1))
