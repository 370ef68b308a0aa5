from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import retrieveall.models.digest
from retrieveall.errors import NotFoundError
from retrieveall.models.digest import base_digest
from tests.models import save_tiny_base


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVEALL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(retrieveall.models.digest, "_known", {})


def test_a_base_is_its_content_wherever_it_stands(tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "base")
    digest = base_digest(base)
    copy = Path(shutil.copytree(base, tmp_path / "elsewhere"))
    (copy / "README.md").write_text("x")
    assert base_digest(copy) == digest
    assert base_digest(save_tiny_base(tmp_path / "seed1", seed=1)) != digest
    (copy / "tokenizer.json").write_text("{}")
    assert base_digest(copy) != digest


def test_weights_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = save_tiny_base(tmp_path / "base")
    digest = base_digest(base)
    monkeypatch.setattr(retrieveall.models.digest, "_known", {})  # another process, the same cache folder
    with monkeypatch.context() as patched:
        patched.setattr(retrieveall.models.digest, "digest_file", lambda _: pytest.fail("read again"))
        assert base_digest(base) == digest
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    os.utime(weights, ns=(1, 1))
    assert base_digest(base) != digest


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": 1}', '{"sha256": "x"}'])
def test_a_broken_cache_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    base = save_tiny_base(tmp_path / "base")
    digest = base_digest(base)
    for record in (tmp_path / "cache").rglob("*.json"):
        record.write_text(text)
    monkeypatch.setattr(retrieveall.models.digest, "_known", {})
    assert base_digest(base) == digest


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(NotFoundError, match="Pickle weights are never read"):
        base_digest(tmp_path)
