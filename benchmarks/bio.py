"""What the rivals of ner_rivals.py share: tokens and BIO tags of sentences, and mentions from tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from retrieveall.evaluation.bootstrap import f1_of_counts
from retrieveall.evaluation.strict import count_strict
from retrieveall.types import GoldEntity, Sentence

Tagged = list[list[GoldEntity]]


class NerRival(Protocol):
    """A tagger of one language, trained from the corpus's tokens alone."""

    def train(self, train: Sequence[Sentence], dev: Sequence[Sentence]) -> None:
        """Trains; dev decides when to stop, where that is decided at all."""
        ...

    def tag(self, sentences: Sequence[Sentence]) -> Tagged:
        """Tags sentences by text and tokens; their gold mentions are not looked at."""
        ...


def words(sentence: Sentence) -> list[str]:
    """Returns the tokens' texts."""
    return [sentence.text[token.start_char : token.end_char] for token in sentence.tokens]


def token_ranges(sentence: Sentence) -> list[tuple[int, int, str]]:
    """Returns (first token, end token, label) of the gold mentions that are runs of tokens."""
    starts = {token.start_char: place for place, token in enumerate(sentence.tokens)}
    ends = {token.end_char: place + 1 for place, token in enumerate(sentence.tokens)}
    return [
        (starts[entity.start_char], ends[entity.end_char], entity.label)
        for entity in sentence.entities
        if entity.start_char in starts and entity.end_char in ends
    ]


def tags_of(sentence: Sentence) -> list[str]:
    """Returns one BIO tag per token."""
    tags = ["O"] * len(sentence.tokens)
    for first, end, label in token_ranges(sentence):
        tags[first:end] = [f"B-{label}", *[f"I-{label}"] * (end - first - 1)]
    return tags


def mentions_of(sentence: Sentence, tags: Sequence[str]) -> list[GoldEntity]:
    """Returns the mentions that BIO tags spell; an I that continues nothing begins one, as in conlleval."""
    found: list[tuple[int, int, str]] = []
    for place, tag in enumerate(tags):
        kind, _, label = tag.partition("-")
        if kind == "O":
            continue
        if kind == "I" and found and found[-1][1] == place and found[-1][2] == label:
            found[-1] = found[-1][0], place + 1, label
        else:
            found.append((place, place + 1, label))
    return [mention(sentence, *one) for one in found]


def mention(sentence: Sentence, first: int, end: int, label: str) -> GoldEntity:
    """Returns a run of tokens as a mention."""
    tokens = sentence.tokens
    return GoldEntity(start_char=tokens[first].start_char, end_char=tokens[end - 1].end_char, label=label)


def strict_f1(rival: NerRival, sentences: Sequence[Sentence]) -> float:
    """Returns a rival's strict F1, by the product's scorer; for early stopping."""
    if not sentences:
        return 0.0
    counts = count_strict(sentences, rival.tag(sentences)).per_sentence
    return float(f1_of_counts(counts.sum(axis=0)))
