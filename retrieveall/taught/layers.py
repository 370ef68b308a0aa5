"""Taught examples, ready to be searched: the layers that lie over a language's index."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from retrieveall.retrieval.in_memory import RememberingEmbedder, index_in_memory
from retrieveall.retrieval.index import FoldedIndex, LanguageIndex
from retrieveall.retrieval.layers import Layer
from retrieveall.retrieval.rows import Rows
from retrieveall.taught.book import NamespaceState, TaughtBook
from retrieveall.taught.example import TaughtExample
from retrieveall.taught.log import SHARED
from retrieveall.taught.view import TaughtView

_KEPT = 64  # layers in memory: a namespace has one for each language it was taught in


@dataclass(frozen=True, kw_only=True)
class _Made:
    state: NamespaceState
    rows: list[TaughtExample]
    embedder: RememberingEmbedder
    layer: Layer | None


class TaughtLayers:
    """Makes the layers of namespaces and keeps those used last. Safe to share between threads.

    Args:
        book: What holds in each namespace.
    """

    def __init__(self, book: TaughtBook) -> None:
        self._book = book
        self._made: OrderedDict[Hashable, _Made] = OrderedDict()
        self._lock = threading.Lock()

    def stack(
        self, language: str, index: LanguageIndex, labels: Sequence[str], view: TaughtView
    ) -> list[Layer]:
        """Returns what is searched for a caller, strongest first: its own examples, the shared, the index's.

        Args:
            language: Of the index.
            index: The release's index.
            labels: Those of the language's adapter; examples with others are not shown.
            view: Whose examples, and what must be among them.

        Raises:
            ServiceUnavailable: What must be among them is not there yet.
        """
        shared = self._book.state(SHARED, at_least=view.shared_seq)
        since = index.folded.seq if index.folded else 0
        layers = [self._layer(SHARED, shared, language, index, labels, since)]
        if view.namespace != SHARED:
            own = self._book.state(view.namespace, at_least=view.own_seq)
            layers.insert(0, self._layer(view.namespace, own, language, index, labels, 0))
        if index.folded:
            hidden = _changed(index.folded, shared, language)
            layers.append(Layer(index=index.folded.index, hidden=hidden, taught=True))
        layers.append(Layer(index=index))
        return [layer for layer in layers if layer is not None]

    def _layer(
        self,
        namespace: str,
        state: NamespaceState,
        language: str,
        index: LanguageIndex,
        labels: Sequence[str],
        since: int,
    ) -> Layer | None:
        key = namespace, language, index.embedder.digest, tuple(labels), since
        with self._lock:
            made = self._made.get(key)
            if made is None or made.state is not state:
                rows = [row for row in state.examples(language) if _fits(row, labels, since)]
                made = _renewed(made, state, rows, index)
                self._made[key] = made
            self._made.move_to_end(key)
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return made.layer


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenTaught:
    """The layers of one caller."""

    layers: TaughtLayers
    view: TaughtView

    def stack(self, language: str, index: LanguageIndex, labels: Sequence[str]) -> list[Layer]:
        """See `TaughtLayers.stack`."""
        return self.layers.stack(language, index, labels, self.view)


def _fits(row: TaughtExample, labels: Sequence[str], since: int) -> bool:
    return row.seq > since and all(entity.label in labels for entity in row.entities)


def _renewed(
    made: _Made | None, state: NamespaceState, rows: list[TaughtExample], index: LanguageIndex
) -> _Made:
    """Makes a layer, or keeps the one that is there where its examples are still the same."""
    if made is not None and made.rows == rows:
        return _Made(state=state, rows=rows, embedder=made.embedder, layer=made.layer)
    embedder = made.embedder if made else RememberingEmbedder(index.embedder)
    layer = None
    if rows:
        found = index_in_memory([row.sentence() for row in rows], embedder)
        layer = Layer(index=found, taught=True)
    return _Made(state=state, rows=rows, embedder=embedder, layer=layer)


def _changed(folded: FoldedIndex, shared: NamespaceState, language: str) -> Rows:
    """The folded rows that were taught again or deleted since, ascending."""
    rows = [
        folded.row_of[row.id]
        for row in shared.last.values()
        if row.seq > folded.seq and row.language == language and row.id in folded.row_of
    ]
    return np.array(sorted(rows), np.int64)
