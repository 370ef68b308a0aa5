"""A whole workspace with random weights: base, one index and one adapter per language, one release."""

from __future__ import annotations

from pathlib import Path

from retrieveall.corpus.sample import sample_corpus
from retrieveall.embedding.spec import EmbedderSpec, load_embedder
from retrieveall.lora.release import Release
from retrieveall.lora.releases import Publication
from retrieveall.models.digest import base_digest
from retrieveall.retrieval import IndexOptions, IndexRequest, write_index
from retrieveall.workspace import Workspace
from tests.models import LABELS, save_tiny_adapter, save_tiny_base, tiny_model
from tests.stores import CORPUS, card

NOW = "2025-01-01T00:00:00+00:00"


def random_workspace(folder: Path, languages: tuple[str, ...] = ("de", "en", "ru")) -> Workspace:
    """Makes a workspace whose adapters are random, and publishes them all."""
    workspace = Workspace.open(folder / "workspace", create=True)
    base = save_tiny_base(folder / "base")
    workspace.claim_base(str(base), base_digest(base))
    indexes = {language: _index(workspace, language) for language in languages}
    publish_random(workspace, folder, indexes)
    return workspace


def publish_random(workspace: Workspace, folder: Path, indexes: dict[str, str], *, seed: int = 0) -> Release:
    """Makes an adapter per index and publishes all in one release."""
    model = tiny_model()
    wishes = []
    for number, (language, index) in enumerate(indexes.items()):
        files = save_tiny_adapter(folder / f"peft-{seed}-{language}", model, seed=seed + number)
        made = card(
            language,
            base_digest=workspace.state().base_digest,
            labels=LABELS,
            index_digest=index,
            embedder_digest=load_embedder(EmbedderSpec()).digest,
            entity_examples=3,
            context_examples=1,
        )
        wishes.append(Publication(language=language, adapter=workspace.pool.add(files, made), index=index))
    return workspace.releases.publish_many(wishes, created_at=NOW).release


def _index(workspace: Workspace, language: str) -> str:
    sentences = sample_corpus(language, sizes={"train": 40})
    embedder = load_embedder(EmbedderSpec())
    request = IndexRequest(
        language=language,
        corpus="sample",
        corpus_digest=CORPUS,
        spec=EmbedderSpec(),
        embedder_digest=embedder.digest,
        options=IndexOptions(),
    )
    return write_index(workspace.indexes, request, sentences, embedder).digest
