"""Flags in groups: a command takes a dataclass whose fields are flags, and typer sees every flag.

@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeFlags:
epochs: Annotated[int | None, typer.Option(help="Passes over the training sentences.")] = None

@grouped
def train(context: typer.Context, recipe: RecipeFlags) -> None: ...
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Returns the command as typer shall see it, with each group's flags in the group's place.

    Args:
        command: Its parameters are flags of typer or dataclasses, all of whose fields are flags with a
            default; no two flags may have the same name.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @functools.wraps(command)
    def call(**given: Any) -> None:
        made = {
            name: group(**{field.name: given.pop(field.name, field.default) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**given, **made)

    parameters: list[inspect.Parameter] = []
    for parameter in own_parameters(command):
        group = groups.get(parameter.name)
        parameters += [parameter] if group is None else group_parameters(group)
    return with_parameters(call, parameters)


def own_parameters(command: Callable[..., None]) -> list[inspect.Parameter]:
    """Returns a command's parameters as typer sees them, such as to build another command of them."""
    hints = get_type_hints(command, include_extras=True)
    return [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(command).parameters.items()
    ]


def group_parameters(group: Any) -> Iterator[inspect.Parameter]:
    """Yields the flags of a group."""
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )


def with_parameters(
    call: Callable[..., None], parameters: Iterable[inspect.Parameter]
) -> Callable[..., None]:
    """Lets a function that takes ``**given`` show these parameters to typer, and returns it."""
    seen = inspect.Signature(list(parameters))
    call.__signature__ = seen  # type: ignore[attr-defined]  # what `inspect` and typer read
    call.__annotations__ = {name: parameter.annotation for name, parameter in seen.parameters.items()}
    return call
