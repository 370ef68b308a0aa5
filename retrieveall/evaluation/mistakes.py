"""What went wrong, one mention at a time: the list that a person reads.

Each gold mention that was not hit is paired with at most one prediction that is not a hit and
shares a character with it; same borders first, then the largest overlap. Source: own choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

from retrieveall.evaluation.strict import Mention, Place, Predictions, check_paired, places
from retrieveall.evaluation.unseen import SeenInTraining, overlap
from retrieveall.types import Entity, GoldEntity, Sentence

MistakeKind = Literal["wrong label", "wrong border", "wrong label and border", "missed", "spurious"]
MISTAKE_KINDS: tuple[MistakeKind, ...] = get_args(MistakeKind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """One mistake of the tagger.

    Attributes:
        kind: ``missed`` has no ``found``, ``spurious`` no ``gold``, the others have both.
        sentence_id: The corpus's id of the sentence.
        text: The sentence.
        gold: The mention that the corpus has.
        found: The mention that the tagger has.
        score: The tagger's score of ``found``, if it gave one.
        seen: True when the gold mention's surface is a train mention; None when not known.
    """

    kind: MistakeKind
    sentence_id: str
    text: str
    gold: GoldEntity | None = None
    found: GoldEntity | None = None
    score: float | None = None
    seen: bool | None = None


def find_mistakes(
    gold: Sequence[Sentence], predicted: Predictions, *, seen: SeenInTraining | None = None
) -> list[Mistake]:
    """Lists every mistake, in the order of the sentences.

    Args:
        gold: S sentences.
        predicted: S lists of mentions.
        seen: Training's names, to mark mentions that the tagger could have known.

    Raises:
        InputError: The two lengths differ, or a mention does not lie in its text.
    """
    check_paired(gold, predicted)
    return [
        mistake
        for sentence, mentions in zip(gold, predicted, strict=True)
        for mistake in _mistakes_of(sentence, mentions, seen)
    ]


def count_mistakes(mistakes: Iterable[Mistake]) -> dict[str, int]:
    """Returns how many there are of each kind; every kind is named, also with 0."""
    counted = Counter(mistake.kind for mistake in mistakes)
    return {kind: counted[kind] for kind in MISTAKE_KINDS}


def worst_mistakes(mistakes: Sequence[Mistake], *, per_kind: int) -> tuple[Mistake, ...]:
    """Returns the worst of each kind.

    Worst are the mistakes that the tagger was surest of; among missed mentions, those whose name
    stands in train. Ties keep the order of the corpus. Source: own choice.

    Args:
        mistakes: All mistakes.
        per_kind: At most so many of each kind.
    """
    worst: list[Mistake] = []
    for kind in MISTAKE_KINDS:
        ranked = sorted((m for m in mistakes if m.kind == kind), key=_badness, reverse=True)
        worst.extend(islice(ranked, per_kind))
    return tuple(worst)


def _badness(mistake: Mistake) -> tuple[float, bool]:
    return (mistake.score or 0.0, bool(mistake.seen))


def _mistakes_of(
    sentence: Sentence, mentions: Sequence[Mention], seen: SeenInTraining | None
) -> list[Mistake]:
    missed = _unmatched(sentence, sentence.entities, mentions)
    spurious = _unmatched(sentence, mentions, sentence.entities)
    mistakes = []
    for wanted, found in _pairs(missed, spurious):
        mistakes.append(_mistake(_kind(sentence, wanted, found), sentence, wanted, found, seen))
        missed.remove(wanted)
        spurious.remove(found)
    mistakes += [_mistake("missed", sentence, wanted, None, seen) for wanted in missed]
    mistakes += [_mistake("spurious", sentence, None, found, seen) for found in spurious]
    return mistakes


def _unmatched(sentence: Sentence, these: Sequence[Mention], those: Sequence[Mention]) -> list[Mention]:
    """Returns the mentions of ``these`` whose place is not among ``those``, each as often as needed."""
    left: Counter[Place] = Counter(places(sentence, those))
    unmatched = []
    for mention, place in zip(these, places(sentence, these), strict=True):
        if left[place]:
            left[place] -= 1
        else:
            unmatched.append(mention)
    return unmatched


def _pairs(missed: Sequence[Mention], spurious: Sequence[Mention]) -> list[tuple[Mention, Mention]]:
    """Pairs overlapping mentions greedily, each used once."""
    candidates = [(m, s) for m in missed for s in spurious if overlap(m, s)]
    candidates.sort(key=lambda pair: (not _same_border(*pair), -overlap(*pair)))
    paired: list[tuple[Mention, Mention]] = []
    for wanted, found in candidates:
        if not any(wanted is w or found is f for w, f in paired):
            paired.append((wanted, found))
    return paired


def _same_border(one: Mention, other: Mention) -> bool:
    return (one.start_char, one.end_char) == (other.start_char, other.end_char)


def _kind(sentence: Sentence, wanted: Mention, found: Mention) -> MistakeKind:
    want, have = places(sentence, [wanted, found])
    if wanted.label == found.label:
        return "wrong border"
    same = (want.on_tokens, want.start, want.end) == (have.on_tokens, have.start, have.end)
    return "wrong label" if same else "wrong label and border"


def _mistake(
    kind: MistakeKind,
    sentence: Sentence,
    wanted: Mention | None,
    found: Mention | None,
    seen: SeenInTraining | None,
) -> Mistake:
    return Mistake(
        kind=kind,
        sentence_id=sentence.id,
        text=sentence.text,
        gold=_plain(wanted) if wanted else None,
        found=_plain(found) if found else None,
        score=found.score if isinstance(found, Entity) else None,
        seen=seen.holds_name(sentence, wanted) if seen and wanted else None,
    )


def _plain(mention: Mention) -> GoldEntity:
    return GoldEntity(start_char=mention.start_char, end_char=mention.end_char, label=mention.label)
