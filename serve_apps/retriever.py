"""The retriever's deployment: the examples of each sentence. No Ray in here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from retrieveall.embedding.protocol import Vectors
from retrieveall.opening import open_retriever
from retrieveall.tagger import Composed, ExampleRetriever, retrieve_examples
from retrieveall.types import Examples
from serve_apps.args import ServeArgs
from serve_apps.opened import open_release
from serve_apps.threads import Threads


class RetrieverStage:
    """Retrieves for the sentences of one request, one search per language.

    Args:
        release: What the indexes were opened from.
        retriever: Finds examples; None answers without any.
        threads: Where it works.
    """

    def __init__(self, release: int, retriever: ExampleRetriever | None, threads: Threads) -> None:
        self._release, self._retriever, self._threads = release, retriever, threads

    @classmethod
    def open(cls, args: ServeArgs) -> Self:
        """Opens the stage; blocks for as long as that takes."""
        workspace, opened = open_release(args)
        retriever = open_retriever(workspace, opened) if args.examples else None
        sizes = args.retriever
        threads = Threads("retriever", sizes.threads, library_threads=sizes.library_threads)
        return cls(opened.release.number, retriever, threads)

    async def release(self) -> int:
        """Returns the number of the release that answers."""
        return self._release

    async def retrieve(
        self, texts: Sequence[str], composed: Sequence[Composed], embeddings: Vectors | None
    ) -> list[Examples]:
        """Returns the examples of S sentences.

        Args:
            texts: S sentences.
            composed: Their adapters, which name the index.
            embeddings: Their vectors ``(S, D)`` where the router made them.
        """
        return await self._threads.run(retrieve_examples, self._retriever, texts, composed, embeddings)
