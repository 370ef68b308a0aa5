"""Does run A beat run B? A paired bootstrap over two saved reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from retrieveall.errors import InputError
from retrieveall.evaluation.bootstrap import RESAMPLES, Counts, Difference, paired_bootstrap
from retrieveall.evaluation.language import LanguageReport
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.views import View


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A minus B on the same sentences.

    Attributes:
        a: Name of run A.
        b: Name of run B.
        macro: Difference of the macro F1.
        languages: Difference per language.
        view: What was compared.
        synthetic: True when the corpus is synthetic.
    """

    a: str
    b: str
    macro: Difference
    languages: Mapping[str, Difference]
    view: View
    synthetic: bool


def compare(
    a: EvalReport,
    b: EvalReport,
    *,
    view: View = "strict",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Tests "A beats B" for the macro F1 and for every language.

    Claims about examples or routing are made on the view ``unseen``.

    Args:
        a: Report of run A, with its counts per sentence.
        b: Report of run B on the same sentences.
        view: Which counts.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        InputError: The reports are on other languages or sentences, or the view was not measured.
    """
    theirs = {one.language: one for one in b.languages}
    if set(theirs) != {one.language for one in a.languages}:
        raise InputError(
            f"{a.name!r} was scored on {sorted(one.language for one in a.languages)}, {b.name!r} on "
            f"{sorted(theirs)}; evaluate both on the same languages."
        )
    pairs = {one.language: _paired_counts(one, theirs[one.language], view) for one in a.languages}
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
        view=view,
        synthetic=a.synthetic or b.synthetic,
    )


def _paired_counts(a: LanguageReport, b: LanguageReport, view: View) -> tuple[Counts, Counts]:
    if a.sentences_digest != b.sentences_digest:
        raise InputError(
            f"The two reports hold different {a.language} sentences ({len(a.counts['strict'])} and "
            f"{len(b.counts['strict'])}, digests {a.sentences_digest[:12]} and {b.sentences_digest[:12]}); "
            "evaluate both on the same split with the same --limit."
        )
    return a.counts_of(view), b.counts_of(view)
