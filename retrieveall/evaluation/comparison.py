"""Does run A beat run B? A paired bootstrap over two saved reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from retrieveall.errors import InputError
from retrieveall.evaluation.bootstrap import RESAMPLES, Counts, Difference, paired_bootstrap_of_means
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
    return compare_runs([a], [b], view=view, resamples=resamples, seed=seed)


def compare_runs(
    a: Sequence[EvalReport],
    b: Sequence[EvalReport],
    *,
    view: View = "strict",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Tests "A beats B" on the means over several runs of each, such as training seeds.

    Args:
        a: Reports of A, at least one; the first names it.
        b: Reports of B on the same sentences.
        view: Which counts.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        InputError: The reports are on other languages or sentences, or the view was not measured.
    """
    first = a[0]
    for other in (*a[1:], *b):
        _check_same(first, other)
    codes = [one.language for one in first.languages]
    ours, theirs = _counts(a, codes, view), _counts(b, codes, view)
    test = partial(paired_bootstrap_of_means, resamples=resamples, seed=seed)
    return Comparison(
        a=first.name,
        b=b[0].name,
        macro=test(ours, theirs),
        languages={
            code: test([[run[place]] for run in ours], [[run[place]] for run in theirs])
            for place, code in enumerate(codes)
        },
        view=view,
        synthetic=any(report.synthetic for report in (*a, *b)),
    )


def _counts(reports: Sequence[EvalReport], codes: Sequence[str], view: View) -> list[list[Counts]]:
    by_language = [{one.language: one for one in report.languages} for report in reports]
    return [[run[code].counts_of(view) for code in codes] for run in by_language]


def _check_same(a: EvalReport, b: EvalReport) -> None:
    theirs = {one.language: one for one in b.languages}
    if set(theirs) != {one.language for one in a.languages}:
        raise InputError(
            f"{a.name!r} was scored on {sorted(one.language for one in a.languages)}, {b.name!r} on "
            f"{sorted(theirs)}; evaluate both on the same languages."
        )
    for one in a.languages:
        _check_sentences(one, theirs[one.language])


def _check_sentences(a: LanguageReport, b: LanguageReport) -> None:
    if a.sentences_digest != b.sentences_digest:
        raise InputError(
            f"The two reports hold different {a.language} sentences ({len(a.counts['strict'])} and "
            f"{len(b.counts['strict'])}, digests {a.sentences_digest[:12]} and {b.sentences_digest[:12]}); "
            "evaluate both on the same split with the same --limit."
        )
