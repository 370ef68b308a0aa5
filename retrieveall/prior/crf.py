"""Learning of a linear-chain CRF whose scores come from a table of hashed features (see hashed_table.py).

The table's weights and the transitions climb the sentences' summed log-likelihood by AdaGrad, some sentences
a step, in an order drawn from a fixed seed; nothing else is random. Few sentences are passed over more often
and in smaller steps. Source: own choice; the model is that of Lafferty, McCallum and Pereira (2001).
Axes: S sentences of a step, N units of the longest, U units of all, T tags.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from retrieveall.hashed_table import Counts, HashedTable, ranges

NEVER = -1e4
SCALE = 10.0  # what the sums of all units are divided by
_SEED = 13
_STEP_SIZE, _CAUTION = 1.0, 1.0
_MOVE_STEP_SIZE, _MOVE_CAUTION = 1.0, 1.0  # of the transitions
_STEPS = 1_000  # of a pass: so few sentences still move the weights often, and many do not take all day
_STEP_UNITS = range(16, 65)
_SEEN_UNITS, _PASSES = 100_000, range(10, 21)


def learn_crf(
    rows: torch.Tensor,
    counts: Counts,
    tags_U: torch.Tensor,
    lengths: Counts,
    moves: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Learns from tagged sentences.

    Args:
        rows: Of the table, unit by unit.
        counts: How many each unit has ``(U,)``.
        tags_U: Right tag of each unit.
        lengths: Units of each sentence, none without any.
        moves: Transitions to begin with, `NEVER` where one is forbidden, the sentence's start last
            ``(T + 1, T)``.
        weights: The table's to begin with, divided by `SCALE` ``(R, T)``.

    Returns:
        The table's weights, divided by `SCALE`, and the transitions ``(T + 1, T)``.
    """
    tags, moves = moves.shape[1], moves.clone()
    scale_U1 = torch.full((len(counts), 1), SCALE)
    table = HashedTable(rows, counts, scale_U1, weights * SCALE, caution=_CAUTION)
    squares = torch.full_like(moves, _MOVE_CAUTION)
    starts = np.cumsum(lengths) - lengths
    generator = np.random.default_rng(_SEED)
    passes, step = passes_over(len(counts)), max(1, round(step_units(len(counts)) / lengths.mean()))
    for number in range(passes):
        order = generator.permutation(len(lengths))
        for first in range(0, len(order), step):
            left = 1.0 - (number + first / len(order)) / passes
            some = order[first : first + step]
            units = ranges(starts[some], lengths[some])
            look = table.look(units)
            gradient_BT, by_moves = expected(look.scores_BC, lengths[some], moves)
            gradient_BT[torch.arange(len(units)), tags_U[units]] -= 1.0
            by_moves -= observed(tags_U[units], lengths[some], tags)
            table.descend(look, gradient_BT, _STEP_SIZE * left)
            squares += by_moves.square()
            moves -= _MOVE_STEP_SIZE * left * by_moves / squares.sqrt()
    return table.weights / SCALE, moves


def passes_over(units: int) -> int:
    """Returns how often a corpus of so many units is passed over."""
    return min(max(_PASSES), max(min(_PASSES), _SEEN_UNITS // max(1, units)))


def step_units(units: int) -> int:
    """Returns about how many of a corpus's units one step of learning looks at."""
    return min(max(_STEP_UNITS), max(min(_STEP_UNITS), units // _STEPS))


def expected(
    scores_BT: torch.Tensor, lengths: Counts, moves: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns how often the CRF expects each tag and each transition, by forward and backward sums.

    Args:
        scores_BT: Of the tags of all units, sentence by sentence.
        lengths: Units of each sentence ``(S,)``.
        moves: Transitions ``(T + 1, T)``.

    Returns:
        Each unit's tag probabilities ``(B, T)``, and the sums of transitions over all sentences
        ``(T + 1, T)``.
    """
    tags, longest = scores_BT.shape[1], int(lengths.max())
    sentence, place = _places(lengths)
    scores_NST = torch.zeros(longest, len(lengths), tags)
    scores_NST[place, sentence] = scores_BT
    last_S, inner = torch.from_numpy(lengths - 1), moves[:tags]
    before_NST = torch.empty_like(scores_NST)  # log-sums over all that leads to a tag, its own score too
    before_NST[0] = scores_NST[0] + moves[tags]
    for unit in range(1, longest):
        leading = before_NST[unit - 1].unsqueeze(2) + inner
        before_NST[unit] = torch.logsumexp(leading, dim=1) + scores_NST[unit]
    whole_S = torch.logsumexp(before_NST[last_S, torch.arange(len(lengths))], dim=1)
    behind_NST = torch.zeros_like(scores_NST)  # over all that follows a tag
    sums = torch.zeros_like(moves)
    for unit in reversed(range(longest - 1)):
        goes_on = (unit < last_S).unsqueeze(1)
        following = inner + (scores_NST[unit + 1] + behind_NST[unit + 1]).unsqueeze(1)
        behind_NST[unit] = torch.where(goes_on, torch.logsumexp(following, dim=2), 0.0)
        both = before_NST[unit].unsqueeze(2) + following - whole_S[:, None, None]
        sums[:tags] += torch.where(goes_on.unsqueeze(2), both, NEVER).exp().sum(dim=0)
    shares_BT = torch.exp((before_NST + behind_NST - whole_S[:, None])[place, sentence])
    sums[tags] = shares_BT[place == 0].sum(dim=0)
    return shares_BT, sums


def observed(tags_B: torch.Tensor, lengths: Counts, tags: int) -> torch.Tensor:
    """Returns how often each tag follows each, and the sentence's start ``(T + 1, T)``.

    Args:
        tags_B: Of all units, sentence by sentence.
        lengths: Units of each sentence.
        tags: T.
    """
    _, place = _places(lengths)
    before = torch.roll(tags_B, 1)
    before[place == 0] = tags
    pairs = torch.bincount(before * tags + tags_B, minlength=(tags + 1) * tags)
    return pairs.view(tags + 1, tags).float()


def _places(lengths: Counts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns which sentence each unit belongs to, and its place there."""
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    return sentence, ranges(np.zeros(len(lengths), np.int64), lengths)
