"""Several indexes of one language, searched as one: taught examples lie over the training split's.

What stands in a stronger layer wins over the weaker ones: of equal sentences only the strongest layer's
is shown, and a surface that a layer has a mention of shows that layer's labels alone. All else is as in
one index: the longest exact match hides what lies inside, and the dynamic threshold is taken over the
candidates of all layers together. Source: own choice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from retrieveall.embedding.protocol import Vectors
from retrieveall.retrieval.entity_search import (
    SPAN_POOL,
    Hit,
    Hits,
    Surfaces,
    fuzzy_spans,
    outermost,
    strength,
)
from retrieveall.retrieval.index import CONTEXT_POOL, LanguageIndex, embed_spans
from retrieveall.retrieval.keys import Keys, fold_space, sentence_key
from retrieveall.retrieval.neighbourhood import M_MAX, N_MAX, Ranked, check_sizes, ranked
from retrieveall.retrieval.rows import Rows
from retrieveall.types import ContextExample, EntityExample, Examples, Span

LayerHit: TypeAlias = tuple[int, Hit]  # the layer's place in the stack

_NONE: Rows = np.empty(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One index of a stack.

    Attributes:
        index: What is searched.
        hidden: Context rows that are left out, ascending.
        taught: Its sentences were taught.
    """

    index: LanguageIndex
    hidden: Rows = field(default_factory=_NONE.copy)
    taught: bool = False

    @cached_property
    def keys(self) -> Keys:
        """Keys of the sentences that are not hidden, ascending."""
        shown: Keys = np.sort(np.delete(self.index.contexts.keys, self.hidden))
        return shown

    def holds(self, keys: Keys) -> NDArray[np.bool_]:
        """Tells for each key of a sentence whether the layer shows that sentence."""
        if not len(self.keys):
            return np.zeros(len(keys), np.bool_)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found: NDArray[np.bool_] = self.keys[places] == keys
        return found

    def excluded(self, exclude: Sequence[str | None]) -> list[Rows]:
        """Returns for each sentence to leave out the rows that are: the hidden ones too."""
        return [self.hidden if text is None else self._with_key(sentence_key(text)) for text in exclude]

    def _with_key(self, key: int) -> Rows:
        rows: Rows = np.union1d(self.hidden, self.index.contexts.with_key(key))
        return rows


def index_layers(index: LanguageIndex) -> list[Layer]:
    """Returns the layers of an index as it is: the taught sentences folded into it, if any, and its own."""
    folded = [] if index.folded is None else [Layer(index=index.folded.index, taught=True)]
    return [*folded, Layer(index=index)]


def layered_examples(
    layers: Sequence[Layer],
    texts: Sequence[str],
    *,
    n: int,
    m: int,
    threshold_lambda: float,
    embeddings: Vectors | None = None,
    exclude: Sequence[str | None] | None = None,
) -> list[Examples]:
    """Finds the examples of N sentences in several layers.

    Args:
        layers: Strongest first, at least one, all of one embedder.
        texts: N sentences.
        n: Most entity examples.
        m: Most context examples.
        threshold_lambda: λ of the dynamic threshold.
        embeddings: The sentences' vectors ``(N, D)`` where the caller has them.
        exclude: For each a sentence whose own rows are left out, or None.

    Raises:
        ConfigError: n or m is negative or larger than what an index keeps.
    """
    check_sizes(n, m)
    if not texts:
        return []
    embedder = layers[-1].index.embedder
    vectors = embedder.embed_texts(texts) if embeddings is None else embeddings
    surfaces = [Surfaces.of(text) for text in texts]
    excluded = [layer.excluded(exclude or [None] * len(texts)) for layer in layers]
    pairs = list(zip([layer.index for layer in layers], excluded, strict=True))
    contexts = zip(*(index.nearest(vectors, gone) for index, gone in pairs), strict=True)
    exact = [
        _shown(found) for found in zip(*(index.look_up(surfaces, gone) for index, gone in pairs), strict=True)
    ]
    spans = [fuzzy_spans(one, [h for _, h in hits]) for one, hits in zip(surfaces, exact, strict=True)]
    queries = embed_spans(embedder, texts, spans)
    fuzzy = [
        _pooled(found)
        for found in zip(*(index.near(spans, queries, gone) for index, gone in pairs), strict=True)
    ]
    return [
        Examples(
            entity=_entity_examples(layers, [*hits, *near], n, threshold_lambda),
            context=_context_examples(layers, nearest, m, threshold_lambda),
        )
        for nearest, hits, near in zip(contexts, exact, fuzzy, strict=True)
    ]


