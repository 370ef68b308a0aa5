"""The retriever's deployment: the examples of each sentence. No Ray in here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Self

from retrieveall.embedding.protocol import Vectors
from retrieveall.opening import ReleaseRetriever, open_retriever
from retrieveall.tagger import Composed, retrieve_examples
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
        threads: Where they work.
        replica: Name of the replica.
    """

    def __init__(
        self, held: HeldReleases[ReleaseRetriever | None], threads: Threads, *, replica: str
    ) -> None:
        self._held, self._threads, self._replica = held, threads, replica

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
        return cls(held, threads, replica=replica)

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
    ) -> list[Examples]:
        """Returns the examples of S sentences.

        Args:
            release: Whose indexes are searched.
            texts: S sentences.
            composed: Their adapters, which name the index.
            embeddings: Their vectors ``(S, D)`` where the router made them.
        """
        return await self._threads.run(self._retrieve, release, texts, composed, embeddings)

    def _retrieve(
        self,
        release: int,
        texts: Sequence[str],
        composed: Sequence[Composed],
        embeddings: Vectors | None,
    ) -> list[Examples]:
        return retrieve_examples(self._held.get(release), texts, composed, embeddings)
