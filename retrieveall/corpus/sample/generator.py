"""Drawing the sample corpus from its data files. Same arguments, same sentences, on every machine."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from retrieveall.corpus.sample.frames import LABELS, Frame, Name, SampleData, render
from retrieveall.corpus.sample.loader import load_sample_data, sample_languages
from retrieveall.corpus.sample.pools import Pools, split_pools
from retrieveall.errors import ConfigError
from retrieveall.text.folding import fold_text
from retrieveall.text.mentions import first_inexpressible
from retrieveall.text.units import split_units
from retrieveall.types import SPLITS, GoldEntity, Sentence, Split

__all__ = ["LABELS", "Drawn", "draw_sample", "sample_corpus", "sample_languages"]

DEFAULT_SIZES: Mapping[Split, int] = {"train": 1000, "dev": 200, "test": 200}

# Shares of the distinct names and frames used in dev and test, kept for every size. Half and 30 % are
# the promise; a little more leaves room for counting a name of two types twice.
MIN_UNSEEN_NAMES = 0.55
MIN_UNSEEN_FRAMES = 0.35

_OWN_NAME = 0.6  # chance that dev or test takes a name of its own pool
_OWN_FRAME = 0.5
_NO_ENTITY = 0.12  # PAN-X has next to none, prose has many: own choice between
_MAX_REPEATS = 3  # a train sentence without any slot may come back so often; all others are unique
_MAX_FAILURES = 2000  # in a row, before the data count as exhausted


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """A sentence with what it was made of, for tests and audits."""

    sentence: Sentence
    frame: Frame
    names: tuple[Name, ...]


class _Supply:
    """What one split may draw from: its own pool and, for dev and test, train's."""

    def __init__(self, data: SampleData, pools: Pools, split: Split) -> None:
        self.split = split
        self.own_names = frozenset(pools.names[split])
        self.own_frames = frozenset(pools.frames[split])
        self._names = {True: pools.names[split], False: pools.names["train"]}
        # A frame without slots is one sentence: train keeps its own ones.
        borrowed = [frame for frame in pools.frames["train"] if frame.slots]
        self._frames = {True: _by_bareness(pools.frames[split]), False: _by_bareness(borrowed)}
        self._fillers = data.fillers
        self._fitting: dict[tuple[bool, str, frozenset[str]], tuple[Name, ...]] = {}

    def frames(self, *, own: bool, bare: bool) -> tuple[Frame, ...]:
        """Frames of one pool, without mentions when ``bare`` (of the other kind if there are none)."""
        return self._frames[own][bare] or self._frames[own][not bare]

    def names(self, kind: str, cases: frozenset[str], *, own: bool) -> tuple[Name, ...]:
        """Names of one pool, or filler words, that have all of ``cases``."""
        wanted = (own, kind, cases)
        if wanted not in self._fitting:
            pool = self._fillers.get(kind) or [name for name in self._names[own] if name.label == kind]
            self._fitting[wanted] = tuple(name for name in pool if all(name.fits(case) for case in cases))
        return self._fitting[wanted]


def _by_bareness(frames: Iterable[Frame]) -> dict[bool, tuple[Frame, ...]]:
    listed = tuple(frames)
    return {bare: tuple(f for f in listed if (f.mentions == 0) == bare) for bare in (True, False)}


@dataclass(kw_only=True)
class _Draft:
    """One split while it is being drawn."""

    data: SampleData
    supply: _Supply
    split: Split
    rng: random.Random
    taken: set[str]  # folded texts of the other splits
    texts: Counter[str] = field(default_factory=Counter)
    names: dict[str, bool] = field(default_factory=dict)  # citation form → never in train
    frames: dict[str, bool] = field(default_factory=dict)
    rows: list[Drawn] = field(default_factory=list)


def sample_corpus(
    language: str, *, seed: int = 0, sizes: Mapping[Split, int] = DEFAULT_SIZES
) -> list[Sentence]:
    """Draws the sample corpus of one language.

    In dev and in test at least half of the distinct names and 30 % of the distinct frames never
    occur in train, whatever the seeds; no sentence stands in two splits.

    Args:
        language: One of ``sample_languages()``.
        seed: Another seed gives other sentences from the same pools of names and frames.
        sizes: Sentences per split; a split that is left out gets none.

    Returns:
        Train, then dev, then test sentences.

    Raises:
        NotFoundError: When no data file ships for ``language``.
        ConfigError: When the data do not give so many different sentences.
    """
    return [drawn.sentence for drawn in draw_sample(load_sample_data(language), seed=seed, sizes=sizes)]


