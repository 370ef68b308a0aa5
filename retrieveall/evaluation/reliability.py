"""Whether scores mean what they say: the share of right entities per bin of scores, and their distance.

Expected calibration error (Naeini et al. 2015): the mean distance between a bin's mean score and its share of
right entities, each bin weighted by its entities; ten bins of equal width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieveall.evaluation.strict import Predictions, check_paired, places
from retrieveall.types import Entity, Sentence

BINS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityBin:
    """The entities whose scores lie in one tenth.

    Attributes:
        score: Their mean score.
        right: Share of them that is right by the strict metric.
        entities: Their number, at least one.
    """

    score: float
    right: float
    entities: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """What scores are worth.

    Attributes:
        ece: Expected calibration error, a fraction; 0 is best.
        bins: Those that hold entities, ascending.
    """

    ece: float
    bins: tuple[ReliabilityBin, ...]


def scored_entities(gold: Sequence[Sentence], predicted: Predictions) -> tuple[list[float], list[bool]]:
    """Returns the scores of predicted entities and whether each is right; of two alike the second is not.

    Mentions without a score, such as a rival's, are left out.

    Raises:
        InputError: The two lengths differ, or an entity does not lie in its text.
    """
    check_paired(gold, predicted)
    scores, right = [], []
    for sentence, entities in zip(gold, predicted, strict=True):
        wanted = Counter(places(sentence, sentence.entities))
        for entity, place in zip(entities, places(sentence, entities), strict=True):
            if not isinstance(entity, Entity):
                continue
            scores.append(entity.score)
            right.append(wanted[place] > 0)
            wanted[place] -= 1
    return scores, right


def reliability_of(scores: Sequence[float], right: Sequence[bool]) -> Reliability | None:
    """Returns the reliability of N scored entities, None where there are none."""
    if not scores:
        return None
    scores_N, right_N = np.array(scores), np.array(right)
    number_N = np.minimum((scores_N * BINS).astype(int), BINS - 1)
    bins = tuple(
        ReliabilityBin(
            score=float(scores_N[number_N == number].mean()),
            right=float(right_N[number_N == number].mean()),
            entities=int((number_N == number).sum()),
        )
        for number in range(BINS)
        if (number_N == number).any()
    )
    ece = sum(one.entities * abs(one.score - one.right) for one in bins) / len(scores)
    return Reliability(ece=ece, bins=bins)
