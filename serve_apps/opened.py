"""Which release a replica answers for, and reading it: the current one, or the one that was pinned.

A broken adapter or index takes its language out, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Self

from retrieveall.errors import NotFoundError, RetrieveAllError
from retrieveall.opening import (
    OpenOptions,
    OpenRelease,
    open_retriever,
    read_release,
)
from retrieveall.release_retriever import ReleaseRetriever
from retrieveall.retrieval import LanguageIndex, Retriever
from retrieveall.storage import Store
from retrieveall.workspace import Workspace
from serve_apps.args import ServeArgs

Faults = Mapping[str, str]
"""What is wrong, by language."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReleaseSource:
    """The releases of a workspace, as the service sees them.

    Attributes:
        uri: Of the workspace, which may come later than the service.
        pinned: Number of the only release that is served; None follows the current one.
    """

    uri: str
    pinned: int | None = None

    @classmethod
    def of(cls, args: ServeArgs) -> Self:
        """Returns the releases that the arguments name."""
        return cls(uri=args.workspace, pinned=args.release)

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace, once it is there.

        Raises:
            NotFoundError: It is not.
        """
        return Workspace.open(self.uri)

    @property
    def store(self) -> Store:
        """The workspace's folder, which need not be there."""
        return Store.at(self.uri)

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

    def new_languages(self, opened: OpenRelease) -> set[str]:
        """Returns the languages whose adapters came with this release; the others' have served already."""
        old = self.adapters_before(opened.release.number)
        return {code for code, adapter in opened.adapters.items() if adapter.digest not in old}

    def broken_adapters(self, opened: OpenRelease, languages: Collection[str]) -> dict[str, str]:
        """Reads the adapters of some languages whole and returns what is wrong with which."""
        faults = {}
        for code in sorted(languages):
            try:
                self.workspace.pool.verify(opened.adapters[code].digest)
            except (RetrieveAllError, OSError) as error:
                faults[code] = str(error)
        return faults

    def open_indexes(
        self,
        opened: OpenRelease,
        last: ReleaseRetriever | None = None,
        *,
        examples: bool = True,
        prior: bool = True,
    ) -> tuple[ReleaseRetriever, dict[str, str]]:
        """Opens the indexes of a release, all that can be.

        Args:
            opened: The release.
            last: What was opened before; indexes that both name are kept open.
            examples: False finds no examples.
            prior: False opens no priors, which routing does not ask.

        Returns:
            What retrieves in the other languages, and what is wrong with which index.

        Raises:
            RetrieveAllError: None of several can be opened.
        """
        opens = partial(open_retriever, self.workspace, opened, last, examples=examples, prior=prior)
        try:
            return opens(), {}
        except Exception as error:  # a broken file may raise anything
            log.warning("Not all indexes of release %d can be opened: %s", opened.release.number, error)
            retriever, faults = self._each_index(opened, None if last is None else last.retriever)
            if not retriever.indexes:
                raise
        return opens(retriever=retriever), faults

    def _each_index(self, opened: OpenRelease, held: Retriever | None) -> tuple[Retriever, dict[str, str]]:
        indexes: dict[str, LanguageIndex] = {}
        parts: dict[str, LanguageIndex] = {}
        faults: dict[str, str] = {}
        for code, digest in opened.indexes.items():
            try:
                one = Retriever.open(self.workspace.indexes, {code: digest}, held=held)
            except Exception as error:  # as above
                faults[code] = f"The index {digest} cannot be opened: {error}"
            else:
                indexes |= one.indexes
                parts |= one.parts
                held = held or one
        return Retriever(indexes, parts), faults

    def adapters_before(self, number: int) -> set[str]:
        """Returns the adapters of the release before; none where there is none."""
        try:
            before = self.workspace.releases.load(number - 1)
        except NotFoundError:
            return set()
        return {entry.adapter for entry in before.languages.values()}


def without(opened: OpenRelease, faults: Faults) -> OpenRelease:
    """Returns a release as if it had no adapters and indexes of some languages."""
    languages = {code: e for code, e in opened.release.languages.items() if code not in faults}
    cards = {code: card for code, card in opened.cards.items() if code not in faults}
    return replace(opened, release=replace(opened.release, languages=languages), cards=cards)


def check_release(args: ServeArgs) -> None:
    """Checks that there is a release to serve.

    Raises:
        NotFoundError: There is no workspace, or no such release in it.
        IncompatibleArtefactError: An adapter was made for another base, embedder or prompt format.
        ConfigError: The workspace has no base model yet.
    """
    source = ReleaseSource.of(args)
    source.read(source.newest())


def located(args: ServeArgs) -> ServeArgs:
    """Returns the arguments with a workspace that any process of this machine finds."""
    if "://" in args.workspace:
        return args
    return args.model_copy(update={"workspace": str(Path(args.workspace).resolve())})
