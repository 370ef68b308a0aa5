from __future__ import annotations

import pytest

from retrieveall.errors import InputError
from retrieveall.evaluation.comparison import compare
from retrieveall.evaluation.report import EvalReport
from tests.test_evaluation_report import language_report


def run(keep: float, name: str = "run", languages: tuple[str, ...] = ("en", "de")) -> EvalReport:
    return EvalReport.of([language_report(one, keep=keep) for one in languages], name=name)


def test_better_run_wins_on_every_view() -> None:
    better, worse = run(0.9, "on"), run(0.4, "off")
    for view in ("strict", "unseen", "unseen_names"):
        result = compare(better, worse, view=view)
        assert result.macro.p_value < 0.01
        assert result.macro.low > 0
        assert set(result.languages) == {"en", "de"}
    assert (result.a, result.b, result.view) == ("on", "off", "unseen_names")


def test_difference_is_that_of_the_reports_after_a_round_trip() -> None:
    better, worse = run(0.9), run(0.4)
    reread = EvalReport.from_dict(better.to_dict(full=True))
    assert compare(reread, worse).macro.difference == pytest.approx(better.macro_f1 - worse.macro_f1)


def test_order_of_languages_does_not_matter() -> None:
    a, b = run(0.9), run(0.4, languages=("de", "en"))
    assert compare(a, b).languages["de"].difference == pytest.approx(
        a.languages[1].strict.f1 - b.languages[0].strict.f1
    )


def test_other_languages_or_sentences_are_refused() -> None:
    with pytest.raises(InputError, match=r"\['en'\]"):
        compare(run(0.9), run(0.9, languages=("en",)))
    other = EvalReport.from_dict(run(0.9).to_dict(full=True))
    saved = other.to_dict(full=True)
    saved["languages"]["en"]["sentences_digest"] = "0" * 64
    with pytest.raises(InputError, match="different en sentences"):
        compare(run(0.9), EvalReport.from_dict(saved))
