"""The retriever's deployment: the examples of each sentence. No Ray in here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Self

from retrieveall.embedding.protocol import Vectors
from retrieveall.opening import ReleaseRetriever, open_retriever
from retrieveall.tagger import Composed, retrieve_examples
from retrieveall.taught.book import TaughtBook
from retrieveall.taught.layers import SeenTaught, TaughtLayers
from retrieveall.taught.view import TaughtView
from retrieveall.types import Examples
from serve_apps.args import ServeArgs
from serve_apps.held import Follower, HeldReleases, Holding
from serve_apps.metrics import RELEASE_HELD, Recorder
from serve_apps.opened import ReleaseSource
from serve_apps.threads import Threads


class RetrieverStage:
    """Retrieves for the sentences of one request, one search per language.

    Args:
        held: The retrievers by release; one that is None answers without examples.
        taught: Taught examples, which lie over the indexes of any release.
        threads: Where they work.
        replica: Name of the replica.
    """

    def __init__(
        self,
        held: HeldReleases[ReleaseRetriever | None],
        taught: TaughtLayers,
        threads: Threads,
        *,
        replica: str,
    ) -> None:
        self._held, self._taught, self._threads, self._replica = held, taught, threads, replica

    @classmethod
    def open(cls, args: ServeArgs, recorder: Recorder, *, replica: str = "") -> Self:
        """Opens the stage; blocks for as long as that takes."""
        source = ReleaseSource.of(args)

        def open_one(number: int, last: ReleaseRetriever | None) -> ReleaseRetriever | None:
            if not args.examples:
                return None
            return open_retriever(source.workspace, source.read(number), last)

        held = HeldReleases(open_one)
        held.open_first(source)
        measure = partial(recorder.record, RELEASE_HELD)
        Follower(source, held, every_s=args.release_poll_s, measure=measure)
        sizes = args.retriever
        threads = Threads("retriever", sizes.threads, library_threads=sizes.library_threads)
        taught = TaughtLayers(TaughtBook(source.workspace.taught, fresh_s=args.release_poll_s))
        return cls(held, taught, threads, replica=replica)

    async def hold(self, release: int) -> Holding:
        """Opens a release unless it is open; returns what is held."""
        await self._threads.run(self._held.get, release)
        return Holding(stage="retriever", replica=self._replica, releases=self._held.numbers)

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
        retriever = self._held.get(release)
        if retriever is not None:
            retriever = retriever.seeing(SeenTaught(layers=self._taught, view=view))
        return retrieve_examples(retriever, texts, composed, embeddings)
