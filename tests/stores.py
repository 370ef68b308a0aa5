"""Workspaces and stores for tests: local ones, and a stand-in for a remote filesystem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]  # publishes no types
import pyarrow.fs as pafs
import torch
from safetensors.torch import save_file

from retrieveall.lora.card import AdapterCard, DevScores
from retrieveall.storage import Store, json_bytes
from retrieveall.workspace import Workspace

BASE = "b" * 16
EMBEDDER = "e" * 16
CORPUS = "c" * 16


def remote_store(folder: Path) -> Store:
    """Returns a store that does not know that it is on a local disk, as s3:// would not."""
    folder.mkdir(parents=True, exist_ok=True)
    subtree = pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem())
    subtree.create_dir("bucket")
    return Store(uri="remote://bucket", filesystem=subtree, root="bucket")


def memory_store(name: str) -> Store:
    """Returns a store on a filesystem of fsspec, which knows no times and lists with leading slashes."""
    filesystem = pafs.PyFileSystem(pafs.FSSpecHandler(fsspec.filesystem("memory")))
    filesystem.create_dir(name)
    return Store(uri=f"memory://{name}", filesystem=filesystem, root=name)


def store_of(kind: str, folder: Path) -> Store:
    """Returns an empty store: ``local``, ``remote`` or ``fsspec``."""
    if kind == "fsspec":
        return memory_store(folder.name)
    return remote_store(folder) if kind == "remote" else Store.open(folder / "local", create=True)


def workspace_of(kind: str, folder: Path) -> Workspace:
    """Returns an empty workspace: ``local``, or in a ``remote`` store."""
    return remote_workspace(folder) if kind == "remote" else Workspace.open(folder / "workspace", create=True)


def remote_workspace(folder: Path) -> Workspace:
    """Returns an empty workspace in a `remote_store`."""
    workspace = Workspace(store=remote_store(folder / "remote"), cache=folder / "cache")
    workspace.store.write_text("retrieveall.yaml", "format_version: 1\n")
    return workspace


def card(language: str = "nl", **fields: Any) -> AdapterCard:
    """Returns a card with dev F1 0.5 (0.4 to 0.6) unless told otherwise."""
    known: dict[str, Any] = {
        "base_model": "tiny",
        "base_digest": BASE,
        "labels": ("PER", "LOC"),
        "corpus": "sample",
        "corpus_digest": CORPUS,
        "created_at": "2025-01-01T00:00:00+00:00",
        "dev": dev(0.5),
        "examples_in_training": True,
    }
    return AdapterCard(language=language, **{**known, **fields})


def dev(f1: float) -> DevScores:
    """Returns dev scores with an interval of ± 0.1."""
    return DevScores(f1=f1, f1_low=max(0.0, f1 - 0.1), f1_high=min(1.0, f1 + 0.1), sentences=100)


def peft_folder(folder: Path, *, seed: int = 0, rank: int = 8, **config: Any) -> Path:
    """Writes a minimal pair of PEFT files for one linear layer and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 16, "bias": "none"}
    (folder / "adapter_config.json").write_bytes(
        json_bytes({**fields, "target_modules": ["q_proj"], **config})
    )
    generator = torch.Generator().manual_seed(seed)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    tensors = {
        name.format("A"): torch.randn(rank, 4, generator=generator),
        name.format("B"): torch.randn(6, rank, generator=generator),
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def add_adapter(workspace: Workspace, folder: Path, *, seed: int = 0, **fields: Any) -> str:
    """Adds a small adapter to the pool and returns its digest."""
    return workspace.pool.add(peft_folder(folder / f"peft{seed}", seed=seed), card(**fields))


def add_index(workspace: Workspace, language: str, digest: str, *, embedder: str = EMBEDDER) -> str:
    """Puts a complete index of no content into the workspace and returns its digest."""
    workspace.indexes.write_bytes(f"{language}/{digest}/context/shard-00000.faiss", b"rows")
    workspace.indexes.write_json(f"{language}/{digest}/manifest.json", {"embedder_digest": embedder})
    return digest
