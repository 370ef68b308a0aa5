"""What the priors of languages have learned from their indexes, in ``priors/`` (see learned.py)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from retrieveall.errors import InputError
from retrieveall.learned import Learned
from retrieveall.prior import PriorWeights, SpanPrior, learn_prior, mixed
from retrieveall.retrieval import LanguageIndex, corpus_parts, read_manifest
from retrieveall.types import Shares, UnitScores
from retrieveall.workspace import Workspace

FORMAT_VERSION: Final = 3  # raised where files or learning change

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenPrior:
    """The prior of a language, and the digest of the index that it was opened for."""

    index: str
    prior: SpanPrior


def open_priors(
    workspace: Workspace,
    digests: Mapping[str, str],
    indexes: Mapping[str, LanguageIndex],
    *,
    weights: Mapping[str, float],
    held: Mapping[str, OpenPrior] | None = None,
) -> dict[str, OpenPrior]:
    """Opens the priors of languages; one whose training sentences have no mention has none.

    Args:
        workspace: Where they are kept.
        digests: Index digest by language.
        indexes: The same indexes, opened.
        weights: By language, the power to which the probabilities count; without one there is no prior.
        held: What was opened before: priors of equal digests are taken from it.
    """
    priors = {}
    for code, index in indexes.items():
        weight, last = weights.get(code, 0.0), (held or {}).get(code)
        if not weight:
            continue
        if last is not None and last.index == digests[code] and last.prior.weight == weight:
            priors[code] = last
            continue
        try:
            learned = kept_prior(workspace, code, digests[code], index)
        except InputError as error:
            log.warning("%s goes without a prior: %s", code, error)
        else:
            priors[code] = OpenPrior(index=digests[code], prior=SpanPrior(learned, weight=weight))
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


def kept_prior(workspace: Workspace, language: str, digest: str, index: LanguageIndex) -> PriorWeights:
    """Returns what was learned from an index; learns and keeps it where it is not there.

    Args:
        workspace: Where it is kept.
        language: The index's.
        digest: Of the index.
        index: The same, opened.

    Raises:
        InputError: No training sentence has a mention.
    """
    manifest = read_manifest(workspace.indexes, language, digest)
    return Learned(
        kind="prior",
        store=workspace.priors,
        key={"format_version": FORMAT_VERSION, "indexes": corpus_parts({language: manifest})},
        learn=lambda: learn_prior([index.contexts.example(row) for row in range(len(index.contexts))]),
        pack=_pack,
        unpack=_unpack,
    ).kept()


def _pack(weights: PriorWeights) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tables = {"table": weights.table, "transitions": weights.transitions}
    return tables, {"labels": list(weights.labels)}


def _unpack(tensors: Mapping[str, torch.Tensor], manifest: Mapping[str, Any]) -> PriorWeights:
    return PriorWeights(
        labels=tuple(manifest["labels"]), table=tensors["table"], transitions=tensors["transitions"]
    )