def _shown(found: Sequence[Hits]) -> list[LayerHit]:
    """Exact hits of all layers for one sentence, without those inside a longer one of any layer."""
    spans = set(outermost({hit.span for hits in found for hit in hits}))
    return [(depth, hit) for depth, hits in enumerate(found) for hit in hits if hit.span in spans]


def _pooled(found: Sequence[Hits]) -> list[LayerHit]:
    """Fuzzy hits of all layers for one sentence, the ``SPAN_POOL`` nearest of each span."""
    by_span: dict[Span, list[LayerHit]] = defaultdict(list)
    for depth, hits in enumerate(found):
        for hit in hits:
            by_span[hit.span].append((depth, hit))
    pools = (sorted(hits, key=lambda one: (-one[1].similarity, one[0])) for hits in by_span.values())
    return [hit for pool in pools for hit in pool[:SPAN_POOL]]


def _context_examples(
    layers: Sequence[Layer], found: Sequence[tuple[Rows, Vectors]], m: int, threshold_lambda: float
) -> tuple[ContextExample, ...]:
    pool: list[tuple[float, int, int, int]] = []  # falling similarity, layer, row, key
    for depth, (layer, (rows, similarities)) in enumerate(zip(layers, found, strict=True)):
        keys = layer.index.contexts.keys[rows]
        covered = np.zeros(len(keys), np.bool_)
        for stronger in layers[:depth]:
            covered |= stronger.holds(keys)
        columns = (column[~covered].tolist() for column in (similarities, rows, keys))
        pool += [(-similarity, depth, row, key) for similarity, row, key in zip(*columns, strict=True)]
    pool = sorted(pool)[:CONTEXT_POOL]
    first: dict[int, tuple[float, int, int]] = {}
    for negative, depth, row, key in pool:
        first.setdefault(key, (-negative, depth, row))
    shown = list(first.values())
    passed = _survivors([s for s, _, _ in shown], [-one[0] for one in pool], M_MAX, threshold_lambda)[:m]
    return tuple(
        replace(layers[depth].index.contexts.example(row, similarity), taught=layers[depth].taught)
        for similarity, depth, row in (shown[place] for place in passed)
    )


def _entity_examples(
    layers: Sequence[Layer], hits: Sequence[LayerHit], n: int, threshold_lambda: float
) -> tuple[EntityExample, ...]:
    owner: dict[int, int] = {}  # the strongest layer of each surface
    best: dict[tuple[str, str], LayerHit] = {}
    for depth, hit in hits:
        key = int(layers[depth].index.entities.keys[hit.row])
        owner[key] = min(depth, owner.get(key, depth))
    for depth, hit in sorted(hits, key=_strength):
        rows = layers[depth].index.entities
        if owner[int(rows.keys[hit.row])] < depth:
            continue
        best.setdefault((fold_space(rows.mention(hit.row)), rows.label(hit.row)), (depth, hit))
    shown = list(best.values())
    similarities = [hit.similarity for _, hit in shown]
    passed = _survivors(similarities, similarities, N_MAX, threshold_lambda)[:n]
    return tuple(_entity_example(layers[depth], hit) for depth, hit in (shown[place] for place in passed))


def _strength(found: LayerHit) -> tuple[float, ...]:
    depth, hit = found
    similarity, *rest = strength(hit)
    return (similarity, depth, *rest)


def _survivors(
    similarities: Sequence[float], candidates: Sequence[float], at_most: int, threshold_lambda: float
) -> list[int]:
    """Places of a list in order that pass the dynamic threshold over the candidates."""
    places = np.arange(len(similarities), dtype=np.int64)
    shown: Ranked = ranked(
        places,
        np.array(similarities, np.float32),
        places,
        candidates=np.array(candidates, np.float32),
        at_most=at_most,
    )
    passed: list[int] = np.flatnonzero(shown.survivors(threshold_lambda)).tolist()
    return passed


def _entity_example(layer: Layer, hit: Hit) -> EntityExample:
    rows = layer.index.entities
    return EntityExample(
        mention=rows.mention(hit.row),
        label=rows.label(hit.row),
        similarity=float(np.float32(hit.similarity)),
        sentence_id=layer.index.contexts.sentence_id(hit.source),
        taught=layer.taught,
    )
