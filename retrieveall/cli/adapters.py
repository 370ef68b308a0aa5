"""``retrieveall adapters``: what the pool holds, and which release answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli.flags import JsonFlag, ThreadsFlag
from retrieveall.cli.output import dev_text, libraries_on_stderr, note, print_json, print_line, print_table
from retrieveall.cli.progress import progress_bar
from retrieveall.cli.session import Session, learn_for_release
from retrieveall.clock import utc_now
from retrieveall.frozen import to_dict

if TYPE_CHECKING:
    from retrieveall.lora.pool import PoolAdapter
    from retrieveall.lora.release import Release

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, publish, pin, remeasure, roll back and remove adapters. Every change is a new release.",
)

AdapterArgument = Annotated[
    str, typer.Argument(metavar="LANG@DIGEST", help="An adapter, as `retrieveall adapters list` names it.")
]


@app.command("list")
def list_(
    context: typer.Context,
    language: Annotated[str | None, typer.Option(help="Only this language.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Lists the adapters of the pool; a star marks what the current release uses."""
    workspace = Session.of(context).open()
    adapters = workspace.pool.list(language)
    release = workspace.releases.current()
    if as_json:
        print_json({"release": release.to_dict(), "adapters": [adapter.to_dict() for adapter in adapters]})
    elif adapters:
        columns = ["", "adapter", "strategy", "dev F1", "corpus", "base", "created"]
        print_table(columns, [_row(adapter, release) for adapter in adapters], title=_title(release))
    else:
        note("There are no adapters yet: retrieveall train --help")


def _title(release: Release) -> str:
    return f"release {release.number}" if release.number else "nothing released yet"


def _row(adapter: PoolAdapter, release: Release) -> list[object]:
    card = adapter.card
    used = any(entry.adapter == adapter.digest for entry in release.languages.values())
    return [
        "*" if used else "",
        f"{adapter.language}@{adapter.digest}",
        card.strategy,
        dev_text(card.dev, synthetic=card.synthetic),
        card.corpus,
        card.base_model,
        card.created_at,
    ]


@app.command()
def show(context: typer.Context, adapter: AdapterArgument, as_json: JsonFlag = False) -> None:
    """Prints an adapter's card, after checking that its files are what its name says."""
    _, digest = split_reference(adapter)
    card = Session.of(context).open().pool.verify(digest).to_dict()
    if as_json:
        print_json(card)
    else:
        print_table(["", ""], [[name, _cell(value)] for name, value in card.items()])


def _cell(value: object) -> str:
    """Returns a value of a card as people read it: words as they are, what is nested as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@app.command()
def publish(
    context: typer.Context,
    adapter: AdapterArgument,
    language: Annotated[
        str | None, typer.Option(help="Language it shall answer for. [default: its own]")
    ] = None,
    index: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="Index beside it. [default: the one of its card]")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when it is worse on dev, or the language is pinned.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Makes an adapter answer for its language.

    Refused when its dev F1 is below the lower bound of the adapter it would replace, unless it is that one
    measured again.
    """
    workspace = Session.of(context).open()
    code, digest = split_reference(adapter)
    language = language or code
    index = index or workspace.pool.get(digest).card.index_for(language)
    released = workspace.releases.publish(language, digest, index, created_at=utc_now(), force=force)
    _show_release(released, as_json)


@app.command()
def pin(context: typer.Context, adapter: AdapterArgument, as_json: JsonFlag = False) -> None:
    """Makes an adapter answer for its language and keeps it there until another is published with --force."""
    language, digest = split_reference(adapter)
    _show_release(Session.of(context).open().releases.pin(language, digest, created_at=utc_now()), as_json)


@app.command()
def rollback(
    context: typer.Context,
    to: Annotated[int | None, typer.Option(help="Number of the release. [default: the one before]")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Makes a new release with the content of an older one."""
    _show_release(Session.of(context).open().releases.rollback(to, created_at=utc_now()), as_json)


@app.command()
def remove(
    context: typer.Context,
    language: Annotated[str, typer.Argument(metavar="LANG", help="Language to take out of the release.")],
    as_json: JsonFlag = False,
) -> None:
    """Takes a language out of the release; its adapters stay in the pool until `retrieveall gc`."""
    _show_release(Session.of(context).open().releases.remove(language, created_at=utc_now()), as_json)


@app.command()
def remeasure(
    context: typer.Context,
    languages: Annotated[
        list[str] | None, typer.Argument(metavar="[LANG]…", help="Only the adapters of these. [default: all]")
    ] = None,
    threads: ThreadsFlag = 1,
    as_json: JsonFlag = False,
) -> None:
    """Measures published adapters again, so that their priors learn from languages that came later, too.

    Adapters stay as they are but for the weight of their priors and their dev F1, which are found anew on
    the same dev sentences. What is better or as good is published in one release, and so is what was measured
    with priors that an earlier version of this program learned; all else is left.
    """
    from retrieveall.models.devices import device_at_hand
    from retrieveall.training.remeasure import remeasure as measure_again
    from retrieveall.training.run import Device

    workspace = Session.of(context).open()
    device = Device(name=device_at_hand(), threads=threads)
    with libraries_on_stderr(), progress_bar("measuring adapters") as move:
        report = measure_again(workspace, device, created_at=utc_now(), languages=languages, on_progress=move)
    if report.release is not None:
        learn_for_release(workspace)
    if as_json:
        print_json(to_dict(report))
        return
    rows: list[list[object]] = [
        [
            " ".join(one.languages),
            one.before,
            one.after or f"as it is: {one.reason}",
            dev_text(one.dev_before),
            dev_text(one.dev),
        ]
        for one in report.adapters
    ]
    print_table(["language", "adapter", "now", "dev F1 [95 %]", "dev F1 now"], rows)
    for reason in report.refused.values():
        print_line(f"not published: {reason}")
    print_line(f"release {report.release}" if report.release else "no new release")


def split_reference(reference: str) -> tuple[str, str]:
    """Returns language and digest of ``LANG@DIGEST``.

    Raises:
        InputError: It is no such reference.
    """
    from retrieveall.errors import InputError
    from retrieveall.languages import check_language
    from retrieveall.names import check_digest

    language, separator, digest = reference.partition("@")
    if not separator:
        raise InputError(
            f"The adapter {reference!r} was given; expected LANG@DIGEST, see `retrieveall adapters list`."
        )
    return check_language(language), check_digest(digest)


def _show_release(release: Release, as_json: bool) -> None:
    if as_json:
        print_json(release.to_dict())
        return
    print_line(f"release {release.number}: {release.action}")
    rows = [
        [language, entry.adapter, entry.index or "none", "pinned" if entry.pinned else ""]
        for language, entry in release.languages.items()
    ]
    print_table(["language", "adapter", "index", ""], rows)
