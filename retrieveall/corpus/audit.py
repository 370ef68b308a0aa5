"""What a corpus is like, before anything is trained on it.

Sizes, labels, lengths, how much of dev and test also stands in train, how many gold mentions the
mention rule (text/mentions.py) cannot express, and how many pieces a tokenizer makes of the text.
All shares are fractions. Source: own choice.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from retrieveall.corpus.store import CorpusStore
from retrieveall.corpus.table import Form
from retrieveall.text.folding import fold_text
from retrieveall.text.mentions import inexpressible
from retrieveall.text.units import split_units
from retrieveall.types import SPLITS, GoldEntity, Sentence, Split

TokenCounter = Callable[[str], int]
"""Text to the number of pieces that a tokenizer makes of it."""

_SHORT_TOKENS: Final = 5
_SHOWN_EXAMPLES: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Lengths of N sentences."""

    mean: float
    median: float
    percentile_95: float
    longest: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Fertility:
    """How finely a tokenizer cuts the text of a split.

    Attributes:
        per_token: Pieces per token of the corpus.
        per_character: Pieces per code point; the fair measure between scripts.
    """

    per_token: float
    per_character: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitAudit:
    """One split of a corpus.

    Attributes:
        without_entities: Share of sentences without any gold mention.
        labels: Mentions of each label, most first.
        tokens: Lengths in tokens.
        characters: Lengths in code points.
        short: Share of sentences with at most 5 tokens.
        in_train: Share of sentences that stand in train too, after NFC and white-space folding; for
            train itself the share that stands there more than once.
        inexpressible: Share of gold mentions that the mention rule puts elsewhere or nowhere.
        inexpressible_mentions: Their number.
        inside_units: How many of them start or end inside a unit; the others stand behind an equal
            stretch of text that is no gold mention.
        inexpressible_examples: A few of them, as ``sentence id: mention``.
        fertility: None where no tokenizer was given.
    """

    sentences: int
    entities: int
    without_entities: float
    labels: Mapping[str, int]
    tokens: Lengths
    characters: Lengths
    short: float
    in_train: float
    inexpressible: float
    inexpressible_mentions: int
    inside_units: int
    inexpressible_examples: tuple[str, ...]
    fertility: Fertility | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusAudit:
    """A corpus of one language.

    Attributes:
        form: Which text was looked at.
        splits: The splits that are there.
        missing_labels: Per split, labels that stand in train but not there.
        novel_labels: Per split, labels that do not stand in train: no adapter can learn them.
    """

    name: str
    language: str
    digest: str
    synthetic: bool
    form: Form
    splits: Mapping[Split, SplitAudit]
    missing_labels: Mapping[Split, tuple[str, ...]]
    novel_labels: Mapping[Split, tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Returns the audit as plain JSON types."""
        return asdict(self)


def audit_corpus(
    store: CorpusStore,
    name: str,
    language: str,
    *,
    form: Form = "tokenised",
    count_tokens: TokenCounter | None = None,
) -> CorpusAudit:
    """Audits one corpus.

    Args:
        store: Where it is kept.
        name: The corpus.
        language: Its language.
        form: Which text to look at.
        count_tokens: The tokenizer's, for fertility.

    Raises:
        NotFoundError: There is no such corpus.
    """
    manifest = store.manifest(name, language)
    loaded = {
        split: store.load(name, language, split, form) for split in SPLITS if split in manifest.sentences
    }
    splits = audit_splits(loaded, count_tokens=count_tokens)
    known = set(splits["train"].labels) if "train" in splits else set()
    others = {split: set(audit.labels) for split, audit in splits.items() if split != "train"}
    return CorpusAudit(
        name=manifest.name,
        language=manifest.language,
        digest=manifest.digest,
        synthetic=manifest.synthetic,
        form=form,
        splits=splits,
        missing_labels={split: tuple(sorted(known - labels)) for split, labels in others.items()},
        novel_labels={split: tuple(sorted(labels - known)) for split, labels in others.items()},
    )


def audit_splits(
    splits: Mapping[Split, Sequence[Sentence]], *, count_tokens: TokenCounter | None = None
) -> dict[Split, SplitAudit]:
    """Audits sentences that need not stand in a store; empty splits are left out."""
    train = Counter(fold_text(sentence.text) for sentence in splits.get("train", ()))
    return {
        split: _audit_split(rows, _share_in_train(rows, train, split), count_tokens)
        for split, rows in splits.items()
        if rows
    }


def _audit_split(rows: Sequence[Sentence], in_train: float, count_tokens: TokenCounter | None) -> SplitAudit:
    labels = Counter(entity.label for row in rows for entity in row.entities)
    lost = [(row, entity) for row in rows for entity in inexpressible(row.text, row.entities)]
    token_counts = [len(row.tokens) for row in rows]
    return SplitAudit(
        sentences=len(rows),
        entities=labels.total(),
        without_entities=sum(not row.entities for row in rows) / len(rows),
        labels=dict(labels.most_common()),
        tokens=_lengths(token_counts),
        characters=_lengths([len(row.text) for row in rows]),
        short=sum(count <= _SHORT_TOKENS for count in token_counts) / len(rows),
        in_train=in_train,
        inexpressible=len(lost) / max(1, labels.total()),
        inexpressible_mentions=len(lost),
        inside_units=sum(_is_inside_units(row, entity) for row, entity in lost),
        inexpressible_examples=tuple(_shown(row, entity) for row, entity in lost[:_SHOWN_EXAMPLES]),
        fertility=None if count_tokens is None else _fertility(rows, count_tokens),
    )


def _share_in_train(rows: Sequence[Sentence], train: Counter[str], split: Split) -> float:
    enough = 2 if split == "train" else 1
    return sum(train[fold_text(row.text)] >= enough for row in rows) / max(1, len(rows))


def _lengths(values: Sequence[int]) -> Lengths:
    ordered = sorted(values)
    return Lengths(
        mean=round(statistics.fmean(ordered), 2),
        median=statistics.median(ordered),
        percentile_95=ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        longest=ordered[-1],
    )


def _fertility(rows: Sequence[Sentence], count_tokens: TokenCounter) -> Fertility:
    pieces = sum(count_tokens(row.text) for row in rows)
    return Fertility(
        per_token=pieces / max(1, sum(len(row.tokens) for row in rows)),
        per_character=pieces / sum(len(row.text) for row in rows),
    )


def _is_inside_units(row: Sentence, entity: GoldEntity) -> bool:
    units = split_units(row.text)
    starts = any(unit.start_char == entity.start_char for unit in units)
    return not (starts and any(unit.end_char == entity.end_char for unit in units))


def _shown(row: Sentence, entity: GoldEntity) -> str:
    return f"{row.id}: {row.text[entity.start_char : entity.end_char]}"
