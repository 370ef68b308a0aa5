"""Names that become parts of paths, checked by pattern before they touch one.

Digests, labels and run names come from command lines, request bodies and files that others wrote;
``../x`` must never become a folder. Languages are checked by `retrieveall.languages`, names of corpora
by `retrieveall.corpus.store`. Source: own choice.
"""

from __future__ import annotations

import re

from retrieveall.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{16}|[0-9a-f]{64}")
_LABEL = re.compile(r"[^\s<>\x00-\x1f\x7f]{1,64}")


def check_name(name: str, kind: str = "name") -> str:
    """Returns the name of a run or file if it is safe as one part of a path.

    Raises:
        InputError: It is empty, longer than 100 characters, starts with a dot, or holds a separator.
    """
    return _checked(_NAME, name, kind, "up to 100 of A-Z a-z 0-9 . _ -, not starting with . _ -")


def check_digest(digest: str) -> str:
    """Returns the digest if it is one: 16 (short form) or 64 lower-case hexadecimal digits.

    Raises:
        InputError: It is not.
    """
    return _checked(_DIGEST, digest, "digest", "16 or 64 lower-case hexadecimal digits")


def check_label(label: str) -> str:
    """Returns the entity label if it can stand in a tag line: visible, no space, no angle bracket.

    Raises:
        InputError: It can not.
    """
    return _checked(_LABEL, label, "label", "1 to 64 visible characters without spaces and < >")


def check_path(path: str) -> str:
    """Returns a relative POSIX path if it stays inside its folder.

    Raises:
        InputError: It is empty, absolute, holds ``..``, ``.``, an empty part, a backslash or a
            control character.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in path or not path.isprintable():
        raise InputError(f"The path {path!r} was given; expected a relative path inside its folder.")
    return path


def _checked(pattern: re.Pattern[str], value: str, kind: str, expected: str) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise InputError(f"The {kind} {str(value)[:120]!r} was given; expected {expected}.")
    return value
