from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.embedding.protocol import Vectors, unit_rows
from retrieveall.errors import ConfigError, IncompatibleArtefactError
from retrieveall.retrieval.shards import IndexKind, ShardSet, build_index, build_shard, shard_kind


def vectors(rows: int, seed: int, distinct: int) -> Vectors:
    """Unit vectors of which only so many are distinct, so that ties are common."""
    generator = np.random.default_rng(seed)
    pool = generator.choice([-1.0, 0.0, 1.0, 2.0], size=(distinct, 8)).astype(np.float32)
    return unit_rows(pool[generator.integers(0, distinct, rows)])


def brute_force(stored: Vectors, queries: Vectors, k: int) -> np.ndarray:
    cosines = np.round(queries.astype(np.float64) @ stored.T.astype(np.float64), 6)
    return np.stack([np.lexsort((np.arange(len(stored)), -row))[:k] for row in cosines])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 90),
    distinct=st.integers(1, 90),
    cuts=st.lists(st.integers(0, 90), max_size=4),
    k=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_any_number_of_flat_shards_gives_the_same_rows(
    rows: int, distinct: int, cuts: list[int], k: int, seed: int
) -> None:
    stored, queries = vectors(rows, seed, distinct), vectors(5, seed + 1, 5)
    borders = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    parts = [stored[a:b] for a, b in pairwise(borders)]
    one = ShardSet([build_index(stored, "flat")], 8).search(queries, k)
    many = ShardSet([build_index(part, "flat") for part in parts], 8).search(queries, k)
    np.testing.assert_array_equal(one[1], many[1])
    np.testing.assert_array_equal(one[0], many[0])
    wanted = min(k, rows)
    np.testing.assert_array_equal(one[1][:, :wanted], brute_force(stored, queries, wanted))
    assert (one[1][:, wanted:] == -1).all()
    assert np.isneginf(one[0][:, wanted:]).all()


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_file_finds_what_it_was_made_of(tmp_path: Path, kind: str) -> None:
    stored = unit_rows(np.random.default_rng(0).normal(size=(600, 16)).astype(np.float32))
    files = [tmp_path / "shard-00000.faiss", tmp_path / "shard-00001.faiss"]
    for file, part in zip(files, (stored[:400], stored[400:]), strict=True):
        file.write_bytes(build_shard(part, kind))  # type: ignore[arg-type]
    for mapped in (True, False):
        opened = ShardSet.open(files, 16, mapped=mapped)
        similarities, rows = opened.search(stored[[7, 450]], 3)
        assert len(opened) == 600
        assert rows[:, 0].tolist() == [7, 450]
        np.testing.assert_allclose(similarities[:, 0], 1.0, atol=1e-5)


class FakeGpu:
    """Stands in for faiss-gpu: an index on it is the same index, and all moves are written down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moves: list[str] = []
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
        monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
        monkeypatch.setattr(faiss, "index_cpu_to_gpu", self.to_gpu, raising=False)
        monkeypatch.setattr(faiss, "index_gpu_to_cpu", self.to_cpu, raising=False)

    def to_gpu(self, resources: object, device: int, index: Any) -> Any:
        self.moves.append(f"to GPU {device}, {index.ntotal} rows")
        return index

    def to_cpu(self, index: Any) -> Any:
        self.moves.append(f"to CPU, {index.ntotal} rows")
        return index


@pytest.mark.parametrize(
    ("kind", "moves"), [("ivf", ["to GPU 0, 0 rows", "to CPU, 300 rows"]), ("flat", []), ("hnsw", [])]
)
def test_ivf_shards_are_filled_on_a_gpu_where_faiss_has_one(
    monkeypatch: pytest.MonkeyPatch, kind: IndexKind, moves: list[str]
) -> None:
    stored = unit_rows(np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32))
    without = build_shard(stored, kind)
    gpu = FakeGpu(monkeypatch)
    assert build_shard(stored, kind) == without
    assert gpu.moves == moves


def test_a_faiss_that_knows_no_gpus_fills_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(faiss, "get_num_gpus", raising=False)
    assert build_index(np.eye(4, dtype=np.float32), "ivf").ntotal == 4


def test_nothing_stored_finds_nothing() -> None:
    similarities, rows = ShardSet([], 4).search(np.ones((2, 4), np.float32), 3)
    assert (rows == -1).all()
    assert similarities.shape == (2, 3)


def test_auto_chooses_by_size() -> None:
    assert (shard_kind("auto", 500), shard_kind("auto", 50_000)) == ("flat", "ivf")
    with pytest.raises(ConfigError, match="Known: auto"):
        shard_kind("tree", 1)  # type: ignore[arg-type]


def test_broken_and_foreign_files_are_named(tmp_path: Path) -> None:
    broken, foreign = tmp_path / "broken.faiss", tmp_path / "foreign.faiss"
    broken.write_bytes(b"no index")
    foreign.write_bytes(build_shard(np.eye(4, dtype=np.float32)))
    with pytest.raises(IncompatibleArtefactError, match="can read"):
        ShardSet.open([broken], 4)
    with pytest.raises(IncompatibleArtefactError, match="4 dimensions"):
        ShardSet.open([foreign], 5)
