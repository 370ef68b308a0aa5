"""What a CRF thinks of a line's decisions, compared with sums over all tags of short sentences."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from retrieveall.engine.chain import Chain, likeliest_mentions
from retrieveall.types import UnitScores
from tests.test_engine_fusion import random_scores

LOC, PER = (1, 2), (3, 4)  # first tag of a mention, and the others
Tags = tuple[int, ...]


def chances(scores: UnitScores) -> dict[Tags, float]:
    """The probability of each line of tags."""
    units, tags = scores.tags.shape
    sums = {}
    for line in itertools.product(range(tags), repeat=units):
        pairs = zip((tags, *line[:-1]), line, strict=True)
        moves = sum(float(scores.transitions[a, b]) for a, b in pairs)
        sums[line] = math.exp(moves + float(scores.tags[range(units), line].sum()))
    total = sum(sums.values())
    return {line: weight / total for line, weight in sums.items()}


@pytest.mark.parametrize("seed", range(4))
def test_where_the_next_mention_starts(seed: int) -> None:
    scores = random_scores(4, ("LOC", "PER"), seed=seed)
    chain, lines = Chain(scores), chances(scores)
    starts, none = chain.starts(0, chain.start)
    expected = [
        sum(chance for line, chance in lines.items() if not any(line[:unit]) and line[unit] % 2)
        for unit in range(4)
    ]
    assert starts == pytest.approx(expected, rel=1e-5)
    assert none == pytest.approx(lines[(0,) * 4], rel=1e-5)
    behind = {line: chance for line, chance in lines.items() if line[:2] == LOC and line[2] != LOC[1]}
    starts, none = chain.starts(2, chain.tag_of("LOC", 2))  # behind a mention of two units
    total = sum(behind.values())
    assert starts[0] == pytest.approx(sum(c for line, c in behind.items() if line[2] % 2) / total, rel=1e-5)
    assert none == pytest.approx(lines[(*LOC, 0, 0)] / total, rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_how_a_mention_ends(seed: int) -> None:
    scores = random_scores(4, ("LOC", "PER"), seed=seed)
    chain, lines = Chain(scores), chances(scores)
    begun = {line: c for line, c in lines.items() if line[0] == 0 and line[1:3] in (LOC, PER)}
    goes_on, of_label = chain.ends(1, 0, 3)
    going = sum(c for line, c in begun.items() if line[3] == line[2])
    assert goes_on == pytest.approx(going / sum(begun.values()), rel=1e-5)
    ended = [sum(c for ln, c in begun.items() if ln[1:3] == tags and ln[3] != ln[2]) for tags in (LOC, PER)]
    assert of_label == pytest.approx(np.array(ended) / sum(ended), rel=1e-5)
    assert chain.ends(1, 0, 4)[0] == 0.0  # the sentence ends


def test_the_last_tag_of_a_mention() -> None:
    chain = Chain(random_scores(1, ("LOC", "PER")))
    assert [chain.tag_of(label, length) for label, length in (("PER", 1), ("LOC", 3), ("DATE", 1))] == [
        3,
        2,
        0,
    ]


@pytest.mark.parametrize("seed", range(6))
def test_the_likeliest_tags_are_those_of_the_highest_sum(seed: int) -> None:
    scores = random_scores(4, ("LOC", "PER"), seed=seed)
    sums = {}
    for line in itertools.product(range(5), repeat=4):
        pairs = zip((5, *line[:-1]), line, strict=True)
        sums[line] = sum(scores.transitions[a, b] for a, b in pairs) + scores.tags[range(4), line].sum()
    best = max(sums, key=lambda line: float(sums[line]))
    found = [0] * 4
    for first, end, label in likeliest_mentions(scores):
        begins = 1 + 2 * scores.labels.index(label)
        found[first:end] = [begins] + [begins + 1] * (end - first - 1)
    assert tuple(found) == best
