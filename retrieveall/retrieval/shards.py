"""Vector shards: making one, opening several, searching them as if they were one.

Vectors are unit length, so the inner product is the cosine. Flat shards are exact: candidates are
scored again in float64, similarities rounded to six digits and ties broken by row, so any number of
shards gives the same rows in the same order. IVF and HNSW shards are faster and may miss neighbours.
Axes: Q queries, D dimensions, R rows, k neighbours. faiss is imported when a shard is made or opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from retrieveall.embedding.protocol import Vectors
from retrieveall.errors import ConfigError, IncompatibleArtefactError

IndexKind = Literal["auto", "flat", "ivf", "hnsw"]
INDEX_KINDS: tuple[IndexKind, ...] = ("auto", "flat", "ivf", "hnsw")
Rows = NDArray[np.int64]

AUTO_IVF_ROWS = 10_000
"""From so many rows a shard is IVF by default: a flat search would cost more than 2 ms a query."""

_DECIMALS = 6
_SLACK = 16
_QUERY_BATCH = 256  # bounds the memory of scoring again
_PROBE_SHARE = 8  # one in eight lists is probed: 83 % of the true neighbours on PAN-X at a tenth of the time
_HNSW_LINKS, _HNSW_BUILD, _HNSW_SEARCH = 16, 80, 64


def shard_kind(kind: IndexKind, rows: int) -> IndexKind:
    """Returns the kind that a shard of so many rows gets.

    Raises:
        ConfigError: The kind is unknown.
    """
    if kind not in INDEX_KINDS:
        raise ConfigError(f"There is no index kind {kind!r}. Known: {', '.join(INDEX_KINDS)}.")
    if kind == "auto":
        return "ivf" if rows >= AUTO_IVF_ROWS else "flat"
    return kind


def build_shard(vectors: Vectors, kind: IndexKind = "auto") -> bytes:
    """Makes one shard.

    Args:
        vectors: float32 ``(R, D)``, unit rows.
        kind: ``auto`` chooses flat or IVF by R.

    Returns:
        The content of the shard's file.
    """
    import faiss

    return bytes(faiss.serialize_index(build_index(vectors, kind)))


def build_index(vectors: Vectors, kind: IndexKind = "auto") -> Any:
    """Makes the faiss index of one shard, in memory; see `build_shard`."""
    import faiss

    vectors = np.ascontiguousarray(vectors, np.float32)
    rows, dimensions = vectors.shape
    chosen = shard_kind(kind, rows)
    index: Any
    if chosen == "hnsw":
        index = faiss.IndexHNSWFlat(dimensions, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _HNSW_BUILD
    elif chosen == "ivf":
        lists = max(1, 1 << round(np.log2(max(rows, 1)) / 2))
        coarse = faiss.IndexFlatIP(dimensions)
        index = faiss.IndexIVFFlat(coarse, dimensions, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1
        return _tuned(_fill_ivf(index, vectors))
    else:
        index = faiss.IndexFlatIP(dimensions)
    index.add(vectors)
    return _tuned(index)


def _fill_ivf(index: Any, vectors: Vectors) -> Any:
    """Trains and fills an IVF index on a GPU where faiss has one; it is searched on CPUs all the same."""
    import faiss

    on_gpu = getattr(faiss, "get_num_gpus", lambda: 0)() > 0  # faiss-cpu has none, or no such function
    if on_gpu:
        resources = faiss.StandardGpuResources()  # must outlive the index that it holds
        index = faiss.index_cpu_to_gpu(resources, 0, index)
    index.train(vectors)
    index.add(vectors)
    return faiss.index_gpu_to_cpu(index) if on_gpu else index


class ShardSet:
    """The vectors of one granularity, over all shards.

    Args:
        indexes: faiss indexes, row numbers counting on from one to the next.
        dimensions: D, needed when there is no shard.
    """

    def __init__(self, indexes: Sequence[Any], dimensions: int) -> None:
        self._indexes = list(indexes)
        self._dimensions = dimensions
        self._first = np.cumsum([0, *(index.ntotal for index in self._indexes)]).astype(np.int64)
        self.exact = all(_is_flat(index) for index in self._indexes)

    @classmethod
    def open(cls, files: Sequence[Path], dimensions: int, *, mapped: bool = True) -> ShardSet:
        """Opens shard files; mapped ones are read page by page as searches touch them.

        Raises:
            IncompatibleArtefactError: A file has other dimensions or cannot be read.
        """
        return cls([_open(file, dimensions, mapped) for file in files], dimensions)

    def __len__(self) -> int:
        return int(self._first[-1])

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.float32], Rows]:
        """Finds the k nearest rows of each query, by cosine, then by row.

        Args:
            queries: float32 ``(Q, D)``.
            k: Neighbours wanted.

        Returns:
            Similarities and rows, both ``(Q, k)``; where there are fewer rows than k the rest is
            -inf and -1.
        """
        wanted = min(k, len(self))
        similarities = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        find = self._exact if self.exact else self._merged
        for first in range(0, len(queries) if wanted else 0, _QUERY_BATCH):
            batch = slice(first, first + _QUERY_BATCH)
            found = find(queries[batch], wanted)
            similarities[batch, :wanted], rows[batch, :wanted] = found[0][:, :wanted], found[1][:, :wanted]
        return similarities, rows

    def _merged(self, queries: Vectors, k: int) -> tuple[NDArray[np.float64], Rows]:
        """Asks every shard for its k nearest and puts them in order."""
        found = [index.search(queries, min(k, index.ntotal)) for index in self._indexes]
        similarities = np.concatenate([s for s, _ in found], axis=1).astype(np.float64)
        starts = self._first[: len(found)]
        rows = np.concatenate(
            [np.where(r < 0, -1, r + a) for (_, r), a in zip(found, starts, strict=True)], axis=1
        )
        similarities[rows < 0] = -np.inf
        return _ordered(np.round(similarities, _DECIMALS), rows)

    def _exact(self, queries: Vectors, k: int) -> tuple[NDArray[np.float64], Rows]:
        """Fetches more than k until no row outside can tie with the k-th, scores again, puts in order."""
        fetch = min(k + _SLACK, len(self))
        while True:
            raw, rows = self._merged(queries, fetch)
            similarities, rows = _ordered(self._rescored(queries, rows), rows)
            if rows.shape[1] > fetch:  # several shards: only the best `fetch` are sure to be complete
                raw = raw[:, :fetch]
            clear = raw[:, -1] < similarities[:, k - 1] - 10**-_DECIMALS * 10
            if fetch == len(self) or bool(clear.all()):
                return similarities, rows
            fetch = min(fetch * 4, len(self))

    def _rescored(self, queries: Vectors, rows: Rows) -> NDArray[np.float64]:
        """Cosines in float64, which do not depend on how many rows stand beside: ``(Q, k)``."""
        vectors = np.empty((rows.size, self._dimensions), np.float32)
        flat = rows.ravel()
        for index, first, last in zip(self._indexes, self._first[:-1], self._first[1:], strict=True):
            mine = (flat >= first) & (flat < last)
            if mine.any():
                vectors[mine] = index.reconstruct_batch(flat[mine] - first)
        wide = vectors.reshape(*rows.shape, -1).astype(np.float64)
        cosines: NDArray[np.float64] = (wide * queries[:, None, :].astype(np.float64)).sum(axis=-1)
        return cosines.round(_DECIMALS)


def _ordered(similarities: NDArray[np.float64], rows: Rows) -> tuple[NDArray[np.float64], Rows]:
    """Sorts each query's candidates by falling similarity, then by row."""
    order = np.lexsort((rows, -similarities), axis=1)
    return np.take_along_axis(similarities, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _is_flat(index: Any) -> bool:
    import faiss

    return isinstance(index, faiss.IndexFlat)


def _open(file: Path, dimensions: int, mapped: bool) -> Any:
    import faiss

    try:
        index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except RuntimeError as error:
        raise IncompatibleArtefactError(
            f"{file} is not a faiss index that this program can read ({error}). Build the index again."
        ) from None
    if index.d != dimensions:
        raise IncompatibleArtefactError(
            f"{file} holds vectors of {index.d} dimensions, the manifest says {dimensions}. Build it again."
        )
    return _tuned(index)


def _tuned(index: Any) -> Any:
    """Sets how thoroughly an approximate index is searched."""
    import faiss

    if isinstance(index, faiss.IndexIVF):
        index.nprobe = max(1, index.nlist // _PROBE_SHARE)
    elif isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = _HNSW_SEARCH
    return index
