from __future__ import annotations

import pytest

from retrieveall.cli.progress import progress_bars


def test_where_nobody_sees_bars_a_line_now_and_then_says_how_far_all_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr("retrieveall.cli.progress.time.monotonic", lambda: clock[0])
    with progress_bars("training") as move:
        move("de", 1, 10)
        clock[0] = 11.0
        move("nl", 2, 10)
        move("nl", 3, 10)
        clock[0] = 22.0
        move("de", 9, 10, "nearly")
    assert capsys.readouterr().err.splitlines() == [
        "training: de 1/10, nl 2/10",
        "training: de nearly, nl 3/10",
    ]
