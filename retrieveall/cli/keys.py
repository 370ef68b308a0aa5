"""``retrieveall keys``: the API keys of the HTTP service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrieveall.cli.flags import JsonFlag, split_list
from retrieveall.cli.output import note, print_json, print_line, print_table
from retrieveall.cli.session import Session
from retrieveall.clock import utc_now

if TYPE_CHECKING:
    from serve_apps.keys import KeyFile, KeyRecord

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Create, list and revoke the API keys of the service, which reads them again every second.",
)


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, for people.")],
    languages: Annotated[
        str | None,
        typer.Option(metavar="nl,de", help="Languages it may be answered in. [default: all]"),
    ] = None,
    texts_per_minute: Annotated[
        int | None, typer.Option(help="Texts that it may send. [default: any number]", min=1)
    ] = None,
    admin: Annotated[
        bool,
        typer.Option("--admin", help="It may also reload adapters, see replicas and teach shared examples."),
    ] = False,
    namespace: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose taught examples it sees. [default: its own alone]"),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Makes a key and prints it, once: the workspace keeps only a hash of it."""
    key, record = _keys(context).create(
        name,
        created_at=utc_now(),
        languages=split_list(languages) or None,
        texts_per_minute=texts_per_minute,
        admin=admin,
        namespace=namespace,
    )
    if as_json:
        print_json({"key": key, **_shown(record)})
        return
    print_line(key)
    note("retrieveall: this is the only time that the key is shown; send it as `Authorization: Bearer KEY`")


@app.command("list")
def list_(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Lists all keys, revoked ones too, without their secrets."""
    records = _keys(context).list()
    if as_json:
        print_json([_shown(record) for record in records])
    elif records:
        columns = ["id", "name", "languages", "texts/min", "admin", "namespace", "created", "revoked"]
        print_table(columns, map(_row, records))
    else:
        note("There are no keys yet: retrieveall keys create NAME")


@app.command()
def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `retrieveall keys list` names it.")],
    as_json: JsonFlag = False,
) -> None:
    """Makes a key useless; services that run refuse it within seconds."""
    record = _keys(context).revoke(key_id, revoked_at=utc_now())
    if as_json:
        print_json(_shown(record))
    else:
        print_line(f"revoked {record.id} ({record.name})")


def _keys(context: typer.Context) -> KeyFile:
    from serve_apps.keys import KeyFile

    return KeyFile(store=Session.of(context).open().store)


def _shown(record: KeyRecord) -> dict[str, Any]:
    return {name: value for name, value in record.to_dict().items() if name != "secret_sha256"}


def _row(record: KeyRecord) -> list[object]:
    return [
        record.id,
        record.name,
        "all" if record.languages is None else ", ".join(record.languages),
        "any" if record.texts_per_minute is None else record.texts_per_minute,
        "admin" if record.admin else "",
        record.namespace or record.id,
        record.created_at,
        record.revoked_at or "",
    ]
