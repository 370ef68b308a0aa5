"""What one run of the command line carries from the global flags to a command."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_WORKSPACE = "./workspace"
DEBUG_VARIABLE = "RETRIEVEALL_DEBUG"


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """The global flags.

    Attributes:
        workspace: Path or URI of the workspace.
    """

    workspace: str


def split_list(text: str | None) -> tuple[str, ...]:
    """Returns the items of a comma-separated flag; nothing given is an empty tuple."""
    return tuple(item.strip() for item in (text or "").split(",") if item.strip())
