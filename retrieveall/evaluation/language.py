"""One language's evaluation: predictions in, scores with intervals and the worst mistakes out.

The scorer needs sentences and predictions, nothing else: no model, no index, no Ray. The same
function scores tokenised and detokenised text, oracle and routed runs, any arm of an ablation.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retrieveall.errors import InputError
from retrieveall.evaluation.bootstrap import RESAMPLES, Counts, percentile_interval
from retrieveall.evaluation.mistakes import Mistake, count_mistakes, find_mistakes, worst_mistakes
from retrieveall.evaluation.score import Score
from retrieveall.evaluation.set_metric import count_sets
from retrieveall.evaluation.strict import Predictions, StrictCounts, count_strict
from retrieveall.evaluation.unseen import SeenInTraining, restrict_to_unseen_names, unseen_mask
from retrieveall.types import Sentence

UNKNOWN = "unknown"  # routed to no adapter of its own
MISTAKES_PER_KIND = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutingScore:
    """How often the router found the sentence's language.

    Attributes:
        accuracy: Share of sentences routed to their own language.
        low: Lower bound of its 95 % percentile bootstrap interval.
        high: Upper bound.
        routed: Language (or ``unknown``) to number of sentences sent there, most first.
    """

    accuracy: float
    low: float
    high: float
    routed: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageReport:
    """All scores of one language.

    Attributes:
        language: BCP-47 code.
        strict: The main metric.
        labels: The same per label, sorted by label.
        set_metric: For comparison with the literature only.
        unseen: Strict, on sentences not in train; None without such sentences or without train.
        unseen_names: Strict, on names not in train; None likewise.
        detokenised: Strict, on the detokenised form; None when it was not run.
        routing: None when nothing was routed.
        unaligned: Predicted mentions that start or end inside a token (counted as wrong).
        mistakes: All mistakes by kind.
        worst: The worst of them.
        per_sentence: (tp, fp, fn) per sentence, for a paired bootstrap against another report.
        in_train: Numbers of the sentences that stand in train; None when train was not given.
        sentences_digest: SHA-256 over the sentences' ids, texts and gold mentions.
    """

    language: str
    strict: Score
    labels: Mapping[str, Score]
    set_metric: Score
    unseen: Score | None
    unseen_names: Score | None
    detokenised: Score | None
    routing: RoutingScore | None
    unaligned: int
    mistakes: Mapping[str, int]
    worst: tuple[Mistake, ...]
    per_sentence: tuple[tuple[int, int, int], ...]
    in_train: tuple[int, ...] | None
    sentences_digest: str


def evaluate(
    gold: Sequence[Sentence],
    predicted: Predictions,
    *,
    seen: SeenInTraining | None = None,
    routed_languages: Sequence[str | None] | None = None,
    detokenised: tuple[Sequence[Sentence], Predictions] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    mistakes_per_kind: int = MISTAKES_PER_KIND,
) -> LanguageReport:
    """Scores one language.

    Args:
        gold: S sentences of one language with gold mentions.
        predicted: S lists of mentions, offsets in the text of the sentence at the same position.
        seen: ``SeenInTraining.of(train)``, in the same text form as ``gold``.
        routed_languages: S languages that the router chose, None for "no adapter of its own".
        detokenised: The detokenised sentences and what was predicted on them.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the bootstrap.
        mistakes_per_kind: How many mistakes of each kind are kept to be read.

    Raises:
        InputError: No sentences, several languages, lengths that differ, or a mention that does
            not lie in its text.
    """
    language = _only_language(gold)
    counts = count_strict(gold, predicted)

    def score(counts_SK: Counts) -> Score:
        return Score.of(counts_SK, resamples=resamples, seed=seed)

    mistakes = find_mistakes(gold, predicted, seen=seen)
    return LanguageReport(
        language=language,
        strict=score(counts.per_sentence),
        labels={label: score(counts.by_label[:, column]) for column, label in enumerate(counts.labels)},
        set_metric=score(count_sets(gold, predicted)),
        unseen=_score_if_gold(_unseen_counts(gold, counts, seen), resamples, seed),
        unseen_names=_score_if_gold(_unseen_name_counts(gold, predicted, seen), resamples, seed),
        detokenised=score(count_strict(*detokenised).per_sentence) if detokenised else None,
        routing=_routing(language, len(gold), routed_languages, resamples, seed),
        unaligned=counts.unaligned,
        mistakes=count_mistakes(mistakes),
        worst=worst_mistakes(mistakes, per_kind=mistakes_per_kind),
        per_sentence=tuple((int(tp), int(fp), int(fn)) for tp, fp, fn in counts.per_sentence),
        in_train=None if seen is None else tuple(np.flatnonzero(~unseen_mask(gold, seen)).tolist()),
        sentences_digest=digest_of_sentences(gold),
    )


def digest_of_sentences(gold: Sequence[Sentence]) -> str:
    """Returns the SHA-256 over ids, texts and gold mentions: equal means the same test set."""
    digest = hashlib.sha256()
    for sentence in gold:
        mentions = [(m.start_char, m.end_char, m.label) for m in sentence.entities]
        digest.update(repr((sentence.id, sentence.text, mentions)).encode())
    return digest.hexdigest()


def _only_language(gold: Sequence[Sentence]) -> str:
    languages = sorted({sentence.language for sentence in gold})
    if len(languages) != 1:
        raise InputError(
            f"One language is scored at a time, but these {len(gold)} sentences have "
            f"{', '.join(languages) or 'none'}; group the sentences by language first."
        )
    return languages[0]


def _unseen_counts(gold: Sequence[Sentence], counts: StrictCounts, seen: SeenInTraining | None) -> Counts:
    if seen is None:
        return np.zeros((0, 3), dtype=np.int64)
    return counts.per_sentence[unseen_mask(gold, seen)]


def _unseen_name_counts(
    gold: Sequence[Sentence], predicted: Predictions, seen: SeenInTraining | None
) -> Counts:
    if seen is None:
        return np.zeros((0, 3), dtype=np.int64)
    return count_strict(*restrict_to_unseen_names(gold, predicted, seen)).per_sentence


def _score_if_gold(counts_SK: Counts, resamples: int, seed: int) -> Score | None:
    """A subset without a gold mention has no score: 0 would read as a failure."""
    has_gold = bool(counts_SK[:, [0, 2]].any())
    return Score.of(counts_SK, resamples=resamples, seed=seed) if has_gold else None


def _routing(
    language: str, sentences: int, routed: Sequence[str | None] | None, resamples: int, seed: int
) -> RoutingScore | None:
    if routed is None:
        return None
    if len(routed) != sentences:
        raise InputError(
            f"Got {sentences} sentences but {len(routed)} routed languages; give one per sentence, "
            "None where the router knew none."
        )
    accuracy = sum(one == language for one in routed) / sentences
    # Resampling sentences that are right or wrong is drawing from a binomial distribution.
    draws_R = np.random.default_rng(seed).binomial(sentences, accuracy, size=resamples) / sentences
    interval = percentile_interval(draws_R)
    destinations = Counter(one or UNKNOWN for one in routed).most_common()
    return RoutingScore(accuracy=accuracy, low=interval.low, high=interval.high, routed=dict(destinations))
