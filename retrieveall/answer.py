"""The body that `POST /v1/tag` answers and `retrieveall tag --json` prints: one shape for all ways in.

Filters (labels, min_score) act here, after decoding, so they never change what the model does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from retrieveall.types import ContextExample, Entity, EntityExample, Examples, TaggedSentence, TaggedText

OffsetUnit = Literal["codepoint", "utf16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerOptions:
    """What a caller may ask of the answer's form.

    Attributes:
        labels: Only these are returned; None for all.
        min_score: Entities below it are left out, in [0, 1].
        offsets: Unit of all offsets: code points (Python) or UTF-16 code units (JavaScript, Java).
        explain: Return the retrieved examples of each sentence.
    """

    labels: frozenset[str] | None = None
    min_score: float = 0.0
    offsets: OffsetUnit = "codepoint"
    explain: bool = False


def answer_body(
    release: int, texts: Sequence[str], tagged: Sequence[TaggedText], options: AnswerOptions
) -> dict[str, Any]:
    """Returns the JSON-ready body for texts and their tagged forms, in order.

    Args:
        release: Number of the release that answered.
        texts: N texts as they were given.
        tagged: N answers of the tagger.
        options: Filters and form.
    """
    results = [_result(text, answer, options) for text, answer in zip(texts, tagged, strict=True)]
    return {"release": release, "results": results}


def _result(text: str, answer: TaggedText, options: AnswerOptions) -> dict[str, Any]:
    places = offset_places(text, options.offsets)
    body: dict[str, Any] = {} if answer.id is None else {"id": answer.id}
    body["entities"] = [_entity(e, places) for e in answer.entities if _is_wanted(e, options)]
    body["sentences"] = [_sentence(s, places, options.explain) for s in answer.sentences]
    return body


def offset_places(text: str, unit: OffsetUnit) -> Sequence[int]:
    """Returns for each code-point offset, 0 to len(text), the same place in the wanted unit, ascending."""
    if unit == "codepoint":
        return range(len(text) + 1)
    return [0, *accumulate(2 if ord(character) > 0xFFFF else 1 for character in text)]


def _is_wanted(entity: Entity, options: AnswerOptions) -> bool:
    return entity.score >= options.min_score and (options.labels is None or entity.label in options.labels)


def _entity(entity: Entity, places: Sequence[int]) -> dict[str, Any]:
    return {
        "start_char": places[entity.start_char],
        "end_char": places[entity.end_char],
        "text": entity.text,
        "label": entity.label,
        "score": round(entity.score, 4),
    }


def _sentence(sentence: TaggedSentence, places: Sequence[int], explain: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "start_char": places[sentence.start_char],
        "end_char": places[sentence.end_char],
        "language": sentence.language,
        "adapter": sentence.adapter,
        "composition": sentence.composition,
        "ranking": [[language, round(score, 4)] for language, score in sentence.ranking],
        "margin": round(sentence.margin, 4),
        "examples_dropped": sentence.examples_dropped,
    }
    if explain and sentence.examples is not None:
        body["examples"] = _examples(sentence.examples)
    return body


def _examples(examples: Examples) -> dict[str, Any]:
    return {
        "entity": [
            {"mention": e.mention, "label": e.label, "similarity": round(e.similarity, 4), **_origin(e)}
            for e in examples.entity
        ],
        "context": [
            {
                "text": c.text,
                "similarity": round(c.similarity, 4),
                "entities": [
                    {"text": c.text[e.start_char : e.end_char], "label": e.label} for e in c.entities
                ],
                **_origin(c),
            }
            for c in examples.context
        ],
    }


def _origin(example: EntityExample | ContextExample) -> dict[str, str]:
    """Names the taught example that an example is from; those of the training split are not named."""
    return {"taught": example.sentence_id} if example.taught else {}
