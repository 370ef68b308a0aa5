"""Several indexes of one language, searched as one: taught examples lie over the training split's.

What stands in a stronger layer wins over the weaker ones: of equal sentences only the strongest layer's
is shown, and a surface that a layer has a mention of shows that layer's labels alone. All else is as in
one index: the longest exact match hides what lies inside, and the dynamic threshold is taken over the
candidates of all layers together. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retrieveall.embedding.protocol import Vectors
from retrieveall.retrieval.candidates import inside
from retrieveall.retrieval.entity_search import Hit, Surfaces, outermost, strength
from retrieveall.retrieval.index import CONTEXT_POOL, Candidates, LanguageIndex
from retrieveall.retrieval.keys import Keys, fold_space, sentence_key
from retrieveall.retrieval.neighbourhood import M_MAX, N_MAX, Ranked, check_sizes, ranked
from retrieveall.retrieval.rows import Rows
from retrieveall.types import ContextExample, EntityExample, Examples, Span

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

    def candidates(
        self, surfaces: Sequence[Surfaces], vectors: Vectors, exclude: Sequence[str | None] | None
    ) -> list[Candidates]:
        """Finds what the layer offers for N sentences."""
        excluded = [self.hidden] * len(surfaces)
        if exclude is not None:
            excluded = [self._without(text) for text in exclude]
        return self.index.candidates(surfaces, vectors, excluded)

    def _without(self, text: str | None) -> Rows:
        if text is None:
            return self.hidden
        rows: Rows = np.union1d(self.hidden, self.index.contexts.with_key(sentence_key(text)))
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
    vectors = layers[-1].index.embedder.embed_texts(texts) if embeddings is None else embeddings
    surfaces = [Surfaces.of(text) for text in texts]
    found = [layer.candidates(surfaces, vectors, exclude) for layer in layers]
    return [
        Examples(
            entity=_entity_examples(layers, one, n, threshold_lambda),
            context=_context_examples(layers, one, m, threshold_lambda),
        )
        for one in zip(*found, strict=True)
    ]


def _context_examples(
    layers: Sequence[Layer], found: Sequence[Candidates], m: int, threshold_lambda: float
) -> tuple[ContextExample, ...]:
    pool: list[tuple[float, int, int, int]] = []  # falling similarity, layer, row, key
    for depth, (layer, one) in enumerate(zip(layers, found, strict=True)):
        keys = layer.index.contexts.keys[one.rows]
        covered = np.zeros(len(keys), np.bool_)
        for stronger in layers[:depth]:
            covered |= stronger.holds(keys)
        columns = (one.similarities, one.rows, keys)
        rows = zip(*(column[~covered].tolist() for column in columns), strict=True)
        pool += [(-similarity, depth, row, key) for similarity, row, key in rows]
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
    layers: Sequence[Layer], found: Sequence[Candidates], n: int, threshold_lambda: float
) -> tuple[EntityExample, ...]:
    best: dict[tuple[str, str], tuple[int, Hit]] = {}
    for depth, hit in sorted(_hits(found), key=_strength):
        rows = layers[depth].index.entities
        best.setdefault((fold_space(rows.mention(hit.row)), rows.label(hit.row)), (depth, hit))
    shown = list(best.values())
    similarities = [hit.similarity for _, hit in shown]
    passed = _survivors(similarities, similarities, N_MAX, threshold_lambda)[:n]
    return tuple(_entity_example(layers[depth], hit) for depth, hit in (shown[place] for place in passed))


def _hits(found: Sequence[Candidates]) -> list[tuple[int, Hit]]:
    """The hits of all layers with their layer: what a stronger layer or a longer match hides is left out."""
    strongest: dict[Span, int] = {}
    for depth, one in enumerate(found):
        for hit in one.exact:
            strongest.setdefault(hit.span, depth)
    spans = set(outermost(strongest))
    exact = [
        (depth, hit)
        for depth, one in enumerate(found)
        for hit in one.exact
        if hit.span in spans and strongest[hit.span] == depth
    ]
    fuzzy = [
        (depth, hit)
        for depth, one in enumerate(found)
        for hit in one.fuzzy
        if not any(inside(hit.span, span) for span in spans)
    ]
    return [*exact, *fuzzy]


def _strength(found: tuple[int, Hit]) -> tuple[float, ...]:
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
