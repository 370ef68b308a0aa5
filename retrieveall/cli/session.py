"""What one run of the command line carries from the global flags to a command."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from retrieveall.cli.output import note
from retrieveall.cli.progress import progress_bar
from retrieveall.errors import RetrieveAllError

if TYPE_CHECKING:
    import typer

    from retrieveall.workspace import Workspace

DEFAULT_WORKSPACE = "./workspace"
DEBUG_VARIABLE = "RETRIEVEALL_DEBUG"


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """The global flags.

    Attributes:
        workspace: Path or URI of the workspace.
    """

    workspace: str

    @classmethod
    def of(cls, context: typer.Context) -> Session:
        """Returns the session that the global flags made."""
        return cast(Session, context.obj)

    def open(self, *, create: bool = False) -> Workspace:
        """Opens the workspace.

        Raises:
            NotFoundError: There is none, and ``create`` is false.
        """
        from retrieveall.workspace import Workspace

        return Workspace.open(self.workspace, create=create)


def begin_session(workspace: str, *, debug: bool) -> Session:
    """Makes the session of the global flags; ``--debug`` holds for child processes too."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"
    return Session(workspace=workspace)


def claim_base(workspace: Workspace, name: str | None) -> tuple[str, str]:
    """Returns name and digest of the workspace's base, which is set where it has none yet.

    Args:
        workspace: The workspace.
        name: What the user asked for; None takes the workspace's, or else the one that ships.

    Raises:
        ConfigError: The workspace has another base.
        NotFoundError: There is no such base.
    """
    from retrieveall.models.base import TINY, base_folder
    from retrieveall.models.digest import base_digest

    chosen = name or workspace.state().base_model or TINY
    digest = base_digest(base_folder(chosen))
    workspace.claim_base(chosen, digest)
    return chosen, digest


def learn_for_release(workspace: Workspace) -> None:
    """Learns router and priors of the new release; where that fails, whoever opens the release says why."""
    from retrieveall.opening import learn_release

    try:
        with progress_bar("learning router and priors"):
            learn_release(workspace)
    except RetrieveAllError as error:
        note(f"retrieveall: router and priors are not learned yet: {error}")
