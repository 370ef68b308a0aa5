"""What the priors of languages have learned from their indexes, in ``priors/`` (see learned.py).

Languages may share: one prior learns from the sentences of all of them, and each language's own goes on from
there with its own sentences. Source: own choice; share, then specialise, as Sources of Transfer in
Multilingual NER has it for its models.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import torch

from retrieveall.corpus.limits import limited
from retrieveall.errors import RetrieveAllError
from retrieveall.languages import POLYGLOT
from retrieveall.learned import Learned
from retrieveall.lora.card import PRIOR_FORMAT, prior_sources
from retrieveall.prior import PriorWeights, SpanPrior, learn_prior, mixed
from retrieveall.retrieval import ContextRows, corpus_parts, open_contexts, read_manifest
from retrieveall.types import ContextExample, Shares, UnitScores
from retrieveall.workspace import Workspace

MOST_SHARED: Final = 60_000  # sentences that languages learn from together

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorChoice:
    """Which prior a language has.

    Attributes:
        index: Digest of the language's index.
        weight: The power to which its probabilities count.
        shared: By language, the indexes that it shares what it learns with (see
            `AdapterCard.prior_indexes`); those of a language that is not among them are passed over.
    """

    index: str
    weight: float
    shared: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenPrior:
    """The prior of a language, and the choice that it was opened for."""

    choice: PriorChoice
    prior: SpanPrior


def open_priors(
    workspace: Workspace,
    choices: Mapping[str, PriorChoice],
    *,
    held: Mapping[str, OpenPrior] | None = None,
) -> dict[str, OpenPrior]:
    """Opens the priors of languages; one that cannot be learned has none, and the log says why.

    Args:
        workspace: Where indexes and priors are kept.
        choices: By language; with a weight of 0 there is no prior.
        held: What was opened before: priors of equal choices are taken from it.
    """
    priors = {}
    for code, choice in choices.items():
        last = (held or {}).get(code)
        if not choice.weight:
            continue
        if last is not None and last.choice == choice:
            priors[code] = last
            continue
        try:
            learned = kept_prior(workspace, code, choice)
        except (RetrieveAllError, OSError, pa.ArrowException) as error:  # also of a broken index
            log.warning("%s goes without a prior: %s", code, error)
        else:
            priors[code] = OpenPrior(choice=choice, prior=SpanPrior(learned, weight=choice.weight))
    return priors


def said_of(
    priors: Mapping[str, OpenPrior], texts: Sequence[str], shares: Sequence[Shares]
) -> list[UnitScores | None]:
    """Returns what the priors of each text's likely languages say of it, mixed.

    Args:
        priors: By language.
        texts: S sentences of any languages.
        shares: The likely languages of each, the chosen first; where that has no prior nothing is said.
    """
    places: dict[str, list[int]] = {}
    for place, of in enumerate(shares):
        for language, _ in of if of[0][0] in priors else ():
            places.setdefault(language, []).append(place)
    scores: list[dict[str, UnitScores]] = [{} for _ in texts]
    for language in places.keys() & priors.keys():
        own = priors[language].prior.score([texts[place] for place in places[language]])
        for place, one in zip(places[language], own, strict=True):
            scores[place][language] = one
    return [
        mixed([(said[language], share) for language, share in of if language in said]) if said else None
        for of, said in zip(shares, scores, strict=True)
    ]


def kept_prior(workspace: Workspace, language: str, choice: PriorChoice) -> PriorWeights:
    """Returns what a language's prior has learned; learns and keeps it where it is not there.

    Args:
        workspace: Where indexes and priors are kept.
        language: The language.
        choice: Which prior; its weight plays no part.

    Raises:
        InputError: No training sentence has a mention.
        NotFoundError: There is no such index.
    """
    part = corpus_parts({language: read_manifest(workspace.indexes, language, choice.index)})[language]
    indexes = prior_sources(language, part, choice.shared)
    found = _learned(workspace, language, indexes).read()
    if found is not None:
        return found
    contexts = _there(workspace, language, indexes)
    indexes = {code: indexes[code] for code in contexts}
    start = None
    if len(contexts) > 1:
        start = _learned(workspace, POLYGLOT, indexes).read_or_learn(
            lambda: learn_prior(_drawn(contexts.values()))
        )
    return _learned(workspace, language, indexes).read_or_learn(
        lambda: learn_prior(_examples(contexts[language], None), start=start)
    )


def _learned(workspace: Workspace, language: str, indexes: Mapping[str, str]) -> Learned[PriorWeights]:
    """Returns the place of a language's prior, or of what several share."""
    return Learned(
        kind="prior",
        store=workspace.priors,
        key={"format_version": PRIOR_FORMAT, "language": language, "indexes": dict(indexes)},
        pack=_pack,
        unpack=_unpack,
    )


def _there(workspace: Workspace, language: str, indexes: Mapping[str, str]) -> dict[str, ContextRows]:
    """Opens the training sentences of a language's index, and of those shared with it that are there."""
    contexts = {}
    for code, index in indexes.items():
        try:
            contexts[code] = open_contexts(workspace.indexes, code, index)
        except (RetrieveAllError, OSError, pa.ArrowException) as error:
            if code == language:
                raise
            log.warning("The prior of %s learns without %s: %s", language, code, error)
    return contexts


def _drawn(contexts: Collection[ContextRows]) -> list[ContextExample]:
    """Returns sentences of several languages, as many of each as far as they go, `MOST_SHARED` at most."""
    most = max(1, MOST_SHARED // len(contexts))
    return [example for rows in contexts for example in _examples(rows, most)]


def _examples(rows: ContextRows, most: int | None) -> list[ContextExample]:
    return [rows.example(row) for row in limited(len(rows), most)]


def _pack(weights: PriorWeights) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tables = {"table": weights.table, "transitions": weights.transitions}
    return tables, {"labels": list(weights.labels)}


def _unpack(tensors: Mapping[str, torch.Tensor], manifest: Mapping[str, Any]) -> PriorWeights:
    return PriorWeights(
        labels=tuple(manifest["labels"]), table=tensors["table"], transitions=tensors["transitions"]
    )
