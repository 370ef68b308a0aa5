"""Sentences written with their mentions marked: ``annotated("[Anna](PER) lives in [Oslo](LOC) .")``."""

from __future__ import annotations

import random
import re
from dataclasses import replace

from retrieveall.text.units import split_units
from retrieveall.types import Entity, GoldEntity, Sentence, Span, Split

_MARK = re.compile(r"\[([^\]]*)\]\((\w+)\)")


def annotated(
    marked: str, *, language: str = "en", sentence_id: str = "s", split: Split = "test"
) -> Sentence:
    """Reads the marks; tokens are the units of the text."""
    text, entities, position = "", [], 0
    for mark in _MARK.finditer(marked):
        text += marked[position : mark.start()]
        entities.append(GoldEntity(start_char=len(text), end_char=len(text) + len(mark[1]), label=mark[2]))
        text += mark[1]
        position = mark.end()
    text += marked[position:]
    return Sentence(
        id=sentence_id,
        language=language,
        text=text,
        tokens=split_units(text),
        entities=tuple(entities),
        split=split,
    )


def found(sentence: Sentence, mention: str, label: str, *, score: float = 0.5) -> Entity:
    """A predicted mention at the first place of ``mention`` in the text."""
    start_char = sentence.text.index(mention)
    return Entity(
        start_char=start_char,
        end_char=start_char + len(mention),
        label=label,
        text=mention,
        score=score,
    )


def spans_over_tokens(words: list[str], spans: list[tuple[int, int, str]], joiner: str = " ") -> Sentence:
    """A sentence of these words with gold mentions over half-open ranges of words."""
    tokens, start = [], 0
    for word in words:
        tokens.append(Span(start_char=start, end_char=start + len(word)))
        start += len(word) + len(joiner)
    entities = tuple(
        GoldEntity(start_char=tokens[first].start_char, end_char=tokens[after - 1].end_char, label=label)
        for first, after, label in spans
    )
    return Sentence(
        id="s", language="xx", text=joiner.join(words), tokens=tuple(tokens), entities=entities, split="test"
    )


def noisy_run(
    language: str, *, sentences: int, keep: float, seed: int
) -> tuple[list[Sentence], list[list[GoldEntity]]]:
    """Sentences with two mentions each, and predictions that hold each mention with ``keep``."""
    rng = random.Random(seed)
    gold = [
        replace(annotated("[Anna](PER) lives in [Oslo](LOC) .", language=language), id=f"{language}-{number}")
        for number in range(sentences)
    ]
    return gold, [[m for m in one.entities if rng.random() < keep] for one in gold]
