"""Learning of the prior's weights from tagged sentences: three regressions (see regression.py).

Every unit outside a mention, and the first of one, is asked whether a mention starts; every unit behind one
of a mention whether it goes on; every mention its label. At most `MOST_UNITS` units are learned from, 20,000
sentences of PAN-X whole. A table has up to 2^19 rows: with three labels 5 MB on disk.
Axes: N decisions, U units, R rows, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from retrieveall.corpus.limits import limited
from retrieveall.embedding.hashing import U64, rehashed
from retrieveall.errors import InputError
from retrieveall.prior.features import Bags, UnitFeatures, border, unit_features
from retrieveall.prior.model import (
    AROUND,
    CLOSES,
    GO,
    GO_FIRST,
    GO_LENGTH,
    GO_SENTENCE,
    INSIDE,
    LABEL_LENGTH,
    OPENS,
    PAIRS,
    SCALE,
    START,
    START_SENTENCE,
    PriorWeights,
    Role,
    length_feature,
    neighbours,
    rows_of,
)
from retrieveall.regression import Counts, ranges, regression
from retrieveall.text.units import split_units, unit_borders
from retrieveall.types import ContextExample, Sentence, Span

MOST_UNITS = 400_000
MOST_ROWS, LEAST_ROWS = 1 << 19, 1 << 14
_ROWS_PER_UNIT = 2  # of the corpus, before rows are rounded up to a power of two
EPOCHS = 6
_STEPS = 1_000  # of a pass: so few sentences still move the weights often, and many do not take all day
_STEP_EXAMPLES = range(16, 65)
_CAUTION = 0.01  # about four examples that were half wrong: gradients are divided by SCALE
_BATCH_SENTENCES = 1_000

Tagged = Sentence | ContextExample
Places = NDArray[np.int64]


def learn_prior(sentences: Sequence[Tagged]) -> PriorWeights:
    """Learns from tagged sentences of one language.

    Mentions that do not begin and end with units are passed over.

    Raises:
        InputError: No sentence has a mention.
    """
    units = [split_units(sentence.text) for sentence in sentences]
    share = min(1.0, MOST_UNITS / max(1, sum(map(len, units))))
    chosen = limited(len(sentences), max(1, int(share * len(sentences))))
    mentions = [_mentions(sentences[i], units[i]) for i in chosen]
    labels = tuple(sorted({label for some in mentions for _, _, label in some}))
    if not labels:
        raise InputError(
            "The prior was to be learned from sentences without any mention. Import a tagged corpus."
        )
    rows = _rows_for(sum(len(units[i]) for i in chosen))
    heads = {"start": _Decisions(rows), "go": _Decisions(rows), "label": _Decisions(rows)}
    for first in range(0, len(chosen), _BATCH_SENTENCES):
        some = range(first, min(first + _BATCH_SENTENCES, len(chosen)))
        seen = unit_features([sentences[chosen[i]].text for i in some], [units[chosen[i]] for i in some])
        _collect(heads, seen, [mentions[i] for i in some], labels)
    start, go = _odds(heads["start"].learn(2)), _odds(heads["go"].learn(2))
    return PriorWeights(
        labels=labels,
        start=start,
        go=go,
        label=heads["label"].learn(max(2, len(labels)))[:, : len(labels)],
    )


def _rows_for(units: int) -> int:
    wanted = max(LEAST_ROWS, min(MOST_ROWS, units * _ROWS_PER_UNIT))
    return 1 << (wanted - 1).bit_length()


def step_examples(decisions: int) -> int:
    """Returns how many decisions one step of learning looks at."""
    return min(max(_STEP_EXAMPLES), max(min(_STEP_EXAMPLES), decisions // _STEPS))


def _odds(table_R2: torch.Tensor) -> torch.Tensor:
    return (table_R2[:, 1] - table_R2[:, 0])[:, None].contiguous()


def _mentions(sentence: Tagged, units: Sequence[Span]) -> list[tuple[int, int, str]]:
    """Returns first and end unit and label of the mentions that are runs of units."""
    firsts, ends = unit_borders(units)
    return [
        (firsts[entity.start_char], ends[entity.end_char], entity.label)
        for entity in sentence.entities
        if entity.start_char in firsts and entity.end_char in ends
    ]


@dataclass(slots=True)
class _Decisions:
    """Decisions of one head: the rows of their features, decision by decision, and what was right."""

    rows: int
    _features: list[NDArray[np.int32]] = field(default_factory=list)
    _counts: list[Counts] = field(default_factory=list)
    _classes: list[Places] = field(default_factory=list)

    def add(self, parts: Sequence[tuple[Places, U64, Counts]], classes: Places) -> None:
        """Adds N decisions.

        Args:
            parts: Each with the decisions that its bags belong to, their hashes, and how many each bag has.
            classes: What was right ``(N,)``.
        """
        decision = np.concatenate([np.repeat(of, counts) for of, _, counts in parts])
        hashes = np.concatenate([found for _, found, _ in parts])
        self._features.append(rows_of(hashes[np.argsort(decision, kind="stable")], self.rows))
        self._counts.append(np.bincount(decision, minlength=len(classes)))
        self._classes.append(classes)

    def learn(self, classes: int) -> torch.Tensor:
        """Returns the head's table ``(R, classes)``, as exact as it is kept."""
        counts = np.concatenate(self._counts)
        table = regression(
            torch.from_numpy(np.concatenate(self._features)),
            counts,
            torch.from_numpy(np.concatenate(self._classes)),
            torch.full((len(counts), 1), SCALE),
            shape=(self.rows, classes),
            epochs=EPOCHS,
            step_examples=step_examples(len(counts)),
            caution=_CAUTION,
        )
        return table.half()


