"""The retriever's deployment: the examples of each sentence. No Ray in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from retrieveall.embedding.protocol import Vectors
from retrieveall.errors import BrokenArtefactError
from retrieveall.release_retriever import ReleaseRetriever
from retrieveall.tagger import Composed, retrieve_examples
from retrieveall.taught.book import TaughtBook
from retrieveall.taught.layers import SeenTaught, TaughtLayers
from retrieveall.taught.view import TaughtView
from retrieveall.types import Examples
from serve_apps.args import ServeArgs
from serve_apps.held import Follower, HeldReleases, Holding
from serve_apps.metrics import RELEASE_HELD, Recorder
from serve_apps.opened import Faults, ReleaseSource
from serve_apps.threads import Threads


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldRetriever:
    """The indexes of one release that can be opened."""

    retriever: ReleaseRetriever
    faults: Faults = field(default_factory=dict)


class RetrieverStage:
    """Retrieves for the sentences of one request, one search per language.

    Args:
        held: The retrievers by release.
        taught: Taught examples, which lie over the indexes of any release.
        threads: Where they work.
        replica: Name of the replica.
    """

    def __init__(
        self, held: HeldReleases[HeldRetriever], taught: TaughtLayers, threads: Threads, *, replica: str
    ) -> None:
        self._held, self._taught, self._threads, self._replica = held, taught, threads, replica

    @classmethod
    def open(cls, args: ServeArgs, recorder: Recorder, *, replica: str = "") -> Self:
        """Opens the stage; blocks for as long as that takes."""
        source = ReleaseSource.of(args)

        def open_one(number: int, last: HeldRetriever | None) -> HeldRetriever:
            before = None if last is None else last.retriever
            retriever, faults = source.open_indexes(source.read(number), before, examples=args.examples)
            return HeldRetriever(retriever=retriever, faults=faults)

        held = HeldReleases(open_one, faults=lambda one: one.faults)
        held.wait_for_first(source)
        measure = partial(recorder.record, RELEASE_HELD)
        Follower(source, held, every_s=args.release_poll_s, measure=measure)
        sizes = args.retriever
        threads = Threads("retriever", sizes.threads, library_threads=sizes.library_threads)
        taught = TaughtLayers(TaughtBook(source.workspace.taught, fresh_s=args.release_poll_s))
        return cls(held, taught, threads, replica=replica)

    async def hold(self, release: int) -> Holding:
        """Opens a release unless it is open; returns what is held."""
        faults = await self._threads.run(self._held.hold, release)
        return Holding(stage="retriever", replica=self._replica, releases=self._held.numbers, faults=faults)

    async def retrieve(
        self,
        release: int,
        texts: Sequence[str],
        composed: Sequence[Composed],
        embeddings: Vectors | None,
        view: TaughtView,
    ) -> list[Examples]:
        """Returns the examples of S sentences.

        Args:
            release: Whose indexes are searched.
            texts: S sentences.
            composed: Their adapters, which name the index.
            embeddings: Their vectors ``(S, D)`` where the router made them.
            view: Which taught examples are found too.

        Raises:
            BrokenArtefactError: A language's index cannot be read.
            ServiceUnavailable: A taught example that must be seen has not arrived here.
        """
        return await self._threads.run(self._retrieve, release, texts, composed, embeddings, view)

    def _retrieve(
        self,
        release: int,
        texts: Sequence[str],
        composed: Sequence[Composed],
        embeddings: Vectors | None,
        view: TaughtView,
    ) -> list[Examples]:
        held = self._held.get(release)
        for language in sorted(held.faults.keys() & {item.index_language for item in composed}):
            raise BrokenArtefactError(  # what is wrong names files, and is told to admins by `hold`
                f"The index of {language} cannot be read for the moment. Try again after 30 seconds."
            )
        retriever = held.retriever.seeing(SeenTaught(layers=self._taught, view=view))
        return retrieve_examples(retriever, texts, composed, embeddings)
