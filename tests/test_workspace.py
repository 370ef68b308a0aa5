from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieveall.config import PromptConfig, Settings
from retrieveall.errors import ConfigError, IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.workspace import ROOMS, Workspace, WorkspaceState
from tests.stores import workspace_of

BASE, OTHER = "a" * 16, "b" * 16


@pytest.fixture(params=["local", "remote"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    return workspace_of(request.param, tmp_path)


def test_a_new_workspace_has_its_rooms(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "w", create=True)
    assert {path.name for path in (tmp_path / "w").iterdir() if path.is_dir()} == set(ROOMS)
    assert workspace.state() == WorkspaceState()
    assert Workspace.open(tmp_path / "w").uri == workspace.uri == str(tmp_path / "w")


def test_what_is_no_workspace_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        Workspace.open(tmp_path / "missing")
    (tmp_path / "other").mkdir()
    with pytest.raises(NotFoundError, match="is no workspace"):
        Workspace.open(tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_the_first_base_stays(workspace: Workspace) -> None:
    workspace.claim_base("tiny", BASE)
    assert workspace.claim_base("/a/copy/of/tiny", BASE).base_model == "tiny"
    with pytest.raises(ConfigError) as caught:
        workspace.claim_base("Qwen/Qwen3-1.7B", OTHER)
    assert all(part in str(caught.value) for part in ("tiny", BASE, "Qwen/Qwen3-1.7B", OTHER))
    assert workspace.state().base_digest == BASE


def test_of_two_bases_at_once_one_stays(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "w", create=True)

    def claim(digest: str) -> str:
        try:
            return str(workspace.claim_base(f"base {digest}", digest).base_digest)
        except ConfigError:
            return "refused"

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(claim, [f"{n:016x}" for n in range(8)]))
    assert answers.count("refused") == 7 and workspace.state().base_digest in answers


def test_the_embedder_is_remembered_beside_the_base(workspace: Workspace) -> None:
    workspace.claim_base("tiny", BASE)
    workspace.set_embedder("ngram")
    state = workspace.set_embedder("lm")
    assert state == workspace.state() == WorkspaceState(base_model="tiny", base_digest=BASE, embedder="lm")
    assert state.to_dict()["format_version"] == 1


def test_settings_come_from_the_file_then_the_environment(workspace: Workspace) -> None:
    workspace.store.write_text(
        "retrieveall.yaml",
        "format_version: 1\nsettings: {prompt: {entity_examples: 3, context_examples: 3}}\n",
    )
    workspace.claim_base("tiny", BASE)
    settings = workspace.settings({"RETRIEVEALL_PROMPT_ENTITY_EXAMPLES": "5"})
    assert settings == Settings(prompt=PromptConfig(entity_examples=5, context_examples=3))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", ConfigError),
        ("[]", ConfigError),
        ("a: b: c", ConfigError),
        ("format_version: 1\nbase: tiny\n", ConfigError),
        ("format_version: 2\nnew: 1\n", IncompatibleArtefactError),
    ],
)
def test_a_broken_file_is_named_and_left_alone(
    workspace: Workspace, text: str, error: type[Exception]
) -> None:
    workspace.store.write_text("retrieveall.yaml", text)
    for use in (workspace.state, lambda: workspace.claim_base("tiny", BASE)):
        with pytest.raises(error, match=r"retrieveall\.yaml"):
            use()
    assert workspace.store.read_text("retrieveall.yaml") == text


def test_names_of_runs_and_reports_stay_inside(workspace: Workspace) -> None:
    assert workspace.run("nl-0a").root == workspace.store.full_path("runs/nl-0a")
    for name in ("../x", "", "a/b", ".hidden"):
        with pytest.raises(InputError):
            workspace.run(name)
        with pytest.raises(InputError):
            workspace.report(name)


def test_a_workspace_travels_to_another_process(workspace: Workspace) -> None:
    workspace.claim_base("tiny", BASE)
    there = pickle.loads(pickle.dumps(workspace))
    assert there.state() == workspace.state() and there.releases.current_number() == 0
