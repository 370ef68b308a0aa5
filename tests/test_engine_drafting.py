"""Drafts pause where they are seldom right, per adapter, and come back."""

from __future__ import annotations

from retrieveall.engine.drafting import DraftAccounts

DE, RU = (("de", 1.0),), (("ru", 1.0),)


def accounts() -> DraftAccounts:
    return DraftAccounts(window_tokens=10, least_share=0.5, first_pause_rows=3, longest_pause_rows=10)


def test_drafts_go_on_while_they_are_right() -> None:
    drafting = accounts()
    for _ in range(20):
        assert drafting.admits(DE)
        drafting.note(DE, drafted=4, accepted=3)


def test_wrong_drafts_pause_for_some_rows_and_are_tried_again() -> None:
    drafting = accounts()
    drafting.note(DE, drafted=9, accepted=0)
    assert drafting.admits(DE)  # too few to judge
    drafting.note(DE, drafted=1, accepted=0)
    assert [drafting.admits(DE) for _ in range(5)] == [False, False, False, True, True]
    drafting.note(DE, drafted=9, accepted=0)
    assert drafting.admits(DE)  # the pause ended the old account


def test_pauses_grow_until_drafts_pay_again() -> None:
    drafting = accounts()

    def pause_rows(accepted: int) -> int:
        drafting.note(DE, drafted=10, accepted=accepted)
        return next(row for row in range(99) if drafting.admits(DE))

    assert [pause_rows(0) for _ in range(4)] == [3, 6, 10, 10]
    assert [pause_rows(10), pause_rows(0), pause_rows(0)] == [0, 3, 6]


def test_a_pause_counts_nothing() -> None:
    drafting = accounts()
    drafting.note(DE, drafted=10, accepted=0)
    drafting.note(DE, drafted=9, accepted=0)  # of rows that were under way
    assert [drafting.admits(DE) for _ in range(4)] == [False, False, False, True]
    drafting.note(DE, drafted=1, accepted=0)
    assert drafting.admits(DE)


def test_one_adapter_pauses_alone() -> None:
    drafting = accounts()
    drafting.note(DE, drafted=10, accepted=4)
    assert not drafting.admits(DE)
    assert drafting.admits(RU)


def test_the_past_fades() -> None:
    drafting = accounts()
    for _ in range(8):
        drafting.note(DE, drafted=10, accepted=10)
    noted = 0
    while drafting.admits(DE):
        drafting.note(DE, drafted=10, accepted=0)
        noted += 1
    assert noted <= 2


def test_rows_without_drafts_change_nothing() -> None:
    drafting = accounts()
    drafting.note(DE, drafted=10, accepted=5)
    for _ in range(9):
        drafting.note(DE, drafted=0, accepted=0)
    assert drafting.admits(DE)
