"""The set metric of some papers, for comparison with the literature only: it inflates.

A sentence's mentions become a *set* of (lower-cased surface, label). Borders, positions and
repeated mentions no longer count. Part of the literature reports it; own choice to show it beside
the strict score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retrieveall.evaluation.bootstrap import Counts
from retrieveall.evaluation.strict import Mention, Predictions, check_paired
from retrieveall.types import Sentence

SET_METRIC_LABEL = "set F1 (for comparison with the literature only)"


def count_sets(gold: Sequence[Sentence], predicted: Predictions) -> Counts:
    """Returns ``(S, 3)`` tp, fp, fn of the sentences' mention sets.

    Args:
        gold: S sentences with their gold mentions.
        predicted: S lists of mentions.

    Raises:
        InputError: The two lengths differ.
    """
    check_paired(gold, predicted)
    counts = np.zeros((len(gold), 3), dtype=np.int64)
    for row, (sentence, mentions) in enumerate(zip(gold, predicted, strict=True)):
        wanted = _surfaces(sentence.text, sentence.entities)
        found = _surfaces(sentence.text, mentions)
        counts[row] = len(wanted & found), len(found - wanted), len(wanted - found)
    return counts


def _surfaces(text: str, mentions: Sequence[Mention]) -> set[tuple[str, str]]:
    return {(text[m.start_char : m.end_char].strip().lower(), m.label) for m in mentions}
