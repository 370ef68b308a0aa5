"""Tag schemes are found, read strictly, and repaired as conlleval does only when asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.corpus.tags import (
    Scheme,
    TagError,
    TokenRun,
    check_marks,
    decode_tags,
    detect_scheme,
    is_tag,
    stray_marks,
)
from tests.corpora import tagged_tokens, tags_of

READ_AS: dict[str, Scheme] = {"iob1": "iob1", "iob2": "iob2", "bioes": "bioes", "bilou": "bioes"}


@given(tagged_tokens(), st.sampled_from(sorted(READ_AS)))
def test_every_scheme_round_trips(row: tuple[list[str], list[TokenRun]], scheme: str) -> None:
    tokens, runs = row
    assert decode_tags(tags_of(runs, len(tokens), scheme), READ_AS[scheme]) == (runs, 0)


@given(tagged_tokens(), st.sampled_from(sorted(READ_AS)))
def test_the_detected_scheme_reads_the_file(row: tuple[list[str], list[TokenRun]], scheme: str) -> None:
    tokens, runs = row
    tags = tags_of(runs, len(tokens), scheme)
    assert decode_tags(tags, detect_scheme([tags])) == (runs, 0)


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["O", "B-PER", "I-PER"], "iob2"),
        (["O", "I-PER", "I-PER", "B-PER"], "iob1"),
        (["B-PER", "O", "I-PER"], "iob2"),  # a lost B-: an error to show, not another scheme
        (["S-PER", "O"], "bioes"),
        (["B-PER", "L-PER"], "bioes"),
        (["B-PER", "M-PER", "E-PER"], "bioes"),
        (["O"], "iob2"),
        ([], "iob2"),
    ],
)
def test_detection(tags: list[str], scheme: Scheme) -> None:
    assert detect_scheme([tags]) == scheme


@pytest.mark.parametrize(
    ("sentences", "stray"),
    [
        ([["S-PER"], ["U-PER"]], "UL"),
        ([["S-PER"], ["B-PER", "L-PER"], ["U-PER"]], "ES"),
        ([["S-PER"], ["B-PER", "I-PER", "E-PER"], ["O"]], ""),
        ([["U-PER"], ["B-PER"]], ""),
        ([], ""),
    ],
)
def test_the_marks_of_fewer_sentences_are_stray(sentences: list[list[str]], stray: str) -> None:
    assert stray_marks(sentences) == frozenset(stray)


def test_a_stray_mark_is_named_with_its_token_and_what_reads_it() -> None:
    check_marks(["B-PER", "E-PER"], frozenset("UL"))
    with pytest.raises(
        TagError, match="U-PER is BILOU, most tags of the file are BIOES; --scheme bioes"
    ) as error:
        check_marks(["O", "U-PER"], frozenset("UL"))
    assert error.value.index == 1


@pytest.mark.parametrize(
    ("tags", "scheme", "index", "repaired"),
    [
        (["O", "I-PER"], "iob2", 1, [(1, 2, "PER")]),
        (["B-LOC", "I-PER"], "iob2", 1, [(0, 1, "LOC"), (1, 2, "PER")]),
        (["B-PER", "O"], "bioes", 0, [(0, 1, "PER")]),
        (["B-PER"], "bioes", 0, [(0, 1, "PER")]),
        (["O", "E-PER"], "bioes", 1, [(1, 2, "PER")]),
        (["S-PER", "I-PER", "E-PER"], "bioes", 1, [(0, 1, "PER"), (1, 3, "PER")]),
    ],
)
def test_forbidden_tags_are_errors_unless_repaired(
    tags: list[str], scheme: Scheme, index: int, repaired: list[tuple[int, int, str]]
) -> None:
    with pytest.raises(TagError) as error:
        decode_tags(tags, scheme)
    assert error.value.index == index
    runs, repairs = decode_tags(tags, scheme, repair=True)
    assert repairs == 1 and [(run.first, run.end, run.label) for run in runs] == repaired


@pytest.mark.parametrize("tag", ["PER", "B-", "b-PER", "X-PER", "", "o", "E-PER"])
def test_unknown_tags_are_errors_even_when_repairing(tag: str) -> None:
    with pytest.raises(TagError, match="no tag of the scheme iob2"):
        decode_tags(["O", tag], "iob2", repair=True)


def test_bare_types_are_read_only_when_told() -> None:
    assert decode_tags(["art", "art", "O", "PER"], "io") == (
        [TokenRun(first=0, end=2, label="art"), TokenRun(first=3, end=4, label="PER")],
        0,
    )


def test_what_is_a_tag() -> None:
    assert [is_tag(text) for text in ("O", "B-X", "I-a-b", "1", "B-", "NOUN", "")] == [True] * 3 + [False] * 4
