"""What the languages of a polyglot adapter share: which of its weights each of them needs.

On each language's dev sentences: the diagonal Fisher information (`retrieveall.training.fisher`), strict F1
with only the top q % of the weights by it, how far two languages' top sets overlap, and, for adapters that
were continued from this one, how much of their move fell into the weights that all languages share.
Source: Sources of Transfer in Multilingual NER; that the shared set is the intersection of all languages'
top sets is our own choice.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retrieveall.engine.automaton import label_grammar
from retrieveall.errors import InputError
from retrieveall.frozen import to_dict
from retrieveall.languages import POLYGLOT
from retrieveall.lora.card import DevScores
from retrieveall.lora.trained import TrainedLora
from retrieveall.models.base import open_base
from retrieveall.models.dtypes import DTYPES
from retrieveall.training.cards import run_of
from retrieveall.training.data import DecidedRow, decided_row, fits_budget, render_row
from retrieveall.training.fisher import (
    diagonal_fisher,
    keeping,
    moved_share,
    overlap,
    top_weights,
    weights_of,
)
from retrieveall.training.inputs import RunSpec, load_measured
from retrieveall.training.run import Candidate, Device, Measured, SplitInput, measure_dev
from retrieveall.training.shared import SharedBase
from retrieveall.workspace import Workspace

PERCENTS = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0)

OnProgress = Callable[[str, int, int], None]
"""Called with the stage's name, its steps done and its steps in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferChoice:
    """What is analysed.

    Attributes:
        adapter: Digest of a polyglot adapter.
        percents: The values of q.
        dev_limit: Dev sentences per language.
    """

    adapter: str
    percents: tuple[float, ...] = PERCENTS
    dev_limit: int = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptScores:
    """Strict dev F1 of each language with the top weights of its own alone.

    Attributes:
        percent: q.
        kept: Number of weights.
        dev: Scores by language.
    """

    percent: float
    kept: int
    dev: Mapping[str, DevScores]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """How far the top sets of the languages are the same.

    Attributes:
        percent: q.
        chance: What two random sets of this size share.
        shared: Share of all weights that is in every language's set.
        matrix: Of each pair of languages, both in the report's order.
    """

    percent: float
    chance: float
    shared: float
    matrix: tuple[tuple[float, ...], ...]

    @property
    def mean_overlap(self) -> float:
        """Mean over the pairs of different languages; 1 where there is only one language."""
        pairs = [value for row, values in enumerate(self.matrix) for value in values[:row]]
        return sum(pairs) / len(pairs) if pairs else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """Where an adapter moved that was continued from the analysed one.

    Attributes:
        adapter: Its digest.
        percent: q.
        in_shared: Share of the squared move on the weights that all languages share; chance: their number.
        in_own: Share on the top weights of its own language; chance is q.
    """

    language: str
    adapter: str
    percent: float
    in_shared: float
    in_own: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferReport:
    """What the analysis found.

    Attributes:
        sentences: Dev sentences by language, in the order of the overlap matrices.
        weights: Of the adapter.
        synthetic: The corpora are synthetic; stands wherever the scores are shown.
    """

    adapter: str
    base_model: str
    corpus: str
    synthetic: bool
    sentences: Mapping[str, int]
    weights: int
    kept: tuple[KeptScores, ...]
    overlaps: tuple[Overlap, ...]
    moved: tuple[Moved, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return to_dict(self)


def analyze_transfer(
    workspace: Workspace,
    choice: TransferChoice,
    device: Device,
    *,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> TransferReport:
    """Analyses a polyglot adapter.

    Args:
        workspace: Where adapter, corpora and indexes are.
        choice: What is analysed.
        device: Where to compute.
        on_progress: Called after every language, and every q.

    Raises:
        NotFoundError: There is no such adapter, corpus or index.
        InputError: The adapter is of one language, a language has no dev sentence, or a percentage is out of
            range.
        IncompatibleArtefactError: A corpus has changed since the training, or this product did not train
            the adapter.
    """
    return _Analysis(workspace, choice, device).report(on_progress)


class _Analysis:
    """One analysis: the opened base and adapter, and the dev sentences."""

    def __init__(self, workspace: Workspace, choice: TransferChoice, device: Device) -> None:
        self._workspace, self._choice, self._device = workspace, choice, device
        adapter = workspace.pool.get(choice.adapter)
        self._card, self._trained_as = adapter.card, adapter.trained_as
        self._spec = _spec(workspace, choice)
        self._dev = load_measured(workspace, self._spec, prior=False)
        torch.set_num_threads(device.threads)
        opened = open_base(self._card.base_model, dtype=DTYPES[device.dtype], device=device.name)
        self._base = SharedBase(
            opened.model,
            opened.codec,
            pad_id=opened.pad_id,
            pass_tokens=device.pass_tokens,
            pass_cost=device.pass_cost,
        )
        self._adapter = self._opened(choice.adapter)

    def _opened(self, digest: str) -> TrainedLora:
        return TrainedLora.continued(
            self._workspace.pool.path(digest),
            self._base.shapes,
            rank=self._spec.config.rank,
            alpha=self._spec.config.alpha,
            dtype=self._base.dtype,
            device=self._base.device,
        )

    def report(self, on_progress: OnProgress) -> TransferReport:
        """Computes everything."""
        card, choice = self._card, self._choice
        rows = {code: self._rows(code, split) for code, split in self._dev.items()}
        fisher: dict[str, Tensor] = {}
        for code, of_language in rows.items():
            fisher[code] = diagonal_fisher(self._base, self._adapter, of_language)
            on_progress("fisher", len(fisher), len(rows))
        tops = {
            percent: {code: top_weights(values, percent) for code, values in fisher.items()}
            for percent in choice.percents
        }
        kept: list[KeptScores] = []
        for percent, top in tops.items():
            kept.append(self._kept(percent, top))
            on_progress("F1", len(kept), len(tops))
        return TransferReport(
            adapter=choice.adapter,
            base_model=card.base_model,
            corpus=card.corpus,
            synthetic=card.synthetic,
            sentences={code: len(split.sentences) for code, split in self._dev.items()},
            weights=len(weights_of(self._adapter)),
            kept=tuple(kept),
            overlaps=tuple(_overlap(percent, list(top.values())) for percent, top in tops.items()),
            moved=tuple(self._moved(tops)),
        )

    def _rows(self, code: str, split: SplitInput) -> list[DecidedRow]:
        """Returns the dev sentences as they are tagged: nothing is dropped, renamed or shown as prose."""
        codec, labels = self._base.codec, self._spec.labels
        as_tagged = replace(self._spec.config.render, drop_rate=0.0, drop_all_rate=0.0, detokenised_rate=0.0)
        rows = [row for row in split.rows() if fits_budget(row, codec, as_tagged)]
        if not rows:
            raise InputError(
                f"There are no dev sentences of {code!r} that fit a prompt. Import a dev split, or give a"
                " higher limit."
            )
        grammar = label_grammar(labels, tuple(map(codec.label, labels)))
        rendered = (render_row(row, codec, as_tagged, random.Random(0)) for row in rows)
        return [decided_row(row, grammar) for row in rendered]

    def _kept(self, percent: float, top: Mapping[str, Tensor]) -> KeptScores:
        with tempfile.TemporaryDirectory() as scratch:
            candidates: dict[str, Candidate] = {}
            for code, kept_P in top.items():
                folder = Path(scratch) / code
                keeping(self._adapter, kept_P).save(folder)
                candidates[code] = Candidate(
                    adapter=folder, dev={code: self._dev[code]}, labels=self._card.labels
                )
            measured = measure_dev(
                self._card.base_model,
                candidates,
                device=self._device,
                budget_tokens=self._spec.config.render.budget_tokens,
            )
        return KeptScores(
            percent=percent,
            kept=int(next(iter(top.values())).sum()),
            dev={code: _overall(one) for code, one in measured.items()},
        )

    def _moved(self, tops: Mapping[float, Mapping[str, Tensor]]) -> Iterator[Moved]:
        before_P = weights_of(self._adapter)
        for one in self._workspace.pool.list():
            language = one.card.language
            goes_on = one.card.initial_adapter == self._trained_as
            if not goes_on or language not in self._dev or one.card.trained_as:
                continue  # what was measured again has the weights of another that is there
            after_P = weights_of(self._opened(one.digest))
            for percent, top in tops.items():
                yield Moved(
                    language=language,
                    adapter=one.digest,
                    percent=percent,
                    in_shared=moved_share(before_P, after_P, _shared(list(top.values()))),
                    in_own=moved_share(before_P, after_P, top[language]),
                )


def _spec(workspace: Workspace, choice: TransferChoice) -> RunSpec:
    """Returns what the adapter's run read, so that the analysis reads the same."""
    adapter = workspace.pool.get(choice.adapter)
    if adapter.language != POLYGLOT:
        raise InputError(
            f"Adapter {choice.adapter} is of {adapter.language!r} alone; the analysis needs one of several"
            " languages. Train one: `retrieveall train --strategy polyglot`."
        )
    return run_of(workspace, adapter, dev_limit=choice.dev_limit)


def _overall(measured: Measured | Exception) -> DevScores:
    if isinstance(measured, Exception):
        raise measured
    assert measured.overall is not None  # every language has dev sentences
    return measured.overall


def _overlap(percent: float, tops: Sequence[Tensor]) -> Overlap:
    return Overlap(
        percent=percent,
        chance=float(tops[0].double().mean()),
        shared=float(_shared(tops).double().mean()),
        matrix=tuple(tuple(overlap(one, other) for other in tops) for one in tops),
    )


def _shared(tops: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tops)).all(0)
