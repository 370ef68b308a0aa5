"""Which release a replica answers for, and reading it: the current one, or the one that was pinned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from retrieveall.errors import NotFoundError
from retrieveall.opening import OpenOptions, OpenRelease, read_release
from retrieveall.workspace import Workspace
from serve_apps.args import ServeArgs


@dataclass(frozen=True, kw_only=True)
class ReleaseSource:
    """The releases of a workspace, as the service sees them.

    Attributes:
        pinned: Number of the only release that is served; None follows the current one.
    """

    workspace: Workspace
    pinned: int | None = None

    @classmethod
    def of(cls, args: ServeArgs) -> Self:
        """Opens the workspace that the arguments name.

        Raises:
            NotFoundError: There is none.
        """
        return cls(workspace=Workspace.open(args.workspace), pinned=args.release)

    def newest(self) -> int:
        """Returns the number of the release to answer for; cheap enough to ask every second."""
        return self.pinned or self.workspace.releases.current_number()

    def candidates(self) -> tuple[int, ...]:
        """Returns the newest release and the one that answers where the newest cannot be opened."""
        newest = self.newest()
        return (newest,) if self.pinned or newest < 2 else (newest, newest - 1)

    def read(self, number: int) -> OpenRelease:
        """Returns a release, its cards checked.

        Raises:
            NotFoundError: There is no such release.
            IncompatibleArtefactError: An adapter was made for another base, embedder or prompt format.
            ConfigError: The workspace has no base model yet.
        """
        return read_release(self.workspace, OpenOptions(release=number))

    def verify(self, opened: OpenRelease) -> None:
        """Reads the adapters that came with this release whole; those of the one before it served already.

        What the first release holds is not read: there is nothing to fall back to, and a broken adapter
        fails only the sentences of its language.

        Raises:
            InputError: An adapter's files were changed or are broken.
            NotFoundError: An adapter is gone.
        """
        old = self._adapters_before(opened.release.number)
        for adapter in opened.adapters.values() if old else ():
            if adapter.digest not in old:
                self.workspace.pool.verify(adapter.digest)

    def _adapters_before(self, number: int) -> set[str]:
        try:
            before = self.workspace.releases.load(number - 1)
        except NotFoundError:
            return set()
        return {entry.adapter for entry in before.languages.values()}


def located(args: ServeArgs) -> ServeArgs:
    """Returns the arguments with a workspace that any process of this machine finds, its release checked.

    Raises:
        NotFoundError: There is no workspace, or no such release in it.
        IncompatibleArtefactError: An adapter was made for another base, embedder or prompt format.
        ConfigError: The workspace has no base model yet.
    """
    source = ReleaseSource.of(args)
    source.read(source.newest())
    if "://" in args.workspace:
        return args
    return args.model_copy(update={"workspace": str(Path(args.workspace).resolve())})