def _collect(
    heads: dict[str, _Decisions],
    seen: UnitFeatures,
    mentions: Sequence[Sequence[tuple[int, int, str]]],
    labels: Sequence[str],
) -> None:
    """Adds the decisions of some sentences."""
    of_sentence = np.bincount(seen.sentence, minlength=len(mentions))
    before = np.cumsum(of_sentence) - of_sentence
    spans = np.array(
        [
            (before[i] + first, before[i] + end, labels.index(label))
            for i, some in enumerate(mentions)
            for first, end, label in some
        ],
        np.int64,
    ).reshape(-1, 3)
    firsts, ends = spans[:, 0], spans[:, 1]
    inner = ranges(firsts + 1, ends - firsts - 1)
    outside = np.ones(len(seen.sentence), bool)
    outside[inner] = False
    asked = np.flatnonzero(outside)
    if len(asked):
        parts = [*_anchored(seen, START, asked), _of_sentence(seen, START_SENTENCE, asked)]
        heads["start"].add(parts, np.isin(asked, firsts).astype(np.int64))
    if len(spans):
        _collect_go(heads["go"], seen, firsts, ends)
        heads["label"].add(_label_parts(seen, firsts, ends), spans[:, 2])


def _collect_go(head: _Decisions, seen: UnitFeatures, firsts: Places, ends: Places) -> None:
    """Every unit behind one of a mention: those inside go on, the first behind it does not."""
    lengths = ends - firsts
    mention = np.repeat(np.arange(len(firsts)), lengths)
    unit = ranges(firsts + 1, lengths)
    there = (unit < len(seen.sentence)) & (
        seen.sentence[np.minimum(unit, len(seen.sentence) - 1)] == seen.sentence[firsts[mention]]
    )
    mention, unit = mention[there], unit[there]
    if not len(unit):
        return
    decisions = np.arange(len(unit))
    parts = _anchored(seen, GO, unit) + _anchored(seen, GO_FIRST, firsts[mention])
    parts.append(_of_sentence(seen, GO_SENTENCE, unit))
    ones = np.ones(len(unit), np.int64)
    parts.append((decisions, length_feature(GO_LENGTH, unit - firsts[mention]), ones))
    head.add(parts, (unit < ends[mention]).astype(np.int64))


def _label_parts(seen: UnitFeatures, firsts: Places, ends: Places) -> list[tuple[Places, U64, Counts]]:
    """Returns the bags of mentions, as `UnitScores` adds them up."""
    decisions, lengths = np.arange(len(firsts)), ends - firsts
    parts = _anchored(seen, OPENS, firsts) + _anchored(seen, CLOSES, ends - 1)
    parts.append(_bags(seen, INSIDE, ranges(firsts, lengths), np.repeat(decisions, lengths)))
    parts.append(_bags(seen, PAIRS, ranges(firsts + 1, lengths - 1), np.repeat(decisions, lengths - 1)))
    parts.append((decisions, length_feature(LABEL_LENGTH, lengths), np.ones(len(firsts), np.int64)))
    begins = np.searchsorted(seen.sentence, seen.sentence[firsts], side="left")
    stops = np.searchsorted(seen.sentence, seen.sentence[firsts], side="right")
    parts.append(_bags(seen, AROUND, ranges(begins, firsts - begins), np.repeat(decisions, firsts - begins)))
    parts.append(_bags(seen, AROUND, ranges(ends, stops - ends), np.repeat(decisions, stops - ends)))
    return parts


def _anchored(seen: UnitFeatures, roles: Sequence[Role], anchors: Places) -> list[tuple[Places, U64, Counts]]:
    """Returns the bags of decisions that are anchored at units, for each role."""
    parts = []
    decisions = np.arange(len(anchors))
    for role in roles:
        near = neighbours(seen, role.offset)[anchors]
        parts.append(_bags(seen, role, near[near >= 0], decisions[near >= 0]))
        missing = decisions[near < 0]
        parts.append((missing, np.repeat(border(role.salt), len(missing)), np.ones(len(missing), np.int64)))
    return parts


def _of_sentence(seen: UnitFeatures, role: Role, anchors: Places) -> tuple[Places, U64, Counts]:
    """Returns the bags of all units of the sentences that decisions are anchored in."""
    begins = np.searchsorted(seen.sentence, seen.sentence[anchors], side="left")
    lengths = np.searchsorted(seen.sentence, seen.sentence[anchors], side="right") - begins
    return _bags(seen, role, ranges(begins, lengths), np.repeat(np.arange(len(anchors)), lengths))


def _bags(seen: UnitFeatures, role: Role, units: Places, decisions: Places) -> tuple[Places, U64, Counts]:
    bags: Bags = getattr(seen, role.kind)
    hashes, counts = bags.of(units)
    return decisions, rehashed(hashes, role.salt), counts
