"""One line of JSONL: read as an object that Arrow can hold, and written as JSON that every reader takes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from retrieveall.errors import InputError

_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN_CHARS = 60


def parse_object(line: str) -> dict[str, Any]:
    r"""Returns the object of a line.

    Args:
        line: One line; it may hold surrogates where it was not UTF-8, and escapes such as ``\ud83d``.

    Raises:
        InputError: The line is no JSON object.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"no JSON: {error}") from None
    if not isinstance(value, dict):
        shown = repr(value)[:_SHOWN_CHARS]
        raise InputError(f"a JSON object was expected, found {type(value).__name__} {shown}")
    return value


def without_surrogates(value: Any) -> Any:
    """Returns a JSON value whose lone surrogates, which UTF-8 cannot hold, are U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("�", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(name): without_surrogates(item) for name, item in value.items()}
    return value


def json_text(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """Returns a value as JSON on one line, with null for NaN and infinity, which JSON has not.

    Args:
        value: A JSON value, or one with others in it.
        default: Makes JSON values of those.

    Raises:
        TypeError: There is one that JSON has not, and no `default`.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=default)
    except ValueError:  # rare: only then is it worth a walk through the value
        return json.dumps(finite(value), ensure_ascii=False, allow_nan=False, default=default)


def finite(value: Any) -> Any:
    """Returns a value with None for NaN and infinity, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    return value
