"""What an index says about itself, and the digest that names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from retrieveall.digests import digest_json
from retrieveall.errors import ConfigError, IncompatibleArtefactError
from retrieveall.retrieval.shards import INDEX_KINDS, IndexKind

FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
NEIGHBOURS: Final = "neighbours.parquet"
METRIC: Final = "cosine"


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexOptions:
    """How an index is cut and searched.

    Attributes:
        kind: ``flat`` (exact), ``ivf``, ``hnsw``, or ``auto``: flat or IVF by a shard's rows.
        rows_per_shard: Rows of one shard file.
    """

    kind: IndexKind = "auto"
    rows_per_shard: int = 50_000

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.kind not in INDEX_KINDS or self.rows_per_shard < 1:
            raise ConfigError(
                f"Index kind {self.kind!r} with {self.rows_per_shard} rows per shard was given; expected one"
                f" of {', '.join(INDEX_KINDS)} and at least 1 row."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Folded:
    """What an index is joined of that taught sentences were folded into: it has no shards of its own.

    Attributes:
        index: Digest of the index of the corpus.
        taught: Digest of the index of the taught sentences.
        seq: Number of the last shared call whose examples are in it.
    """

    index: str
    taught: str
    seq: int


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexManifest:
    """One index of one language.

    Attributes:
        digest: Names the folder; made from what went in, see `index_digest`.
        corpus: Name of the corpus, for people.
        corpus_digest: Digest of its content.
        embedder: The embedder's spec (EmbedderSpec.to_dict).
        embedder_digest: Digest of the embedder.
        dimensions: D.
        rows: Rows per granularity (``context``, ``entity``).
        shards: Shard files per granularity.
        statistics: What the neighbours look like: how many survive the threshold, how often one
            holds a gold mention.
        folded: Where its shards are, if taught sentences were folded into it; rows and shards are then those
            of the corpus.
    """

    language: str
    digest: str
    corpus: str
    corpus_digest: str
    embedder: Mapping[str, Any]
    embedder_digest: str
    dimensions: int
    options: IndexOptions
    rows: Mapping[str, int]
    shards: Mapping[str, int]
    statistics: Mapping[str, float] = field(default_factory=dict)
    folded: Folded | None = None
    metric: str = METRIC
    format_version: int = FORMAT_VERSION

    @property
    def parts(self) -> tuple[str, ...]:
        """Digests of the indexes with shards that it is made of: the corpus's first."""
        return (self.digest,) if self.folded is None else (self.folded.index, self.folded.taught)

    def to_dict(self) -> dict[str, Any]:
        """Returns the manifest as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IndexManifest:
        """Reads a manifest from JSON.

        Raises:
            IncompatibleArtefactError: It was written by another format version.
        """
        if values.get("format_version") != FORMAT_VERSION:
            raise IncompatibleArtefactError(
                f"The index manifest has format version {values.get('format_version')}, this program reads"
                f" {FORMAT_VERSION}. Build the index again: retrieveall index."
            )
        folded = values.get("folded")
        return cls(
            **{
                **values,
                "options": IndexOptions(**values["options"]),
                "folded": Folded(**folded) if folded else None,
            }
        )


def corpus_parts(manifests: Mapping[str, IndexManifest]) -> dict[str, str]:
    """Returns the digest of the corpus's own index by language, without what was taught."""
    return {code: manifest.parts[0] for code, manifest in sorted(manifests.items())}


def index_digest(*, language: str, corpus_digest: str, embedder_digest: str, options: IndexOptions) -> str:
    """Returns the digest of an index, known before it is built: what goes in decides what comes out."""
    return digest_json(
        {
            "format_version": FORMAT_VERSION,
            "language": language,
            "corpus": corpus_digest,
            "embedder": embedder_digest,
            "metric": METRIC,
            "options": asdict(options),
        }
    )
