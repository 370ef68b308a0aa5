from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.errors import InputError
from retrieveall.evaluation.comparison import compare
from retrieveall.evaluation.language import evaluate
from retrieveall.evaluation.marking import stretches, visible
from retrieveall.evaluation.mistakes import Mistake
from retrieveall.evaluation.page import render_page, write_page
from retrieveall.evaluation.report import EvalReport
from retrieveall.types import GoldEntity
from tests.annotated import annotated, found
from tests.test_evaluation_report import full_report

ATTACK = "</p><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;"


class Page(HTMLParser):
    """Collects elements, attributes and the text of each sentence."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.sentences: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if ("class", "sentence") in attrs:
            self.sentences.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_report() -> EvalReport:
    sentence = annotated(f"[Anna](PER) said {ATTACK} .", sentence_id=ATTACK)
    mention = found(sentence, "<img src=x", ATTACK)
    return EvalReport.of(
        [evaluate([sentence], [[mention]], routed_languages=[ATTACK])],
        name=ATTACK,
        settings={ATTACK: ATTACK},
    )


def test_nothing_from_outside_becomes_markup() -> None:
    report = hostile_report()
    page = Page(render_page([report, report], comparisons=[compare(report, report)]))
    assert not page.tags & {"script", "img", "iframe", "object", "link", "a"}
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert page.text.count(ATTACK) >= 6  # run, label, sentence id, routing, settings: shown as they are


@pytest.fixture(scope="module")
def plain_page() -> str:
    return render_page([full_report()])


def test_page_loads_nothing(plain_page: str) -> None:
    page = Page(plain_page)
    addresses = [value for name, value in page.attributes if name in {"src", "href", "xlink:href"}]
    assert all(value.startswith("#") for value in addresses)
    assert "url(http" not in page.text
    assert "@import" not in page.text
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_sentences_carry_direction_and_language() -> None:
    sentence = annotated("سافر [أحمد](PER) من [القاهرة](LOC) .", language="ar")
    page = Page(render_page([EvalReport.of([evaluate([sentence], [[]])])]))
    assert [(one["dir"], one["lang"]) for one in page.sentences] == [("auto", "ar")] * 2
    assert page.text.count(sentence.text) == 2


def test_gold_and_found_are_marked() -> None:
    sentence = annotated("the [Bank of Norway](ORG) said")
    report = EvalReport.of([evaluate([sentence], [[found(sentence, "Bank", "ORG")]])])
    html = render_page([report])
    assert 'the <mark class="gold found">Bank</mark><mark class="gold"> of Norway</mark> said' in html


def test_synthetic_is_written_beside_every_table(plain_page: str) -> None:
    html = render_page([full_report(synthetic=True)])
    captions = [part.split("</caption>")[0] for part in html.split("<caption>")[1:]]
    assert len(captions) == 5
    assert all("synthetic" in caption for caption in captions)
    assert "synthetic" not in plain_page


def test_set_metric_carries_its_label(plain_page: str) -> None:
    assert "for comparison with the literature only" in plain_page


def test_lone_surrogate_does_not_lose_the_page(tmp_path: Path) -> None:
    sentence = annotated("[Anna](PER) \ud800 .")
    report = EvalReport.of([evaluate([sentence], [[]])], settings={"x": "\ud800"})
    write_page([report], tmp_path / "new" / "page.html")
    assert "Anna" in (tmp_path / "new" / "page.html").read_text(encoding="utf-8")


def test_page_without_reports_is_refused() -> None:
    with pytest.raises(InputError, match="at least one report"):
        render_page([])


@settings(deadline=None)
@given(st.text(min_size=4, max_size=40), st.data())
def test_stretches_are_the_sentence(text: str, data: st.DataObject) -> None:
    def mention() -> GoldEntity | None:
        start = data.draw(st.integers(0, len(text) - 1))
        end = data.draw(st.integers(start + 1, len(text)))
        return data.draw(st.sampled_from([None, GoldEntity(start_char=start, end_char=end, label="X")]))

    gold, guess = mention(), mention()
    cut = stretches(Mistake(kind="wrong border", sentence_id="s", text=text, gold=gold, found=guess))
    assert "".join(one.text for one in cut) == visible(text)
    for wanted, marked in ((gold, [s for s in cut if s.gold]), (guess, [s for s in cut if s.found])):
        expected = visible(text[wanted.start_char : wanted.end_char]) if wanted else ""
        assert "".join(one.text for one in marked) == expected


def test_long_sentences_are_shown_around_the_mention() -> None:
    text = "a" * 500 + "NAME" + "b" * 500
    mention = GoldEntity(start_char=500, end_char=504, label="X")
    cut = stretches(Mistake(kind="missed", sentence_id="s", text=text, gold=mention), context_chars=10)
    assert [one.text for one in cut] == ["…", "a" * 10, "NAME", "b" * 10, "…"]


def test_direction_overrides_cannot_reorder_the_page() -> None:
    assert visible("a\u202eb\u2066c\x00") == "a\ufffdb\ufffdc\u2400"
