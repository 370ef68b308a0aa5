"""The views of one set of predictions: each is one array of counts, scored in the same way.

strict         the main metric, on all sentences
unseen         strict, on sentences that do not stand in train
unseen_names   strict, on names that never occur in train
detokenised    strict, on the detokenised form of the same sentences
set_metric     for comparison with the literature only
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from retrieveall.evaluation.bootstrap import Counts
from retrieveall.evaluation.set_metric import SET_METRIC_LABEL, count_sets
from retrieveall.evaluation.strict import Predictions, count_strict
from retrieveall.evaluation.unseen import SeenInTraining, restrict_to_unseen_names, unseen_mask
from retrieveall.types import Sentence

View = Literal["strict", "unseen", "unseen_names", "detokenised", "set_metric"]
VIEWS: tuple[View, ...] = get_args(View)
VIEW_TITLES: Mapping[View, str] = {
    "strict": "strict F1",
    "unseen": "strict F1 on sentences that do not stand in train",
    "unseen_names": "strict F1 on names that never occur in train",
    "detokenised": "strict F1 on detokenised text",
    "set_metric": SET_METRIC_LABEL,
}


def count_views(
    gold: Sequence[Sentence],
    predicted: Predictions,
    *,
    seen: SeenInTraining | None = None,
    detokenised: tuple[Sequence[Sentence], Predictions] | None = None,
) -> dict[View, Counts]:
    """Counts every view that can be counted.

    A view that needs ``seen`` or ``detokenised`` is left out without it, and so is one that has no
    gold mention (no unseen sentence, say): a 0 there would read as a failure.

    Args:
        gold: S sentences.
        predicted: S lists of mentions.
        seen: What training held.
        detokenised: The detokenised sentences and what was predicted on them.

    Returns:
        ``(S', 3)`` counts per view; S' is S but for ``unseen``.

    Raises:
        InputError: Lengths that differ, or a mention that does not lie in its text.
    """
    strict = count_strict(gold, predicted).per_sentence
    counts: dict[View, Counts] = {"strict": strict, "set_metric": count_sets(gold, predicted)}
    if seen is not None:
        counts["unseen"] = strict[unseen_mask(gold, seen)]
        counts["unseen_names"] = count_strict(*restrict_to_unseen_names(gold, predicted, seen)).per_sentence
    if detokenised is not None:
        counts["detokenised"] = count_strict(*detokenised).per_sentence
    always = ("strict", "set_metric")
    return {
        view: counts[view] for view in VIEWS if view in counts and (view in always or _gold(counts[view]))
    }


def _gold(counts_SK: Counts) -> bool:
    return bool(np.any(counts_SK[:, [0, 2]]))
