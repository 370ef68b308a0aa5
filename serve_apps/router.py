"""The router's deployment: which language each sentence goes to. No Ray in here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from retrieveall.opening import open_release_router, open_retriever
from retrieveall.routing.router import Routed
from retrieveall.tagger import SentenceRouter, TextInput, route_sentences
from retrieveall.types import Span
from serve_apps.args import ServeArgs
from serve_apps.opened import open_release
from serve_apps.threads import Threads


class RouterStage:
    """Routes the sentences of one request together.

    Args:
        release: What the router was opened from.
        router: Chooses languages.
        threads: Where it works.
    """

    def __init__(self, release: int, router: SentenceRouter, threads: Threads) -> None:
        self._release, self._router, self._threads = release, router, threads

    @classmethod
    def open(cls, args: ServeArgs) -> Self:
        """Opens the stage; blocks for as long as that takes."""
        workspace, opened = open_release(args)
        router = open_release_router(workspace, opened, open_retriever(workspace, opened), args.routing)
        threads = Threads("router", args.router.threads, library_threads=args.router.library_threads)
        return cls(opened.release.number, router, threads)

    async def release(self) -> int:
        """Returns the number of the release that answers."""
        return self._release

    async def route(self, documents: Sequence[TextInput], spans: Sequence[Sequence[Span]]) -> Routed:
        """Returns S routes and, where it made them, the sentences' vectors for the retriever."""
        return await self._threads.run(route_sentences, self._router, documents, spans)
