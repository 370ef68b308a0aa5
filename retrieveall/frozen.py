"""Frozen dataclasses to and from JSON values: the byte border of cards, releases and settings.

Inside the library data is plain frozen dataclasses; where bytes enter, pydantic checks types and
unknown keys are refused, so that a misspelt setting is never ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

import pydantic

from retrieveall.errors import ConfigError, RetrieveAllError

T = TypeVar("T")

_ADAPTERS: dict[Any, pydantic.TypeAdapter[Any]] = {}  # making one takes milliseconds


def to_dict(value: Any) -> dict[str, Any]:
    """Returns a dataclass as JSON values: tuples become lists, nested dataclasses become objects."""
    plain = _adapter(type(value)).dump_python(value, mode="json")
    assert isinstance(plain, dict)
    return plain


def from_dict(kind: type[T], values: Any, *, source: str, error: type[RetrieveAllError] = ConfigError) -> T:
    """Makes a dataclass from JSON values; fields that are missing keep their defaults.

    Args:
        kind: The dataclass.
        values: What was read.
        source: Where it was read from, for the message.
        error: What to raise.

    Raises:
        RetrieveAllError: `error`, naming the field, what stood there and what was expected.
    """
    if not isinstance(values, Mapping):
        raise error(f"{source} holds {type(values).__name__}; expected an object with named fields.")
    unknown = _unknown_fields(kind, values)
    if unknown:
        raise error(
            f"{source} has unknown fields: {', '.join(unknown)}."
            f" Known are {', '.join(field.name for field in dataclasses.fields(kind))}."  # type: ignore[arg-type]
        )
    try:
        made: T = _adapter(kind).validate_python(dict(values))
    except pydantic.ValidationError as problem:
        raise error(f"{source}: {_described(problem)}.") from None
    return made


def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = pydantic.TypeAdapter(kind)
    return _ADAPTERS[kind]


def _unknown_fields(kind: Any, values: Mapping[Any, Any], prefix: str = "") -> list[str]:
    hints = get_type_hints(kind)
    unknown = [f"{prefix}{key}" for key in values if key not in {f.name for f in dataclasses.fields(kind)}]
    for name, hint in hints.items():
        inner = values.get(name)
        if dataclasses.is_dataclass(hint) and isinstance(inner, Mapping):
            unknown += _unknown_fields(hint, inner, f"{prefix}{name}.")
    return unknown


def _described(problem: pydantic.ValidationError) -> str:
    return "; ".join(map(_one_problem, problem.errors(include_url=False)[:5])).rstrip(".")


def _one_problem(found: Any) -> str:
    if found["type"] == "value_error":  # raised by the dataclass's own checks, which say it all
        return str(found["ctx"]["error"])
    return f"{'.'.join(map(str, found['loc']))} is {str(found.get('input'))[:80]!r}: {found['msg']}"
