from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from retrieveall.cli.groups import grouped


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    width: Annotated[int, typer.Option(help="From left to right.")] = 3
    height: Annotated[int | None, typer.Option(help="From bottom to top.")] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    colour: Annotated[str, typer.Option("--color", help="Of the paper.")] = "white"


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(context_settings={"auto_envvar_prefix": "T"}, rich_markup_mode=None)

    @app.command()
    @grouped
    def draw(context: typer.Context, name: str, sizes: Sizes, look: Look, loud: bool = False) -> None:
        """Draws."""
        typer.echo(f"{context.info_name} {name} {sizes} {look} {loud}")

    return app


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["cat"], f"draw cat {Sizes()} {Look()} False"),
        (
            ["cat", "--width", "5", "--height", "7", "--color", "red", "--loud"],
            f"draw cat {Sizes(width=5, height=7)} {Look(colour='red')} True",
        ),
    ],
)
def test_a_command_gets_its_groups_made(app: typer.Typer, arguments: list[str], expected: str) -> None:
    assert CliRunner().invoke(app, arguments).output == f"{expected}\n"


def test_the_flags_of_a_group_are_flags_like_others(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=200).output
    order = [shown.index(flag) for flag in ("--width", "--height", "--color", "--loud")]
    assert order == sorted(order)
    assert "Draws." in shown and "From left to right." in shown and "default: 3" in shown
    assert (
        CliRunner().invoke(app, ["cat"], env={"T_WIDTH": "8"}).output.startswith(f"draw cat {Sizes(width=8)}")
    )
    assert CliRunner().invoke(app, ["cat", "--width", "wide"]).exit_code == 2
