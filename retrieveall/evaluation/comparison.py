"""Does run A beat run B? A paired bootstrap over two saved reports (METHOD.md section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from retrieveall.errors import InputError
from retrieveall.evaluation.bootstrap import RESAMPLES, Counts, Difference, paired_bootstrap
from retrieveall.evaluation.language import LanguageReport
from retrieveall.evaluation.report import EvalReport


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A minus B on the same sentences.

    Attributes:
        a: Name of run A.
        b: Name of run B.
        macro: Difference of the macro F1.
        languages: Difference per language.
        unseen_only: True when only sentences that do not stand in train were counted.
        synthetic: True when the corpus is synthetic.
    """

    a: str
    b: str
    macro: Difference
    languages: Mapping[str, Difference]
    unseen_only: bool
    synthetic: bool


def compare(
    a: EvalReport,
    b: EvalReport,
    *,
    unseen_only: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Tests "A beats B" for the macro F1 and for every language.

    Claims about examples or routing are made with ``unseen_only`` (METHOD.md section 6).

    Args:
        a: Report of run A, with its counts per sentence.
        b: Report of run B on the same sentences.
        unseen_only: Count only sentences that do not stand in train.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        InputError: The reports are on other languages or sentences, or training was not given.
    """
    theirs = {one.language: one for one in b.languages}
    if set(theirs) != {one.language for one in a.languages}:
        raise InputError(
            f"{a.name!r} was scored on {sorted(one.language for one in a.languages)}, {b.name!r} on "
            f"{sorted(theirs)}; evaluate both on the same languages."
        )
    pairs = {one.language: _paired_counts(one, theirs[one.language], unseen_only) for one in a.languages}
    return Comparison(
        a=a.name,
        b=b.name,
        macro=paired_bootstrap(
            [pair[0] for pair in pairs.values()],
            [pair[1] for pair in pairs.values()],
            resamples=resamples,
            seed=seed,
        ),
        languages={
            language: paired_bootstrap([pair[0]], [pair[1]], resamples=resamples, seed=seed)
            for language, pair in pairs.items()
        },
        unseen_only=unseen_only,
        synthetic=a.synthetic or b.synthetic,
    )


def _paired_counts(a: LanguageReport, b: LanguageReport, unseen_only: bool) -> tuple[Counts, Counts]:
    if a.sentences_digest != b.sentences_digest:
        raise InputError(
            f"The two reports hold different {a.language} sentences ({len(a.per_sentence)} and "
            f"{len(b.per_sentence)}, digests {a.sentences_digest[:12]} and {b.sentences_digest[:12]}); "
            "evaluate both on the same split with the same --limit."
        )
    keep = _unseen_rows(a) if unseen_only else np.arange(len(a.per_sentence))
    return _counts(a)[keep], _counts(b)[keep]


def _unseen_rows(one: LanguageReport) -> Counts:
    if one.in_train is None:
        raise InputError(
            f"The {one.language} report does not say which sentences stand in train; "
            "evaluate with the train split at hand."
        )
    return np.setdiff1d(np.arange(len(one.per_sentence)), np.array(one.in_train, dtype=np.int64))


def _counts(one: LanguageReport) -> Counts:
    return np.array(one.per_sentence, dtype=np.int64).reshape(-1, 3)
