from __future__ import annotations

import datetime

from retrieveall.clock import utc_now


def test_the_time_is_iso_to_the_second_in_utc() -> None:
    before, text, after = datetime.datetime.now(datetime.UTC), utc_now(), datetime.datetime.now(datetime.UTC)
    now = datetime.datetime.fromisoformat(text)
    assert now.utcoffset() == datetime.timedelta(0) and text == now.isoformat(timespec="seconds")
    assert before.replace(microsecond=0) <= now <= after
