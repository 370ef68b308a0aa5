"""What may be taught: records of users, checked and made into sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from retrieveall.corpus.spans import RecordError, record_sentence
from retrieveall.digests import digest_json
from retrieveall.errors import InputError, TooLargeError, UnknownLanguageError
from retrieveall.retrieval.keys import sentence_key
from retrieveall.text.sentences import check_text
from retrieveall.text.units import split_units
from retrieveall.types import Sentence

MAX_CHARS = 2_000
"""Longest example: a longer one would hardly ever fit into a prompt."""


def example_id(language: str, text: str) -> str:
    """Returns the id of an example: texts that differ only in white space have the same."""
    return digest_json([language, sentence_key(text)])


def check_examples(
    records: Iterable[Mapping[str, Any]], labels: Mapping[str, Sequence[str]], indexed: Iterable[str]
) -> list[Sentence]:
    """Checks what shall be taught and returns it as sentences, whose ids are the examples'.

    Args:
        records: Each with ``text``, ``language`` and ``entities``, as JSONL corpora have them.
        labels: The labels of each language's adapter.
        indexed: Languages that have an index.

    Raises:
        InputError: A record is broken, an entity does not start and end at words, a label is not one of the
            adapter's, a language has no index, or a text comes twice.
        UnknownLanguageError: A language has no adapter.
        LoneSurrogateError: A text is no Unicode text.
        TooLargeError: A text is too long.
    """
    known = set(indexed)
    sentences: dict[str, Sentence] = {}
    for number, record in enumerate(records):
        sentence = _checked(record, f"examples.{number}", labels, known)
        if sentence.id in sentences:
            raise InputError(f"examples.{number}: its text was given before in the same call. Send it once.")
        sentences[sentence.id] = sentence
    return list(sentences.values())


def _checked(
    record: Mapping[str, Any], place: str, labels: Mapping[str, Sequence[str]], indexed: set[str]
) -> Sentence:
    language = record.get("language")
    if language not in labels:
        raise UnknownLanguageError(
            f"{place}: language {str(language)[:40]!r} was given, this release has adapters for:"
            f" {', '.join(sorted(labels))}. Name one of them."
        )
    if language not in indexed:
        raise InputError(
            f"{place}: {language!r} has no index, so nothing is retrieved for it. Build one (`retrieveall"
            " index`) and publish it beside the adapter."
        )
    text = str(record.get("text", ""))
    check_text(text)
    if len(text) > MAX_CHARS:
        raise TooLargeError(f"{place}: {len(text)} characters; an example has up to {MAX_CHARS}.")
    try:
        sentence = record_sentence(
            record, id=example_id(language, text), language=language, split="train", note=lambda _: None
        )
    except RecordError as error:
        raise InputError(f"{place}: {error.message}") from None
    if sentence is None:
        raise InputError(f"{place}: the text is empty. Give a sentence.")
    _check_entities(sentence, place, labels[language])
    return sentence


def _check_entities(sentence: Sentence, place: str, labels: Sequence[str]) -> None:
    units = split_units(sentence.text)
    starts, ends = {unit.start_char for unit in units}, {unit.end_char for unit in units}
    for number, entity in enumerate(sentence.entities):
        if entity.label not in labels:
            raise InputError(
                f"{place}.entities.{number}: label {entity.label!r} was given, the adapter of"
                f" {sentence.language!r} knows: {', '.join(labels)}."
            )
        if entity.start_char not in starts or entity.end_char not in ends:
            raise InputError(
                f"{place}.entities.{number}: {entity.start_char}–{entity.end_char} begins or ends inside a"
                " word, and entities never do. Move its edges."
            )
