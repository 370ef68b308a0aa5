"""One body for the service and the command line: filters, offset units, explanations."""

import json

from hypothesis import given
from hypothesis import strategies as st

from retrieveall.answer import AnswerOptions, answer_body
from retrieveall.types import Entity, EntityExample, Examples, TaggedSentence, TaggedText

TEXT = "😀 Anna lives in Köln."


def tagged(score: float = 0.9) -> TaggedText:
    entities = (
        Entity(start_char=2, end_char=6, label="PER", text="Anna", score=score),
        Entity(start_char=16, end_char=20, label="LOC", text="Köln", score=0.4),
    )
    sentence = TaggedSentence(
        start_char=0,
        end_char=21,
        language="en",
        adapter="abc",
        composition="selection",
        ranking=(("en", 0.7), ("de", 0.2)),
        margin=0.5,
        examples_dropped=0,
        examples=Examples(entity=(EntityExample(mention="Anna", label="PER"),)),
    )
    return TaggedText(entities=entities, sentences=(sentence,), id="t1")


def entities_of(options: AnswerOptions) -> list[dict[str, object]]:
    found: list[dict[str, object]] = answer_body(7, [TEXT], [tagged()], options)["results"][0]["entities"]
    return found


def test_the_body_is_json_and_offsets_count_code_points() -> None:
    body = answer_body(7, [TEXT], [tagged()], AnswerOptions())
    assert json.loads(json.dumps(body)) == body
    assert body["release"] == 7 and body["results"][0]["id"] == "t1"
    first = body["results"][0]["entities"][0]
    assert TEXT[first["start_char"] : first["end_char"]] == "Anna"
    assert "examples" not in body["results"][0]["sentences"][0]


def test_utf16_offsets_are_those_of_javascript() -> None:
    units = TEXT.encode("utf-16-le")
    for entity in entities_of(AnswerOptions(offsets="utf16")):
        start, end = int(str(entity["start_char"])), int(str(entity["end_char"]))
        assert units[2 * start : 2 * end].decode("utf-16-le") == entity["text"]


def test_filters_act_on_label_and_score() -> None:
    assert [e["label"] for e in entities_of(AnswerOptions(labels=frozenset({"LOC"})))] == ["LOC"]
    assert [e["label"] for e in entities_of(AnswerOptions(min_score=0.5))] == ["PER"]


def test_explain_returns_the_examples() -> None:
    sentence = answer_body(1, [TEXT], [tagged()], AnswerOptions(explain=True))["results"][0]["sentences"][0]
    assert sentence["examples"]["entity"] == [{"mention": "Anna", "label": "PER", "similarity": 1.0}]


@given(st.text(max_size=30))
def test_utf16_places_match_the_encoder(text: str) -> None:
    clean = text.encode("utf-8", "ignore").decode()
    entity = Entity(start_char=0, end_char=len(clean), label="X", text=clean, score=1.0)
    answer = TaggedText(entities=(entity,), sentences=())
    body = answer_body(1, [clean], [answer], AnswerOptions(offsets="utf16"))
    assert body["results"][0]["entities"][0]["end_char"] == len(clean.encode("utf-16-le")) // 2
