"""Raw text is read by language, shared out by weight, and partly held out."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from retrieveall.errors import InputError
from retrieveall.training.raw_text import hold_out, language_weights, read_text_folder, tokenizer_sample


def test_language_weights_flatten_the_shares() -> None:
    lines = {"big": ["x" * 100] * 16, "small": ["é" * 50]}
    weights = language_weights(lines, 0.5)
    assert weights == pytest.approx({"big": 0.8, "small": 0.2})


def test_the_tokenizer_sample_keeps_to_its_characters() -> None:
    rng = random.Random(0)
    lines = {code: [code + "x" * rng.randint(1, 30) for _ in range(200)] for code in ("en", "ru", "zh")}
    weights = {"en": 0.5, "ru": 0.3, "zh": 0.2}
    drawn = list(tokenizer_sample(lines, weights, characters=2_000, seed=0))
    for language, share in weights.items():
        size = sum(len(line) for line in drawn if line in set(lines[language]))
        assert 2_000 * share <= size < 2_000 * share + max(map(len, lines[language]))
    assert drawn == list(tokenizer_sample(lines, weights, characters=2_000, seed=0))


def test_held_out_lines_are_never_trained_on() -> None:
    lines = {"en": [str(number) for number in range(10)]}
    train, heldout = hold_out(lines, 3)
    assert train == {"en": ["0", "1", "2", "3", "4", "5", "6"]}
    assert heldout == {"en": ["7", "8", "9"]}


def test_a_text_folder_is_read_by_language_without_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "sw.txt").write_text("Habari\n\n  \nya leo\n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("no text", encoding="utf-8")
    assert read_text_folder(tmp_path) == {"sw": ["Habari", "ya leo"]}


def test_a_text_folder_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No <language>\.txt"):
        read_text_folder(tmp_path)
    (tmp_path / "de.txt").write_bytes("Gr\u00fc\u00dfe".encode("latin-1"))
    with pytest.raises(InputError, match=r"de\.txt: byte 2 is no UTF-8"):
        read_text_folder(tmp_path)
