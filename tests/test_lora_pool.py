from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch

from retrieveall.digests import digest_json
from retrieveall.errors import InputError, NotFoundError
from retrieveall.lora.peft_files import check_peft_files
from retrieveall.lora.pool import adapter_digest
from retrieveall.workspace import Workspace
from tests.models import ARCHITECTURES, Architecture, save_tiny_adapter, tiny_model
from tests.stores import add_adapter, card, peft_folder, remote_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace", create=True)


def test_what_is_added_is_found(workspace: Workspace, tmp_path: Path) -> None:
    digest = add_adapter(workspace, tmp_path)
    other = add_adapter(workspace, tmp_path, seed=1, language="de")
    assert workspace.pool.get(digest).card == card()
    assert [adapter.digest for adapter in workspace.pool.list()] == [other, digest]
    assert [adapter.digest for adapter in workspace.pool.list("nl")] == [digest]
    assert workspace.pool.path(digest) == tmp_path / "workspace" / "pool" / "nl" / digest
    names = {path.name for path in workspace.pool.path(digest).iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "card.json"}
    assert workspace.pool.verify(digest).to_dict()["digest"] == digest


def test_the_same_training_again_is_the_same_adapter(workspace: Workspace, tmp_path: Path) -> None:
    first = add_adapter(workspace, tmp_path, created_at="2025-01-01")
    before = {path: path.stat().st_mtime_ns for path in workspace.pool.path(first).iterdir()}
    assert add_adapter(workspace, tmp_path, created_at="2026-01-01") == first
    assert {path: path.stat().st_mtime_ns for path in workspace.pool.path(first).iterdir()} == before
    assert add_adapter(workspace, tmp_path, labels=("PER",)) != first


def test_fields_that_came_later_do_not_rename_older_adapters(tmp_path: Path) -> None:
    first = (
        "language base_model base_digest labels corpus corpus_digest strategy index_digest embedder"
        " embedder_digest prompt_format entity_examples context_examples threshold_std examples_in_training"
        " dev dev_by_language calibration synthetic training initial_adapter licence format_version"
    )
    files, one = check_peft_files(peft_folder(tmp_path / "peft"), base_model="tiny"), card()
    counted = {field: one.to_dict()[field] for field in first.split()}
    assert adapter_digest(files, one) == digest_json({"files": files.digest, "card": counted})
    later = replace(one, prior_weights={"nl": 1.0}, prior_indexes={"nl": "0" * 16})
    changed = [
        replace(later, prior_indexes={}),
        replace(later, prior_format=4),
        replace(later, trained_as="0" * 16),
    ]
    assert len({adapter_digest(files, one) for one in (later, *changed)}) == 4


def test_many_writers_of_one_adapter_leave_one(workspace: Workspace, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "peft")
    with ThreadPoolExecutor(4) as threads:
        digests = set(threads.map(lambda _: workspace.pool.add(folder, card()), range(8)))
    assert len(digests) == 1 and len(workspace.pool.list()) == 1
    assert workspace.store.list("pool") == ("nl",)


def test_a_bad_adapter_leaves_nothing_behind(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        workspace.pool.add(peft_folder(tmp_path / "peft", use_dora=True), card())
    with pytest.raises(InputError):
        workspace.pool.add(peft_folder(tmp_path / "good"), card("../x"))
    with pytest.raises(ValueError, match="serialize"):
        workspace.pool.add(peft_folder(tmp_path / "good"), card(training={"model": object()}))
    assert workspace.store.child("pool").entries() == ()


@pytest.mark.parametrize("digest", ["../nl", "..", "", "0" * 15, "a/b"])
def test_digests_never_leave_the_pool(workspace: Workspace, digest: str) -> None:
    for use in (workspace.pool.get, workspace.pool.path, workspace.pool.verify):
        with pytest.raises(InputError, match="digest"):
            use(digest)


def test_what_is_not_there_is_not_found(workspace: Workspace, tmp_path: Path) -> None:
    digest = add_adapter(workspace, tmp_path)
    assert workspace.pool.has(digest)
    with pytest.raises(NotFoundError, match="adapters list"):
        workspace.pool.get("0" * 16)
    (workspace.pool.path(digest) / "card.json").unlink()
    with pytest.raises(NotFoundError):
        workspace.pool.get(digest)
    assert workspace.pool.list() == () and not workspace.pool.has(digest)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"language": "nl"}', "\0"])
def test_a_corrupt_card_is_named(workspace: Workspace, tmp_path: Path, text: str) -> None:
    digest = add_adapter(workspace, tmp_path)
    (workspace.pool.path(digest) / "card.json").write_text(text)
    with pytest.raises(InputError, match=rf"nl/{digest}/card\.json"):
        workspace.pool.get(digest)


def test_a_card_in_the_wrong_folder_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    digest = add_adapter(workspace, tmp_path)
    pool = workspace.store.local_path("pool")
    (pool / "nl").rename(pool / "de")
    with pytest.raises(InputError, match="stands in 'de'"):
        workspace.pool.get(digest)


def test_verify_notices_changed_weights_and_cards(workspace: Workspace, tmp_path: Path) -> None:
    digest = add_adapter(workspace, tmp_path)
    path = workspace.pool.path(digest)
    whole = (path / "card.json").read_text()
    values = json.loads(whole)
    values["dev"]["f1"] = 0.55
    (path / "card.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="was changed"):
        workspace.pool.verify(digest)
    (path / "card.json").write_text(whole)
    peft_folder(path, seed=1)
    with pytest.raises(InputError, match="was changed"):
        workspace.pool.verify(digest)


def test_remote_adapters_are_copied_once(tmp_path: Path) -> None:
    workspace = remote_workspace(tmp_path)
    digest = add_adapter(workspace, tmp_path)
    path = workspace.pool.path(digest)
    assert path == tmp_path / "cache" / digest and (path / "adapter_model.safetensors").is_file()
    assert workspace.pool.verify(digest).digest == digest
    assert add_adapter(workspace, tmp_path) == digest


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_plain_peft_reads_the_pool_with_the_same_logits(
    workspace: Workspace, tmp_path: Path, architecture: Architecture
) -> None:
    saved = save_tiny_adapter(tmp_path / "peft", tiny_model(architecture), rank=8, seed=3)
    digest = workspace.pool.add(saved, card())
    prompt_BT = torch.arange(20, 40).view(2, 10)
    base_logits_BTV = tiny_model(architecture)(prompt_BT).logits
    logits_BTV = [
        peft.PeftModel.from_pretrained(tiny_model(architecture), str(folder))(prompt_BT).logits
        for folder in (saved, workspace.pool.path(digest))
    ]
    assert torch.equal(logits_BTV[0], logits_BTV[1])
    assert not torch.allclose(logits_BTV[0], base_logits_BTV)
