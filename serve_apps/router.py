"""The router's deployment: which language each sentence goes to. No Ray in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from retrieveall.opening import open_release_router
from retrieveall.release_retriever import ReleaseRetriever
from retrieveall.routing.router import Routed
from retrieveall.tagger import SentenceRouter, TextInput, route_sentences
from retrieveall.types import Span
from serve_apps.args import ServeArgs
from serve_apps.held import Follower, HeldReleases, Holding
from serve_apps.metrics import RELEASE_HELD, Recorder
from serve_apps.opened import Faults, ReleaseSource, without
from serve_apps.threads import Threads


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldRouter:
    """The router of one release and the indexes below it, of all languages whose index can be opened."""

    router: SentenceRouter
    retriever: ReleaseRetriever
    faults: Faults = field(default_factory=dict)


class RouterStage:
    """Routes the sentences of one request together.

    Args:
        held: The routers by release.
        threads: Where they work.
        replica: Name of the replica.
    """

    def __init__(self, held: HeldReleases[HeldRouter], threads: Threads, *, replica: str) -> None:
        self._held, self._threads, self._replica = held, threads, replica

    @classmethod
    def open(cls, args: ServeArgs, recorder: Recorder, *, replica: str = "") -> Self:
        """Opens the stage; blocks for as long as that takes."""
        source = ReleaseSource.of(args)

        def open_one(number: int, last: HeldRouter | None) -> HeldRouter:
            opened = source.read(number)
            retriever, faults = source.open_indexes(opened, last.retriever if last else None, prior=False)
            whole = without(opened, faults)
            router = open_release_router(source.workspace, whole, retriever, args.routing)
            return HeldRouter(router=router, retriever=retriever, faults=faults)

        held = HeldReleases(open_one, faults=lambda one: one.faults)
        held.wait_for_first(source)
        measure = partial(recorder.record, RELEASE_HELD)
        Follower(source, held, every_s=args.release_poll_s, measure=measure)
        threads = Threads("router", args.router.threads, library_threads=args.router.library_threads)
        return cls(held, threads, replica=replica)

    async def hold(self, release: int) -> Holding:
        """Opens a release unless it is open; returns what is held."""
        faults = await self._threads.run(self._held.hold, release)
        return Holding(stage="router", replica=self._replica, releases=self._held.numbers, faults=faults)

    async def route(
        self, release: int, documents: Sequence[TextInput], spans: Sequence[Sequence[Span]]
    ) -> Routed:
        """Returns S routes and, where it made them, the sentences' vectors for the retriever."""
        return await self._threads.run(self._route, release, documents, spans)

    def _route(self, release: int, documents: Sequence[TextInput], spans: Sequence[Sequence[Span]]) -> Routed:
        return route_sentences(self._held.get(release).router, documents, spans)
