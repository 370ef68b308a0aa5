"""Raw text to pretrain on: one file a language, what is held out, and how much of each is drawn."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from retrieveall.errors import InputError


def read_text_folder(folder: Path) -> dict[str, list[str]]:
    """Reads ``<language>.txt`` files, one sentence a line.

    Raises:
        InputError: The folder holds no such file, or one that is not UTF-8.
    """
    lines = {path.stem: _read_lines(path) for path in sorted(folder.glob("*.txt"))}
    if not lines:
        raise InputError(f"No <language>.txt in {folder}. Put one sentence a line into one file a language.")
    return lines


def _read_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is no UTF-8. Convert the file to UTF-8.") from None
    return [line for line in text.splitlines() if line.strip()]


def hold_out(
    lines: Mapping[str, Sequence[str]], count: int
) -> tuple[dict[str, Sequence[str]], dict[str, Sequence[str]]]:
    """Returns the lines to train on and the last ``count`` of each language, which are not.

    Raises:
        InputError: A language has no line left to train on, or none is to be held out.
    """
    short = sorted(language for language, texts in lines.items() if len(texts) <= count)
    if count < 1 or short:
        raise InputError(
            f"{count} lines of each language are to be held out, which must be at least 1 and leave some"
            f" to train on; too short are: {', '.join(short) or 'none'}."
            " Give these languages more lines, take their files away, or hold out another number."
        )
    train = {language: texts[:-count] for language, texts in lines.items()}
    return train, {language: texts[-count:] for language, texts in lines.items()}


def language_weights(lines: Mapping[str, Sequence[str]], exponent: float) -> dict[str, float]:
    """Returns the share of each language in the mixture; the shares sum to 1."""
    raw = {language: sum(map(len, map(str.encode, texts))) ** exponent for language, texts in lines.items()}
    total = sum(raw.values())
    return {language: weight / total for language, weight in raw.items()}


def tokenizer_sample(
    lines: Mapping[str, Sequence[str]], weights: Mapping[str, float], *, characters: int, seed: int
) -> Iterator[str]:
    """Draws about so many characters of text, shared out between the languages by weight."""
    rng = random.Random(seed)
    for language, texts in lines.items():
        budget = characters * weights[language]
        for line in rng.sample(texts, len(texts)):
            if budget <= 0:
                break
            budget -= len(line)
            yield line
