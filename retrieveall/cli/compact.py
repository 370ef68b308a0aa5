"""``retrieveall index compact``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from retrieveall.cli.flags import JsonFlag
from retrieveall.cli.output import print_json, print_line, print_table
from retrieveall.cli.progress import progress_bar
from retrieveall.cli.session import Session
from retrieveall.clock import utc_now

if TYPE_CHECKING:
    from retrieveall.taught.compact import Compacted


def compact(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Folds the shared taught examples into the release's indexes; a new release answers the same as before.

    Running services take it up. Private examples stay where they are; all logs get a checkpoint, so that
    services start faster.
    """
    from retrieveall.taught.compact import compact as fold_all

    with progress_bar("folding"):
        done = fold_all(Session.of(context).open(), created_at=utc_now())
    if as_json:
        print_json(_values(done))
        return
    rows = [[one.language, one.examples, one.before, one.index] for one in done.languages]
    print_table(["language", "examples", "index before", "index now"], rows)
    print_line(f"release {done.release.number}; {len(done.checkpoints)} checkpoints")


def _values(done: Compacted) -> dict[str, Any]:
    languages = [
        {"language": one.language, "examples": one.examples, "before": one.before, "index": one.index}
        for one in done.languages
    ]
    return {"release": done.release.number, "languages": languages, "checkpoints": done.checkpoints}
