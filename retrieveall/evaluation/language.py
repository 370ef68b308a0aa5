"""One language's evaluation: predictions in, scores with intervals and the worst mistakes out.

The scorer needs sentences and predictions, nothing else: no model, no index, no Ray. The same
function scores tokenised and detokenised text, oracle and routed runs, any arm of an ablation.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retrieveall.errors import InputError
from retrieveall.evaluation.bootstrap import RESAMPLES, Counts, percentile_interval
from retrieveall.evaluation.mistakes import Mistake, count_mistakes, find_mistakes, worst_mistakes
from retrieveall.evaluation.reliability import Reliability, reliability_of, scored_entities
from retrieveall.evaluation.score import Score
from retrieveall.evaluation.strict import Predictions, count_strict
from retrieveall.evaluation.unseen import SeenInTraining
from retrieveall.evaluation.views import View, count_views
from retrieveall.types import Sentence

CountRows = tuple[tuple[int, int, int], ...]

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
        scores: Score per view; ``strict`` and ``set_metric`` are always there.
        labels: The strict score per label, sorted by label.
        routing: None when nothing was routed.
        reliability: What the entities' scores are worth; None where none was found, or none has a score.
        unaligned: Predicted mentions that start or end inside a token (counted as wrong).
        mistakes: Number of all mistakes by kind.
        worst: The worst of them.
        counts: (tp, fp, fn) per sentence and view, for a paired bootstrap against another report.
        sentences_digest: SHA-256 over the sentences' ids, texts and gold mentions.
    """

    language: str
    scores: Mapping[View, Score]
    labels: Mapping[str, Score]
    routing: RoutingScore | None
    unaligned: int
    mistakes: Mapping[str, int]
    worst: tuple[Mistake, ...]
    counts: Mapping[View, CountRows]
    sentences_digest: str
    reliability: Reliability | None = None

    @property
    def strict(self) -> Score:
        """The main metric."""
        return self.scores["strict"]

    @property
    def seen_share(self) -> float | None:
        """Share of the sentences that stand in training, too; None where that was not measured."""
        unseen = self.scores.get("unseen")
        return None if unseen is None else 1 - unseen.sentences / self.strict.sentences

    def counts_of(self, view: View) -> Counts:
        """Returns ``(S, 3)`` true positives, false positives and false negatives of a view.

        Raises:
            InputError: The view was not measured.
        """
        if view not in self.counts:
            raise InputError(
                f"The {self.language} report has no {view} scores, only {', '.join(self.counts)}; evaluate "
                "again with the train split (unseen views) or the detokenised text at hand."
            )
        return np.array(self.counts[view], dtype=np.int64).reshape(-1, 3)


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
    strict = count_strict(gold, predicted)
    counts = count_views(gold, predicted, seen=seen, detokenised=detokenised)
    mistakes = find_mistakes(gold, predicted, seen=seen)
    score = functools.partial(Score.of, resamples=resamples, seed=seed)
    return LanguageReport(
        language=language,
        scores={view: score(counts_SK) for view, counts_SK in counts.items()},
        labels={label: score(strict.by_label[:, column]) for column, label in enumerate(strict.labels)},
        routing=_routing(language, len(gold), routed_languages, resamples, seed),
        unaligned=strict.unaligned,
        mistakes=count_mistakes(mistakes),
        worst=worst_mistakes(mistakes, per_kind=mistakes_per_kind),
        counts={view: _rows(counts_SK) for view, counts_SK in counts.items()},
        sentences_digest=digest_of_sentences(gold),
        reliability=reliability_of(*scored_entities(gold, predicted)),
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


def _rows(counts_SK: Counts) -> CountRows:
    return tuple((int(tp), int(fp), int(fn)) for tp, fp, fn in counts_SK)


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
