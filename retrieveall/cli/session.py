"""What one run of the command line carries from the global flags to a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import typer

    from retrieveall.corpus import CorpusStore

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

    def corpora(self) -> CorpusStore:
        """Opens the corpora of the workspace, which is made where there is none."""
        from retrieveall.corpus import CorpusStore
        from retrieveall.storage import Store

        store = Store.open(self.workspace, create=True)
        return CorpusStore(store.filesystem, store.full_path("corpora"))
