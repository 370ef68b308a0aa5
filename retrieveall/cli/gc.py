"""``retrieveall gc``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli.flags import JsonFlag
from retrieveall.cli.output import print_json, print_line, print_table
from retrieveall.cli.progress import progress_bar
from retrieveall.cli.session import Session

if TYPE_CHECKING:
    from retrieveall.lora.gc import GarbageReport

_HOUR_S = 3600.0
_MEGABYTE = 1e6


def gc(
    context: typer.Context,
    keep_releases: Annotated[int, typer.Option(help="Newest releases whose adapters and indexes stay.")] = 2,
    min_age_hours: Annotated[
        float, typer.Option(help="Nothing younger goes: it may belong to a job that is still running.")
    ] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Removes adapters and indexes that no kept release needs, and what crashes left behind.

    Rolling back to a release that is not kept may be refused afterwards.
    """
    from retrieveall.lora.gc import collect_garbage

    with progress_bar("collecting garbage"):
        report = collect_garbage(
            Session.of(context).open(),
            now_s=time.time(),
            min_age_s=min_age_hours * _HOUR_S,
            keep_releases=keep_releases,
            dry_run=dry_run,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report)


def _show(report: GarbageReport) -> None:
    if report.removed:
        rows = [[found.kind, found.path, found.size_bytes / _MEGABYTE] for found in report.removed]
        print_table(["kind", "path", "MB"], rows)
    verb = "would be removed" if report.dry_run else "removed"
    kept = ", ".join(map(str, report.kept_releases)) or "none"
    print_line(
        f"{len(report.removed)} {verb}, {report.size_bytes / _MEGABYTE:.1f} MB; {report.too_young} too young;"
        f" kept releases: {kept}"
    )
