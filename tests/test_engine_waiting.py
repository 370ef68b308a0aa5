"""Who joins next: adapters in turn, near lengths together, and no more tokens than one pass may have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retrieveall.engine.protocol import Row
from retrieveall.engine.waiting import WaitingRows
from retrieveall.prompting.codec import EncodedText

NOTHING = EncodedText(units=(), unit_ids=())


def row(language: str, tokens: int) -> Row:
    return Row(prompt_ids=(1,) * tokens, sentence=NOTHING, labels=("PER",), adapters=((language, 1.0),))


def waiting(*rows: Row) -> WaitingRows:
    queue = WaitingRows(1000, lambda: None)
    for one in rows:
        queue.put(one)
    return queue


def languages(queue: WaitingRows, max_rows: int, max_tokens: int | None = None) -> list[str]:
    return [ticket.row.adapters[0][0] for ticket in queue.take(max_rows, max_tokens, wait=False)]


def test_a_language_that_floods_the_queue_does_not_keep_others_waiting() -> None:
    queue = waiting(*[row("en", 10)] * 200, row("yo", 90), row("sw", 11))
    served = [language for _ in range(3) for language in languages(queue, 4)]
    assert {"yo", "sw"} <= set(served)


def test_adapters_lead_in_turn() -> None:
    queue = waiting(*[row(code, 10) for code in ("en", "en", "en", "yo", "sw", "yo", "en")])
    assert [languages(queue, 1)[0] for _ in range(7)] == ["en", "yo", "sw", "en", "yo", "en", "en"]


def test_rows_of_near_lengths_join_together() -> None:
    queue = waiting(*(row("en", tokens) for tokens in (50, 400, 52, 390, 47)))
    assert [len(ticket.row.prompt_ids) for ticket in queue.take(3, wait=False)] == [50, 52, 47]


def test_without_rows_nothing_is_taken() -> None:
    assert waiting().take(3, wait=False) == []


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=30),
    max_rows=st.integers(1, 8),
    max_tokens=st.integers(1, 900),
)
def test_a_pass_keeps_to_its_rows_and_tokens(lengths: list[int], max_rows: int, max_tokens: int) -> None:
    queue = waiting(*(row(f"l{tokens % 3}", tokens) for tokens in lengths))
    left = sorted(lengths)
    while left:
        taken = [len(ticket.row.prompt_ids) for ticket in queue.take(max_rows, max_tokens, wait=False)]
        assert 1 <= len(taken) <= max_rows
        assert len(taken) == 1 or max(taken) * len(taken) <= max_tokens
        for tokens in taken:
            left.remove(tokens)
    assert len(queue) == 0
