"""New names for the mentions of training rows, so that a small corpus is not learnt by heart.

An adapter that sees the same few hundred names again and again learns those names instead of what
shows them to be names. A renamed row keeps its words, its labels and the borders of its mentions, but
the mentions read otherwise: their words are joined from halves of two words of the same label's
mentions. Words that many mentions share stay, such as *University*, *FC* or *de*: they tell what the name
is. A new name stands wherever the old one stood, in the sentence and in its examples. Some of the new
names are taken from the examples: a name that nobody has seen stands in no index either. Source: own
choice.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from retrieveall.types import ContextExample, Examples, GoldEntity, Sentence

_SHARED_FROM = 3  # different mentions that a word stands in
_MIN_SHARE, _MAX_SHARE = 0.3, 0.7  # of a word's characters that a half has


class NameMaker:
    """Makes names that look like a corpus's own.

    Args:
        sentences: Sentences with mentions.
    """

    def __init__(self, sentences: Iterable[Sentence]) -> None:
        mentions = {
            (entity.label, sentence.text[entity.start_char : entity.end_char])
            for sentence in sentences
            for entity in sentence.entities
        }
        holders = Counter(word for _, mention in mentions for word in set(mention.split()))
        self._shared = {word for word, count in holders.items() if count >= _SHARED_FROM}
        words: dict[str, set[str]] = {}
        for label, mention in mentions:
            words.setdefault(label, set()).update(filter(self._is_own, mention.split()))
        self._words = {label: sorted(own) for label, own in words.items() if own}

    def make(self, mention: str, label: str, rng: random.Random) -> str:
        """Returns another name of as many words.

        Args:
            mention: The old name.
            label: Its label; halves come from words of mentions that have it.
            rng: Decides which words are joined, and where.
        """
        words = self._words.get(label)
        if not words:
            return mention
        return " ".join(
            _like(word, _head(rng.choice(words), rng) + _tail(rng.choice(words), rng))
            if self._is_own(word)
            else word
            for word in mention.split(" ")
        )

    def _is_own(self, word: str) -> bool:
        """False for words that tell what a name is: shared ones, *von*, punctuation, single letters."""
        return word not in self._shared and len(word) > 1 and word[0].isalnum() and not word[0].islower()


def name_makers(sentences: Iterable[Sentence]) -> dict[str, NameMaker]:
    """Returns one maker per language: halves of two scripts make no name."""
    by_language: dict[str, list[Sentence]] = {}
    for sentence in sentences:
        by_language.setdefault(sentence.language, []).append(sentence)
    return {language: NameMaker(own) for language, own in by_language.items()}


def draw_names(sentence: Sentence, maker: NameMaker, rate: float, rng: random.Random) -> dict[str, str]:
    """Draws new names for some mentions of a sentence.

    Args:
        sentence: The sentence as it will be shown.
        maker: Makes the names.
        rate: Chance that a mention gets one.
        rng: Decides everything.

    Returns:
        New names by the old ones' characters without spaces, so that they are found in both text forms.
    """
    names: dict[str, str] = {}
    for entity in sentence.entities:
        mention = sentence.text[entity.start_char : entity.end_char]
        if _key(mention) not in names and rng.random() < rate:
            names[_key(mention)] = maker.make(mention, entity.label, rng)
    return names


def rename_sentence(sentence: Sentence, names: Mapping[str, str]) -> Sentence:
    """Returns a sentence with its mentions renamed, and without tokens, which nobody counts on there."""
    text, entities = _renamed(sentence.text, sentence.entities, names)
    return replace(sentence, text=text, entities=entities, tokens=())


def rename_examples(examples: Examples, names: Mapping[str, str], hidden: frozenset[str]) -> Examples:
    """Returns examples with the same names changed in the same way, without those that show a hidden one.

    Args:
        examples: What retrieval found for the sentence.
        names: As `draw_names` gives them.
        hidden: Keys of ``names`` that no example may show.
    """
    entity = [
        replace(example, mention=names.get(_key(example.mention), example.mention))
        for example in examples.entity
        if _key(example.mention) not in hidden
    ]
    context: list[ContextExample] = []
    for example in examples.context:
        if hidden.isdisjoint(_key(example.text[e.start_char : e.end_char]) for e in example.entities):
            text, entities = _renamed(example.text, example.entities, names)
            context.append(replace(example, text=text, entities=entities))
    return Examples(entity=tuple(entity), context=tuple(context))


def _renamed(
    text: str, entities: Sequence[GoldEntity], names: Mapping[str, str]
) -> tuple[str, tuple[GoldEntity, ...]]:
    renamed = ""
    moved: list[GoldEntity] = []
    copied_to = 0
    for entity in entities:
        mention = text[entity.start_char : entity.end_char]
        renamed += text[copied_to : entity.start_char]
        start_char = len(renamed)
        renamed += names.get(_key(mention), mention)
        copied_to = entity.end_char
        moved.append(GoldEntity(start_char=start_char, end_char=len(renamed), label=entity.label))
    return renamed + text[copied_to:], tuple(moved)


def _key(mention: str) -> str:
    return "".join(mention.split())


def _head(word: str, rng: random.Random) -> str:
    return word[: _cut(word, rng)]


def _tail(word: str, rng: random.Random) -> str:
    return word[len(word) - _cut(word, rng) :]


def _cut(word: str, rng: random.Random) -> int:
    return max(1, round(len(word) * rng.uniform(_MIN_SHARE, _MAX_SHARE)))


def _like(word: str, made: str) -> str:
    """The new word in the old one's case."""
    if word.isupper():
        return made.upper()
    return made[:1] + made[1:].lower()
