"""Which names and frames each split may use, settled before a sentence is drawn.

Each name and frame belongs to one pool: train, dev or test. Train draws from its own pool alone;
dev and test mix their own (never in train) with train's. Names that contain each other, or share a
form, such as ``Florence`` (PER), ``Florence`` (LOC) and ``Bank of Florence``, go to one pool
together, and names that stand in a frame's own words go to train: an unseen name is then nowhere in
the training text. The pools depend on the data file alone, not on the seed, so that an adapter
trained on one seed may be tested on another. Source: own choice.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from retrieveall.corpus.sample.frames import Frame, Name, SampleData
from retrieveall.text.units import split_units
from retrieveall.types import SPLITS, Split

POOL_SHARES: Mapping[Split, float] = {"train": 0.55, "dev": 0.15, "test": 0.30}

_T = TypeVar("_T")
_BORDER = "\x1f"  # between units; no text has it


@dataclass(frozen=True, kw_only=True, slots=True)
class Pools:
    """The names and frames of each split; a name or frame stands in exactly one."""

    names: Mapping[Split, tuple[Name, ...]]
    frames: Mapping[Split, tuple[Frame, ...]]


def split_pools(data: SampleData) -> Pools:
    """Deals the names and frames of a data file to the splits, always in the same way."""
    rng = random.Random(f"{data.language}:pools")
    names = [name for group in data.names.values() for name in group]
    literals = _joined(piece for frame in data.frames for piece in frame.pieces if isinstance(piece, str))
    groups = _groups(names)
    fixed = [group for group in groups if any(run in literals for name in group for run in _runs(name))]
    free = [group for group in groups if group not in fixed]
    rng.shuffle(free)
    free.sort(key=len, reverse=True)  # large groups first: the small ones even the shares out
    frames = [[frame] for frame in data.frames]
    rng.shuffle(frames)
    return Pools(
        names=_deal(free, lambda name: (name.label, name.cases), fixed=fixed),
        frames=_deal(frames, lambda frame: min(frame.mentions, 3)),
    )


def _deal(
    groups: Sequence[Sequence[_T]],
    stratum: Callable[[_T], Hashable],
    fixed: Sequence[Sequence[_T]] = (),
) -> dict[Split, tuple[_T, ...]]:
    """Gives each group to the split that lacks it most, so that every stratum is shared out alike."""
    dealt: dict[Split, list[_T]] = {split: [] for split in SPLITS}
    have: Counter[tuple[Hashable, Split]] = Counter()
    total: Counter[Hashable] = Counter()
    for index, group in enumerate([*fixed, *groups]):
        strata = [stratum(item) for item in group]
        total.update(strata)

        def lack(split: Split, strata: list[Hashable] = strata) -> float:
            return sum(POOL_SHARES[split] * total[s] - have[s, split] for s in strata)

        split = "train" if index < len(fixed) else max(SPLITS, key=lack)
        dealt[split] += group
        have.update((s, split) for s in strata)
    return {split: tuple(items) for split, items in dealt.items()}


def _groups(names: Sequence[Name]) -> list[list[Name]]:
    """Joins names of which one has a form that stands inside a form of the other."""
    runs = [_runs(name) for name in names]
    texts = ["".join(sorted(forms)) for forms in runs]
    holders: dict[str, set[int]] = defaultdict(set)  # unit → the names that have it in some form
    for index, text in enumerate(texts):
        for unit in text.split(_BORDER):
            holders[unit].add(index)
    leader = list(range(len(names)))

    def find(index: int) -> int:
        while leader[index] != index:
            index = leader[index]
        return index

    for index, forms in enumerate(runs):
        # Only names that share a unit can contain each other: few of them, so this stays quick.
        for other in sorted(set().union(*(holders[form.split(_BORDER)[1]] for form in forms))):
            if other != index and any(form in texts[other] for form in forms):
                low, high = sorted((find(index), find(other)))
                leader[high] = low
    groups: dict[int, list[Name]] = {}
    for index, name in enumerate(names):
        groups.setdefault(find(index), []).append(name)
    return list(groups.values())


def _runs(name: Name) -> set[str]:
    return {_joined([form]) for _, form in name.forms}


def _joined(texts: Iterable[str]) -> str:
    """Returns the units of all texts between separators, so that ``in`` finds runs of whole units."""
    runs = (_BORDER.join(text[u.start_char : u.end_char] for u in split_units(text)) for text in texts)
    return _BORDER + (_BORDER * 2).join(run.casefold() for run in runs) + _BORDER
