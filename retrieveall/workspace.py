"""The workspace: one folder, local or on any pyarrow filesystem, that holds all state.

    corpora/ indexes/ routers/ priors/ pool/ releases/ taught/ runs/ reports/ retrieveall.yaml

``retrieveall.yaml`` holds the format version, the one base model of the workspace, set by the first
``index`` or ``train``, the embedder last used for indexing, and settings that differ from the defaults.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from retrieveall.config import Settings, parse_yaml, settings_from_dict, with_environment
from retrieveall.corpus.store import CorpusStore
from retrieveall.errors import ConfigError, IncompatibleArtefactError, NotFoundError
from retrieveall.frozen import from_dict, to_dict
from retrieveall.lora.pool import AdapterPool
from retrieveall.lora.releases import Releases
from retrieveall.names import check_digest, check_name
from retrieveall.storage import Store
from retrieveall.taught.log import TaughtLog

WORKSPACE_FORMAT_VERSION = 1
WORKSPACE_FILE: Final = "retrieveall.yaml"
ROOMS: Final = ("corpora", "indexes", "routers", "priors", "pool", "releases", "runs", "reports")
_LOCK: Final = ".lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkspaceState:
    """What stands in ``retrieveall.yaml``.

    Attributes:
        base_model: Name or path of the base as the user gave it; None until the first index or train.
        base_digest: Its digest (`retrieveall.models.digest.base_digest`).
        embedder: What the last index was made with; None until then.
        settings: Settings that differ from the defaults.
    """

    format_version: int = WORKSPACE_FORMAT_VERSION
    base_model: str | None = None
    base_digest: str | None = None
    embedder: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the state as JSON values."""
        return to_dict(self)


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """An open workspace. Picklable, so that jobs can carry it; safe to share between threads.

    Attributes:
        store: The folder.
        cache: Where remote artefacts are copied to; None is the user's cache folder.
    """

    store: Store
    cache: Path | None = None

    @classmethod
    def open(
        cls, uri: str | os.PathLike[str], *, create: bool = False, cache: Path | None = None
    ) -> Workspace:
        """Opens a workspace.

        Args:
            uri: A local path or any pyarrow filesystem URI.
            create: Make it where there is none.
            cache: Where remote artefacts are copied to.

        Raises:
            NotFoundError: There is none, and `create` is false.
            ConfigError: The URI names no filesystem, or ``retrieveall.yaml`` is broken.
            IncompatibleArtefactError: It has another format version.
        """
        workspace = cls(store=Store.open(uri, create=create), cache=cache)
        if not workspace.store.exists(WORKSPACE_FILE):
            if not create:
                raise NotFoundError(
                    f"{os.fspath(uri)!r} is no workspace: it has no {WORKSPACE_FILE}. Check --workspace, or"
                    " make one with `retrieveall corpus import` or `retrieveall quickstart`."
                )
            workspace._begin()
        workspace.state()
        return workspace

    @property
    def uri(self) -> str:
        """What the user named."""
        return self.store.uri

    @property
    def corpora(self) -> CorpusStore:
        """``corpora/<name>/<language>/``."""
        folder = self.store.child("corpora")
        return CorpusStore(folder.filesystem, folder.root)

    @property
    def indexes(self) -> Store:
        """``indexes/<language>/<digest>/``."""
        return self.store.child("indexes")

    @property
    def routers(self) -> Store:
        """``routers/<digest>/``: what routers have learned, see `retrieveall.route_weights`."""
        return self.store.child("routers")

    @property
    def priors(self) -> Store:
        """``priors/<digest>/``: what priors have learned, see `retrieveall.prior_weights`."""
        return self.store.child("priors")

    @property
    def taught(self) -> TaughtLog:
        """``taught/<namespace>/``: examples taught to the service, see `retrieveall.taught`."""
        return TaughtLog(store=self.store.child("taught"))

    @property
    def runs(self) -> Store:
        """``runs/<name>/``: checkpoints and logs of jobs."""
        return self.store.child("runs")

    @property
    def reports(self) -> Store:
        """``reports/<name>/``: evaluation reports."""
        return self.store.child("reports")

    @property
    def pool(self) -> AdapterPool:
        """``pool/<language>/<digest>/``."""
        return AdapterPool(store=self.store.child("pool"), cache=self.cache)

    @property
    def releases(self) -> Releases:
        """``releases/<number>.json`` and ``releases/CURRENT``."""
        return Releases(store=self.store.child("releases"), pool=self.pool, indexes=self.indexes)

    def run(self, name: str) -> Store:
        """Returns the folder of one run; it need not exist.

        Raises:
            InputError: The name cannot be a folder.
        """
        return self.runs.child(check_name(name, "run name"))

    def report(self, name: str) -> Store:
        """Returns the folder of one report; it need not exist.

        Raises:
            InputError: The name cannot be a folder.
        """
        return self.reports.child(check_name(name, "report name"))

    def state(self) -> WorkspaceState:
        """Reads ``retrieveall.yaml``.

        Raises:
            ConfigError: It is broken.
            IncompatibleArtefactError: It has another format version.
        """
        source = f"{self.uri}/{WORKSPACE_FILE}"
        values = parse_yaml(self.store.read_text(WORKSPACE_FILE), source=source)
        version = values.get("format_version") if isinstance(values, dict) else None
        if version is not None and version != WORKSPACE_FORMAT_VERSION:
            raise IncompatibleArtefactError(
                f"{source} has format_version {version!r}, this retrieveall reads {WORKSPACE_FORMAT_VERSION}."
                " Use the version that made the workspace, or start a new one."
            )
        return from_dict(WorkspaceState, values, source=source)

    def settings(self, environment: Mapping[str, str] | None = None) -> Settings:
        """Returns the defaults, changed by ``settings:`` of ``retrieveall.yaml`` and the environment.

        Args:
            environment: Default ``os.environ``.

        Raises:
            ConfigError: A setting is unknown or does not fit.
        """
        source = f"{self.uri}/{WORKSPACE_FILE}: settings"
        stored = settings_from_dict(dict(self.state().settings), source=source)
        return with_environment(stored, os.environ if environment is None else environment)

    def claim_base(self, base_model: str, base_digest: str) -> WorkspaceState:
        """Sets the base of the workspace, or checks that it is the one that was set.

        Args:
            base_model: Name or path, for people and for later commands.
            base_digest: What counts: the same base under another name or path passes.

        Raises:
            ConfigError: Another base was set before; the message names both.
        """
        check_digest(base_digest)
        with self._changing() as state:
            if state.base_digest is None:
                return self._write(replace(state, base_model=base_model, base_digest=base_digest))
            if state.base_digest != base_digest:
                raise ConfigError(
                    f"The base model {base_model!r} ({base_digest}) was given, but {self.uri!r} is"
                    f" built on {state.base_model!r} ({state.base_digest}). A workspace has one base: leave"
                    " --base-model away, or start another --workspace for this base."
                )
            return state

    def set_embedder(self, embedder: str) -> WorkspaceState:
        """Remembers what the last index was made with; the default of later commands."""
        with self._changing() as state:
            return self._write(replace(state, embedder=embedder))

    def _begin(self) -> None:
        for room in ROOMS:
            self.store.filesystem.create_dir(self.store.full_path(room), recursive=True)
        with self.store.lock(_LOCK):
            if not self.store.exists(WORKSPACE_FILE):
                self._write(WorkspaceState())

    @contextlib.contextmanager
    def _changing(self) -> Iterator[WorkspaceState]:
        """Gives the state to one process at a time (on a remote store: the last writer wins)."""
        with self.store.lock(_LOCK):
            yield self.state()

    def _write(self, state: WorkspaceState) -> WorkspaceState:
        values = {key: value for key, value in state.to_dict().items() if value not in (None, {})}
        self.store.write_text(WORKSPACE_FILE, yaml.safe_dump(values, sort_keys=False))
        return state