def draw_sample(
    data: SampleData, *, seed: int = 0, sizes: Mapping[Split, int] = DEFAULT_SIZES
) -> list[Drawn]:
    """Like ``sample_corpus``, from data at hand, each sentence with its frame and names.

    Raises:
        ConfigError: When the data do not give so many different sentences.
    """
    pools = split_pools(data)
    drafts: dict[Split, _Draft] = {}
    taken: set[str] = set()
    # Test first: its sentences then do not change with the size of train.
    for split in reversed(SPLITS):
        drafts[split] = _Draft(
            data=data,
            supply=_Supply(data, pools, split),
            split=split,
            rng=random.Random(f"{data.language}:{seed}:{split}"),
            taken=set(taken),
        )
        _fill(drafts[split], sizes.get(split, 0))
        taken |= set(drafts[split].texts)
    return [row for split in SPLITS for row in drafts[split].rows]


def _fill(draft: _Draft, size: int) -> None:
    failures = 0
    while len(draft.rows) < size and failures < _MAX_FAILURES:
        failures = 0 if _try_one(draft) else failures + 1
    if len(draft.rows) < size:
        raise ConfigError(
            f"the sample data of {draft.data.language!r} gave {len(draft.rows)} different {draft.split} "
            f"sentences, {size} were asked for; ask for fewer or add names and frames"
        )


def _try_one(draft: _Draft) -> bool:
    """Draws one sentence and keeps it unless it breaks a promise; returns whether it was kept."""
    frame = _pick_frame(draft)
    filling = _fill_slots(draft, frame)
    if filling is None:
        return False
    text, entities = render(frame, filling, draft.data.contractions)
    used = tuple(dict.fromkeys(filling[slot.kind, slot.key] for slot in frame.slots if slot.is_entity))
    if _is_taken(draft, frame, text) or not _keeps_shares(draft, frame, used):
        return False
    if first_inexpressible(text, entities) is not None:
        return False
    draft.texts[_folded(text)] += 1
    draft.names |= {name.citation: name in draft.supply.own_names for name in used}
    draft.frames[frame.source] = frame in draft.supply.own_frames
    draft.rows.append(Drawn(sentence=_sentence(draft, text, entities), frame=frame, names=used))
    return True


def _pick_frame(draft: _Draft) -> Frame:
    own = draft.split == "train" or draft.rng.random() < _OWN_FRAME
    bare = draft.rng.random() < _NO_ENTITY
    return draft.rng.choice(draft.supply.frames(own=own, bare=bare))


def _fill_slots(draft: _Draft, frame: Frame) -> dict[tuple[str, str], Name] | None:
    """Chooses a name for every slot; None when the pool has no other name that fits."""
    cases: dict[tuple[str, str], set[str]] = {}
    for slot in frame.slots:
        cases.setdefault((slot.kind, slot.key), set()).add(slot.case)
    filling: dict[tuple[str, str], Name] = {}
    for (kind, key), wanted in cases.items():
        own = draft.split == "train" or draft.rng.random() < _OWN_NAME
        fitting = draft.supply.names(kind, frozenset(wanted), own=own)
        chosen = draft.rng.sample(fitting, k=min(len(fitting), len(filling) + 1))
        free = [name for name in chosen if name not in filling.values()]
        if not free:
            return None
        filling[kind, key] = free[0]
    return filling


def _is_taken(draft: _Draft, frame: Frame, text: str) -> bool:
    folded = _folded(text)
    may_repeat = draft.split == "train" and not frame.slots
    return folded in draft.taken or draft.texts[folded] >= (_MAX_REPEATS if may_repeat else 1)


def _keeps_shares(draft: _Draft, frame: Frame, used: Sequence[Name]) -> bool:
    """Whether the promised shares of unseen names and frames still hold with one more sentence."""
    if draft.split == "train":
        return True
    names = draft.names | {name.citation: name in draft.supply.own_names for name in used}
    frames = draft.frames | {frame.source: frame in draft.supply.own_frames}
    return sum(names.values()) >= MIN_UNSEEN_NAMES * len(names) and (
        sum(frames.values()) >= MIN_UNSEEN_FRAMES * len(frames)
    )


def _sentence(draft: _Draft, text: str, entities: tuple[GoldEntity, ...]) -> Sentence:
    return Sentence(
        id=f"{draft.data.language}-{draft.split}-{len(draft.rows):05d}",
        language=draft.data.language,
        text=text,
        tokens=split_units(text),
        entities=entities,
        split=draft.split,
    )


def _folded(text: str) -> str:
    return fold_text(text).casefold()
