"""The rows that the tagger gives its engine for a corpus's test sentences, with the corpus's own adapters.

The tagger runs as it always does (retrieval, prompts, guesses); only its engine writes the rows down and
answers without entities. Each sentence's language is given, because routing is measured elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from retrieveall.corpus.limits import limited
from retrieveall.engine.protocol import Decoded, EngineStats, Row
from retrieveall.generation import Generator
from retrieveall.lora.layers import LoraSwitch, attach_lora
from retrieveall.lora.weights import LoraWeights, load_lora
from retrieveall.models.base import BaseModel, open_base
from retrieveall.opening import OpenOptions, OracleRouter, open_retriever, read_release
from retrieveall.prompting.codec import PromptCodec
from retrieveall.tagger import Tagger, TextInput
from retrieveall.types import Sentence
from retrieveall.workspace import Workspace


class RecordingEngine:
    """Writes rows down."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def submit(self, row: Row) -> Future[Decoded]:
        """Answers at once that there is nothing."""
        self.rows.append(row)
        future: Future[Decoded] = Future()
        future.set_result(Decoded(spans=(), prompt_tokens=0, new_tokens=0, forward_passes=0))
        return future

    def stats(self) -> EngineStats:
        """Not asked for here."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing runs."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The base of a release, its adapters, and rows of theirs."""

    base: BaseModel
    rows: list[Row]
    adapters: dict[str, str]  # language by adapter digest
    workspace: Workspace

    def attached(self) -> tuple[Any, LoraSwitch, dict[str, LoraWeights]]:
        """Returns a fresh model with the engine's LoRA layers, its switch, and the adapters by digest."""
        model = self._model()
        switch, shapes = attach_lora(model, skip=model.get_output_embeddings())
        load = partial(load_lora, shapes=shapes, dtype=model.dtype, device=torch.device("cpu"))
        return model, switch, {digest: load(self.workspace.pool.path(digest)) for digest in self.adapters}

    def merged(self, digest: str) -> Any:
        """Returns a fresh model with one adapter written into its weights: W + s · B A."""
        _, _, loras = self.attached()
        model = self._model()
        for name, pair in loras[digest].pairs.items():
            model.get_submodule(name).weight.data += (pair.a @ pair.b).T
        return model

    def _model(self) -> Any:
        return open_base(str(self.base.folder)).model


def test_sentences(workspace: Workspace, corpus: str, languages: Sequence[str], limit: int) -> list[Sentence]:
    """Returns so many test sentences of every language, languages in turn."""
    by_language = []
    for language in languages:
        rows = workspace.corpora.load(corpus, language, "test")
        by_language.append([rows[i] for i in limited(len(rows), limit)])
    return [row for turn in zip(*by_language, strict=True) for row in turn]


def recorded(workspace: Workspace, corpus: str, limit: int) -> Recorded:
    """Records the rows of so many test sentences of every language of the current release.

    Raises:
        NotFoundError: The workspace has no release or no such corpus.
    """
    opened = read_release(workspace, OpenOptions())
    base = open_base(opened.base_model)
    engine = RecordingEngine()
    budget = workspace.settings().prompt.budget_tokens
    tagger = Tagger(
        release=opened.release.number,
        adapters=opened.adapters,
        router=OracleRouter(),
        retriever=open_retriever(workspace, opened),
        generator=Generator(engine, base.codec, budget_tokens=budget),
    )
    sentences = test_sentences(workspace, corpus, sorted(opened.adapters), limit)
    tagger.tag([TextInput(text=row.text, language=row.language) for row in sentences], split=False)
    return Recorded(
        base=base,
        rows=engine.rows,
        adapters={adapter.digest: code for code, adapter in opened.adapters.items()},
        workspace=workspace,
    )


def line_of(codec: PromptCodec, row: Row, spans: Sequence[Any]) -> list[int]:
    """Returns the tokens of a row's tag line, from its spans, with its end token."""
    ids: list[int] = []
    for span in spans:
        place = row.sentence.unit_range(span.start_char, span.end_char)
        assert place is not None
        ids += [token for unit in row.sentence.unit_ids[place[0] : place[1]] for token in unit]
        ids += codec.label(span.label)
    return [*ids, codec.end_id]
