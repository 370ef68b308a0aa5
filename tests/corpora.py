"""Small corpora for tests: sentences by strategy, and CoNLL text in any scheme."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import strategies as st

from retrieveall.corpus.joining import join_tokens
from retrieveall.corpus.tags import TokenRun
from retrieveall.types import GoldEntity, Sentence, Span, Split

WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="\ufeff"),
    min_size=1,
    max_size=6,
)
LABELS = st.sampled_from(["PER", "LOC", "ORG-X"])


@st.composite
def token_runs(draw: st.DrawFn, length: int) -> list[TokenRun]:
    """Draws flat entities over ``length`` tokens, in order, touching ones included."""
    cuts = sorted(draw(st.sets(st.integers(0, length), max_size=6)))
    runs = [TokenRun(first=first, end=end, label=draw(LABELS)) for first, end in pairwise(cuts)]
    return [run for run in runs if draw(st.booleans())]


@st.composite
def tagged_tokens(draw: st.DrawFn) -> tuple[list[str], list[TokenRun]]:
    """Draws the tokens of a sentence and its entities."""
    tokens = draw(st.lists(WORDS, min_size=1, max_size=8))
    return tokens, draw(token_runs(len(tokens)))


def tags_of(runs: Sequence[TokenRun], length: int, scheme: str) -> list[str]:
    """Writes entities as the tags of a scheme."""
    tags = ["O"] * length
    for run in runs:
        size = run.end - run.first
        inside = ["B", *["I"] * (size - 1)]
        if scheme in ("bioes", "bilou"):
            last, single = ("E", "S") if scheme == "bioes" else ("L", "U")
            inside = [single] if size == 1 else [*inside[:-1], last]
        touches = run.first > 0 and tags[run.first - 1].partition("-")[2] == run.label
        if scheme == "iob1" and not touches:
            inside[0] = "I"
        tags[run.first : run.end] = [f"{prefix}-{run.label}" for prefix in inside]
    return tags


def conll(sentences: Sequence[tuple[Sequence[str], Sequence[str]]], separator: str = "\t") -> str:
    """Writes ``(tokens, tags)`` as a CoNLL file."""
    blocks = [
        "".join(f"{token}{separator}{tag}\n" for token, tag in zip(tokens, tags, strict=True))
        for tokens, tags in sentences
    ]
    return "\n".join(blocks)


def sentence(
    tokens: str | Sequence[str],
    *runs: tuple[int, int, str],
    id: str = "train-0",
    language: str = "en",
    split: Split = "train",
) -> Sentence:
    """Makes a sentence of tokens joined by spaces; runs are ``(first token, end token, label)``."""
    words = tokens.split(" ") if isinstance(tokens, str) else tokens
    text, spans = join_tokens(words, "spaced")
    placed: list[Span] = [span for span in spans if span is not None]
    entities = tuple(
        GoldEntity(start_char=placed[first].start_char, end_char=placed[end - 1].end_char, label=label)
        for first, end, label in runs
    )
    return Sentence(id=id, language=language, text=text, tokens=tuple(placed), entities=entities, split=split)


def token_texts(row: Sentence) -> list[str]:
    """Returns the strings of a sentence's tokens."""
    return [row.text[token.start_char : token.end_char] for token in row.tokens]


def mentions(row: Sentence) -> list[tuple[str, str]]:
    """Returns the mentions of a sentence as ``(text, label)``."""
    return [(row.text[entity.start_char : entity.end_char], entity.label) for entity in row.entities]
