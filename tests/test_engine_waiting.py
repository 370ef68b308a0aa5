"""Who joins next: adapters in turn, near lengths together, and no more tokens than one pass may have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from retrieveall.engine.protocol import Row
from retrieveall.engine.waiting import WaitingRows
from retrieveall.errors import DeadlineExceeded, NotFoundError
from retrieveall.lora.bank import Standing
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


class OneSided:
    """A gate whose adapters stand as told, with memory for so many tokens."""

    def __init__(self, tokens: int = 10_000, **standings: Standing) -> None:
        self.tokens, self.standings = tokens, standings

    def standing(self, rows: Sequence[Row]) -> list[Standing]:
        return [self.standings.get(row.adapters[0][0], Standing.HELD) for row in rows]

    def fits(self, rows: int, most_tokens: int) -> bool:
        return rows * most_tokens <= self.tokens


def joining(queue: WaitingRows, gate: OneSided, max_rows: int = 4) -> list[str]:
    queue.look_again()
    return [ticket.row.adapters[0][0] for ticket in queue.take(max_rows, gate=gate, wait=False)]


def test_others_go_first_while_an_adapter_is_loaded() -> None:
    queue = waiting(row("yo", 10), row("en", 10), row("yo", 10), row("sw", 10))
    assert joining(queue, OneSided(yo=Standing.COMING)) == ["en", "sw"]
    assert joining(queue, OneSided(yo=Standing.COMING)) == []
    assert joining(queue, OneSided()) == ["yo", "yo"]


def test_nobody_goes_first_while_whose_turn_it_is_has_no_room() -> None:
    """However many rows of others come, at the latest after each had a turn."""
    queue = waiting(row("en", 10), row("yo", 10))
    gate = OneSided(yo=Standing.NO_ROOM)
    assert joining(queue, gate) == ["en"]
    for _ in range(3):
        queue.put(row("en", 10))
        queue.put(row("sw", 10))
        assert joining(queue, gate) == []
    assert joining(queue, OneSided(), max_rows=1) == ["yo"]


def test_rows_join_as_far_as_their_memory_goes() -> None:
    queue = WaitingRows(10, lambda: None)
    for most_tokens in (40, 40, 40, 40, 500):
        queue.put(row("en", 10), most_tokens)
    assert joining(queue, OneSided(tokens=120)) == ["en"] * 3
    assert joining(queue, OneSided(tokens=120)) == ["en"]
    assert joining(queue, OneSided(tokens=120)) == []
    assert joining(queue, OneSided(tokens=500)) == ["en"]


def test_a_broken_adapter_fails_the_rows_that_need_all_of_it() -> None:
    gone = []
    queue = WaitingRows(10, lambda: gone.append(1))
    mixed = dataclasses.replace(row("en", 1), adapters=(("en", 0.5), ("yo", 0.5)))
    futures = [queue.put(one) for one in (row("en", 1), mixed, row("yo", 1))]
    queue.fail(frozenset({"en", "yo"}), NotFoundError("both"))
    assert [future.done() for future in futures] == [False, True, False]
    queue.fail(frozenset({"en"}), NotFoundError("en"))
    assert [future.done() for future in futures] == [True, True, False]
    assert str(futures[0].exception(0)) == "en"
    assert len(gone) == 2 and len(queue) == 1


def test_late_and_cancelled_rows_are_swept_out() -> None:
    now_s = [0.0]
    queue = WaitingRows(10, lambda: None, clock=lambda: now_s[0])
    late = queue.put(dataclasses.replace(row("en", 1), deadline_s=5.0))
    cancelled = queue.put(row("en", 1))
    queue.put(dataclasses.replace(row("en", 1), deadline_s=9.0))
    queue.sweep()
    assert len(queue) == 3
    cancelled.cancel()
    queue.sweep()
    assert len(queue) == 2
    now_s[0] = 6.0
    queue.sweep()
    assert len(queue) == 1
    assert isinstance(late.exception(0), DeadlineExceeded)


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
