"""Folding: shared examples become an index of their own that the language's index is joined with.

The joined index has a new digest and goes into a new release; the corpus's shards, which may be large, are
neither copied nor touched, and adapters, which go with an embedder and not with an index, stay. Its manifest
names the last call that is in it: examples of later calls still lie over it, and those taught again or
deleted later are left out, so that folding changes no answer, in whatever order services take up the
release, and rolling back loses nothing. Private examples belong into no release: of them, as of the shared
ones, only the log gets a checkpoint. Source: own choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from retrieveall.digests import digest_json
from retrieveall.embedding.protocol import Embedder
from retrieveall.embedding.spec import EmbedderSpec, load_embedder
from retrieveall.lora.release import Release
from retrieveall.lora.releases import Publication
from retrieveall.retrieval.index import read_manifest
from retrieveall.retrieval.manifest import MANIFEST, Folded, IndexManifest, IndexOptions
from retrieveall.retrieval.writing import IndexRequest, write_index
from retrieveall.storage import Store
from retrieveall.taught.book import NamespaceState, TaughtBook
from retrieveall.taught.example import TaughtExample
from retrieveall.taught.log import SHARED
from retrieveall.workspace import Workspace

TAUGHT_CORPUS = "taught:shared"
"""What the manifest of an index of taught sentences calls its corpus; no corpus can have this name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldedLanguage:
    """What became of one language.

    Attributes:
        examples: Shared examples that the index holds now.
        before: Digest of the index that answered.
        index: Digest of the one that answers now.
    """

    language: str
    examples: int
    before: str
    index: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Compacted:
    """What was done.

    Attributes:
        release: The current one; a new one if any index changed.
        languages: Those of the release that have an index.
        checkpoints: Number of the last call in the checkpoint of each namespace.
    """

    release: Release
    languages: tuple[FoldedLanguage, ...]
    checkpoints: dict[str, int]


def compact(workspace: Workspace, *, created_at: str) -> Compacted:
    """Folds the shared examples into the current release's indexes and writes checkpoints of all logs.

    Doing it again changes nothing; a run that was killed is made good by the next.

    Args:
        workspace: Where.
        created_at: ISO 8601 time.

    Raises:
        ConflictError: Somebody else published a release meanwhile: nothing was published, run it again.
        InputError: A file is broken.
    """
    book = TaughtBook(workspace.taught)
    shared = book.state(SHARED, now=True)
    release = workspace.releases.current()
    folded, wishes = [], []
    for language, entry in release.languages.items():
        if entry.index is None:
            continue
        index = fold(workspace.indexes, read_manifest(workspace.indexes, language, entry.index), shared)
        examples = len(shared.examples(language))
        folded.append(
            FoldedLanguage(language=language, examples=examples, before=entry.index, index=index.digest)
        )
        wishes.append(Publication(language=language, adapter=entry.adapter, index=index.digest))
    if wishes:
        release = workspace.releases.publish_many(wishes, created_at=created_at).release
    return Compacted(release=release, languages=tuple(folded), checkpoints=_checkpoints(workspace, book))


def fold(indexes: Store, manifest: IndexManifest, shared: NamespaceState) -> IndexManifest:
    """Joins an index with the shared examples of its language; returns it where that changes nothing.

    Args:
        indexes: The folder of all indexes.
        manifest: The index that answers now.
        shared: The shared examples.
    """
    since = manifest.folded.seq if manifest.folded else 0
    changed = any(row.language == manifest.language and row.seq > since for row in shared.last.values())
    if not changed:
        return manifest
    own = read_manifest(indexes, manifest.language, manifest.parts[0])
    rows = shared.examples(manifest.language)
    if not rows:
        return own
    taught = _write_taught(indexes, own, rows)
    folded = Folded(index=own.digest, taught=taught.digest, seq=shared.seq)
    digest = digest_json({"index": folded.index, "taught": folded.taught, "seq": folded.seq})
    joined = replace(own, digest=digest, folded=folded)
    indexes.write_json(f"{joined.language}/{digest}/{MANIFEST}", joined.to_dict())
    return joined


def folded_seqs(indexes: Store, digests: dict[str, str]) -> dict[str, int]:
    """Returns for each language the last shared call whose examples its index holds; 0 for none.

    Args:
        indexes: The folder of all indexes.
        digests: Index digest by language.
    """
    manifests = {code: read_manifest(indexes, code, digest) for code, digest in digests.items()}
    return {code: found.folded.seq if found.folded else 0 for code, found in manifests.items()}


def _write_taught(indexes: Store, own: IndexManifest, rows: list[TaughtExample]) -> IndexManifest:
    """Writes the index of taught sentences, with the embedder of the index that it is joined with."""
    spec = EmbedderSpec.from_dict(own.embedder)
    embedder: Embedder = load_embedder(spec)
    content = [
        [row.id, row.text, [[e.start_char, e.end_char, e.label] for e in row.entities]] for row in rows
    ]
    request = IndexRequest(
        language=own.language,
        corpus=TAUGHT_CORPUS,
        corpus_digest=digest_json(content),
        spec=spec,
        embedder_digest=embedder.digest,
        options=IndexOptions(kind="flat"),
    )
    return write_index(indexes, request, [row.sentence() for row in rows], embedder)


def _checkpoints(workspace: Workspace, book: TaughtBook) -> dict[str, int]:
    seqs = {}
    for namespace in workspace.taught.namespaces():
        state = book.state(namespace)
        workspace.taught.write_checkpoint(namespace, state.seq, state.last.values())
        seqs[namespace] = state.seq
    return seqs
