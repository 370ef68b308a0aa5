"""The retriever: examples for sentences of any indexed language, for the tagger and the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrieveall.embedding.protocol import Embedder, Vectors
from retrieveall.embedding.spec import EmbedderSpec, load_embedder
from retrieveall.errors import IncompatibleArtefactError, NotFoundError
from retrieveall.retrieval.index import FoldedIndex, LanguageIndex, read_manifest
from retrieveall.retrieval.layers import Layer, index_layers, layered_examples
from retrieveall.retrieval.manifest import IndexManifest
from retrieveall.retrieval.neighbourhood import DEFAULT_LAMBDA, DEFAULT_M, DEFAULT_N
from retrieveall.storage import Store
from retrieveall.types import Examples


class Retriever:
    """Finds examples. Safe to share between threads.

    Args:
        indexes: Opened indexes by language, all of one embedder.
        parts: The indexes with shards that they are made of, by digest, where they were opened from a store.

    Raises:
        IncompatibleArtefactError: The indexes were made with different embedders.
    """

    def __init__(
        self, indexes: Mapping[str, LanguageIndex], parts: Mapping[str, LanguageIndex] | None = None
    ) -> None:
        made_by = {language: index.embedder.digest for language, index in indexes.items()}
        if len(set(made_by.values())) > 1:
            raise IncompatibleArtefactError(
                f"Indexes of different embedders were given: {made_by}. Build them again with one embedder."
            )
        self.indexes, self.parts = dict(indexes), dict(parts or {})

    @classmethod
    def open(
        cls,
        store: Store,
        digests: Mapping[str, str],
        *,
        embedder: Embedder | None = None,
        held: Retriever | None = None,
    ) -> Retriever:
        """Opens the indexes that a release names.

        Args:
            store: The folder of all indexes.
            digests: Index digest by language.
            embedder: Default: the one that the manifests name.
            held: An opened retriever of the same store: indexes of equal digests are taken from it.

        Raises:
            NotFoundError: An index does not exist.
            IncompatibleArtefactError: An index was made with another embedder.
        """
        manifests = {code: read_manifest(store, code, digest) for code, digest in digests.items()}
        kept = {} if held is None else held.parts
        parts: dict[str, LanguageIndex] = {}
        for code, manifest in manifests.items():
            for digest in manifest.parts:
                if digest in kept:
                    parts[digest] = kept[digest]
                    continue
                embedder = embedder or _embedder_of(manifest, held)
                part = manifest if digest == manifest.digest else read_manifest(store, code, digest)
                parts[digest] = LanguageIndex.open(store, part, embedder)
        return cls({code: _joined(manifest, parts) for code, manifest in manifests.items()}, parts)

    def retrieve(
        self,
        language: str,
        text: str,
        *,
        n: int = DEFAULT_N,
        m: int = DEFAULT_M,
        threshold_lambda: float = DEFAULT_LAMBDA,
        exclude_text: str | None = None,
        embedding: Vectors | None = None,
    ) -> Examples:
        """Returns the examples of one sentence.

        Args:
            language: Whose index is searched.
            text: The sentence.
            n: Most entity examples.
            m: Most context examples.
            threshold_lambda: λ of the dynamic threshold.
            exclude_text: A sentence whose own rows are left out, as in training.
            embedding: The sentence's vector ``(D,)`` where the caller has it.

        Raises:
            NotFoundError: There is no index of that language.
            ConfigError: n or m is negative or larger than what an index keeps.
        """
        return self.retrieve_batch(
            language,
            [text],
            n=n,
            m=m,
            threshold_lambda=threshold_lambda,
            exclude_texts=[exclude_text],
            embeddings=None if embedding is None else embedding.reshape(1, -1),
        )[0]

    def retrieve_batch(
        self,
        language: str,
        texts: Sequence[str],
        *,
        n: int = DEFAULT_N,
        m: int = DEFAULT_M,
        threshold_lambda: float = DEFAULT_LAMBDA,
        exclude_texts: Sequence[str | None] | None = None,
        embeddings: Vectors | None = None,
        layers: Sequence[Layer] | None = None,
    ) -> list[Examples]:
        """Returns the examples of N sentences of one language; see `retrieve`.

        Args:
            language: Whose index is searched.
            texts: N sentences.
            n: Most entity examples.
            m: Most context examples.
            threshold_lambda: λ of the dynamic threshold.
            exclude_texts: For each a sentence whose own rows are left out, or None.
            embeddings: Their vectors ``(N, D)`` where the caller has them.
            layers: What is searched instead of the index as it is, strongest first; see `index_layers`.
        """
        index = self.indexes.get(language)
        if index is None:
            known = ", ".join(sorted(self.indexes)) or "none"
            raise NotFoundError(
                f"There is no index of {language!r}. Open: {known}. Build it: retrieveall index."
            )
        stack = index_layers(index) if layers is None else layers
        if len(stack) > 1:
            return layered_examples(
                stack,
                texts,
                n=n,
                m=m,
                threshold_lambda=threshold_lambda,
                embeddings=embeddings,
                exclude=exclude_texts,
            )
        return index.examples(
            texts,
            n=n,
            m=m,
            threshold_lambda=threshold_lambda,
            embeddings=embeddings,
            exclude=exclude_texts,
        )


def _joined(manifest: IndexManifest, parts: Mapping[str, LanguageIndex]) -> LanguageIndex:
    """Puts an index together from its opened parts."""
    own = parts[manifest.parts[0]]
    if manifest.folded is None:
        return own
    return own.under(FoldedIndex(index=parts[manifest.folded.taught], seq=manifest.folded.seq))


def _embedder_of(manifest: IndexManifest, held: Retriever | None) -> Embedder:
    """Returns what made an index: the one that is loaded already, or a fresh one."""
    for index in () if held is None else held.indexes.values():
        if index.embedder.digest == manifest.embedder_digest:
            return index.embedder
    return load_embedder(EmbedderSpec.from_dict(manifest.embedder))
