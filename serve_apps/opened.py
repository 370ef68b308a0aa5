"""The release that a stage answers for; each stage opens the one that was pinned when the graph was built."""

from __future__ import annotations

from retrieveall.opening import OpenOptions, OpenRelease, read_release
from retrieveall.workspace import Workspace
from serve_apps.args import ServeArgs


def open_release(args: ServeArgs) -> tuple[Workspace, OpenRelease]:
    """Returns the workspace and its release, checked.

    Raises:
        NotFoundError: There is no workspace, or no such release in it.
        IncompatibleArtefactError: An adapter was made for another base, embedder or prompt format.
        ConfigError: The workspace has no base model yet.
    """
    workspace = Workspace.open(args.workspace)
    return workspace, read_release(workspace, OpenOptions(release=args.release))
