"""What stands around a unit, and the name that it may be part of."""

from __future__ import annotations

import numpy as np
import pytest

from retrieveall.prior.features import UnitFeatures, unit_features
from retrieveall.prior.surroundings import neighbours
from retrieveall.text.units import split_units


def seen(*texts: str) -> UnitFeatures:
    return unit_features(texts, [split_units(text) for text in texts])


def rows(seen: UnitFeatures) -> np.ndarray:
    return seen.frame.hashes.reshape(len(seen.sentence), -1)


def names(seen: UnitFeatures) -> list[tuple[int, ...]]:
    """Returns the hashes of the units inside names, unit by unit."""
    assert set(seen.name.counts.tolist()) <= {0, 6}
    return [tuple(row) for row in seen.name.hashes.reshape(-1, 6).tolist()]


def test_neighbours_stay_in_their_sentence() -> None:
    sentence = np.array([0, 0, 1, 1, 1])
    assert neighbours(sentence, 1).tolist() == [1, -1, 3, 4, -1]
    assert neighbours(sentence, -2).tolist() == [-1, -1, -1, -1, 2]
    assert neighbours(sentence[:0], 1).tolist() == []


def test_frames_are_of_shapes_not_of_words() -> None:
    one, other = rows(seen("Anna met Boris .")), rows(seen("Lena saw Pavel ."))
    by_first_word = 6
    np.testing.assert_array_equal(np.delete(one, by_first_word, axis=1), np.delete(other, by_first_word, 1))
    assert (one[:, by_first_word] != other[:, by_first_word]).all()


@pytest.mark.parametrize(
    ("text", "differing"),
    [
        ("Anna met Boris ?", {4, 5, 7}),  # the last word, and its shape two units away
        ("anna met Boris .", {0, 2, 3, 5}),  # the shape before; words go without capitals
        ("Then Anna met Boris .", {3, 5, 6, 8}),  # the first word, how far it is, and a shape two units away
    ],
)
def test_a_frame_changes_with_what_it_is_made_of(text: str, differing: set[int]) -> None:
    """*met* two units before the end, beside *Anna*; `text` changes one thing around it."""
    one, other = seen("Anna met Boris ."), seen(text)
    place = text.split().index("met")
    changed = np.flatnonzero(rows(one)[1] != rows(other)[place]).tolist()
    assert set(changed) == differing


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("Rio de Janeiro", [True, True, True]),
        ("Bank over Leeds", [True, False, True]),  # too long a small word
        ("Rio de la Cruz", [True, False, False, True]),  # two of them
        ("University of", [True, False]),  # nothing goes on behind it
        ("of Leeds", [False, True]),
        ("Apollo 11 landed", [True, True, False]),
    ],
)
def test_which_words_make_a_name(text: str, inside: list[bool]) -> None:
    assert (seen(text).name.counts > 0).tolist() == inside


@pytest.mark.parametrize(
    ("text", "differing"),
    [
        ("she saw Zoe Lee there", {0}),  # the first word
        ("she saw Ann Kim there", {1}),  # the last one
        ("she met Ann Lee there", {2}),  # the word before
        ("she saw Ann Lee today", {3}),  # the word behind
        ("she saw Ann B Lee there", {4, 5}),  # the size
        ("she SAW1 Ann Lee there", {0, 2, 4, 5}),  # what is before belongs to it
        ("she saw Ann Lee .", {3, 5}),  # the word behind, and its shape
    ],
)
def test_a_name_changes_with_what_it_is_made_of(text: str, differing: set[int]) -> None:
    """The last unit of *Ann Lee*; `text` changes one thing of the name or around it."""
    one, other = names(seen("she saw Ann Lee there"))[-1], names(seen(text))[-1]
    assert {column for column in range(6) if one[column] != other[column]} == differing


def test_the_ends_of_a_name_are_told_from_its_middle() -> None:
    first, middle, last = names(seen("she saw Ann B Lee there"))
    assert [first[column] == middle[column] for column in range(6)] == [False, True, False, True, False, True]
    assert [last[column] == middle[column] for column in range(6)] == [True, False, True, False, False, True]


def test_names_end_with_their_sentence_and_need_capitals() -> None:
    apart, together = seen("Anna", "Leeds"), seen("Anna Leeds")
    assert names(apart)[0] != names(together)[0]
    assert not seen("東京は大きい", "हिंदी में", "all small").name.counts.any()
    assert not len(seen("", "").name.counts)


def test_what_was_seen_does_not_depend_on_the_sentences_beside_it() -> None:
    text = "Marie de la Cruz flew to Rio de Janeiro ."
    alone, among = seen(text), seen("Ana de", text, "Rio")
    of = among.sentence == 1
    np.testing.assert_array_equal(rows(alone), rows(among)[of])
    before = int(among.name.counts[: np.flatnonzero(of)[0]].sum())
    inside = among.name.hashes[before : before + int(among.name.counts[of].sum())]
    np.testing.assert_array_equal(alone.name.hashes, inside)
