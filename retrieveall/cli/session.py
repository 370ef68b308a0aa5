"""What one run of the command line carries from the global flags to a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import typer

    from retrieveall.corpus import CorpusStore
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

    def corpora(self, *, create: bool = False) -> CorpusStore:
        """Opens the corpora of the workspace.

        Raises:
            NotFoundError: There is no workspace, and ``create`` is false.
        """
        from retrieveall.corpus import CorpusStore

        corpora = self.open(create=create).corpora
        return CorpusStore(corpora.filesystem, corpora.root)
