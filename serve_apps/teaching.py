"""What the ingress does with taught examples: checks, writes, lists, deletes. No Ray and no HTTP in here.

The files are the truth: an example is in force once it is written, and every replica of the retriever reads
what is new at most a second before it uses it, so nothing is sent from here to there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from retrieveall.clock import utc_now
from retrieveall.errors import ConflictError, NotFoundError, ServiceUnavailable, UnknownExampleError
from retrieveall.opening import OpenRelease
from retrieveall.taught.book import TaughtBook
from retrieveall.taught.checking import check_examples
from retrieveall.taught.compact import folded_seqs
from retrieveall.taught.example import TaughtExample
from retrieveall.taught.log import SHARED
from retrieveall.taught.view import TaughtView
from serve_apps.access import Caller
from serve_apps.current import CurrentRelease
from serve_apps.opened import ReleaseSource
from serve_apps.rates import TextRates
from serve_apps.teach_schemas import ListQuery, TeachRequest
from serve_apps.threads import Threads


class TeachService:
    """Answers requests about taught examples.

    Args:
        source: Whose workspace keeps the examples; it need not be there yet.
        current: Says which adapters and indexes answer.
        threads: Where files are read and written.
        rates: What keys may send.
        shown: Whether the service shows examples at all.
        now: Returns ISO 8601 time.
    """

    def __init__(
        self,
        source: ReleaseSource,
        current: CurrentRelease,
        threads: Threads,
        rates: TextRates,
        *,
        shown: bool = True,
        now: Callable[[], str] = utc_now,
    ) -> None:
        self._source, self._current, self._threads, self._rates = source, current, threads, rates
        self._shown, self._now = shown, now

    @cached_property
    def _book(self) -> TaughtBook:
        try:
            return TaughtBook(self._source.workspace.taught)
        except NotFoundError as error:
            raise ServiceUnavailable("The workspace is not there yet. Try again after 2 seconds.") from error

    async def teach(self, request: TeachRequest, caller: Caller) -> dict[str, Any]:
        """Returns the body of `POST /v1/examples`; the examples are on the disk by then.

        Raises:
            InputError: An example cannot be taken; nothing was written.
            UnknownLanguageError: It is of a language without an adapter.
            ForbiddenError: The shared namespace, and the caller is no admin.
            ConflictError: The service shows no examples, or the namespace is full.
            RateLimited: The caller has sent as many texts as it may.
            ServiceUnavailable: Others wrote at the same time, again and again.
        """
        namespace = _writable(caller, shared=request.shared)
        if not self._shown:
            raise ConflictError(
                "This service shows no examples in its prompts, so teaching would change nothing. Start it"
                " without `--examples off`."
            )
        with self._rates.charged(caller.id, caller.texts_per_minute, len(request.examples)):
            return await self._threads.run(self._teach, request, namespace, caller, self._current.opened)

    async def listed(self, query: ListQuery, caller: Caller) -> dict[str, Any]:
        """Returns the body of `GET /v1/examples`.

        Raises:
            ServiceUnavailable: The workspace is not there yet.
        """
        return await self._threads.run(self._listed, query, caller)

    async def forget(self, example_id: str, caller: Caller, *, shared: bool) -> dict[str, Any]:
        """Returns the body of `DELETE /v1/examples/{id}`; the deletion is on the disk by then.

        Raises:
            UnknownExampleError: There is no such example in the namespace, or it is of a language that the
                caller does not see.
            ForbiddenError: The shared namespace, and the caller is no admin.
            RateLimited: The caller has sent as many texts as it may.
            ServiceUnavailable: Others wrote at the same time, again and again.
        """
        namespace = _writable(caller, shared=shared)
        with self._rates.charged(caller.id, caller.texts_per_minute, 1):
            return await self._threads.run(self._forget, example_id, namespace, caller)

    def _teach(
        self, request: TeachRequest, namespace: str, caller: Caller, opened: OpenRelease
    ) -> dict[str, Any]:
        labels = {code: adapter.labels for code, adapter in caller.served(opened.adapters).items()}
        sentences = check_examples(request.records(), labels, opened.indexes)
        folded = folded_seqs(self._source.workspace.indexes, opened.indexes) if namespace == SHARED else {}
        taught = self._book.teach(namespace, sentences, created_at=self._now(), folded=folded)
        rows = [{"id": one, "status": status} for one, status in taught.statuses.items()]
        return {"taught_seq": self._token(caller), "examples": rows}

    def _forget(self, example_id: str, namespace: str, caller: Caller) -> dict[str, Any]:
        known = self._book.state(namespace, now=True).last.get(example_id)
        if known is not None and not caller.may_see(known.language):
            raise UnknownExampleError(
                f"There is no taught example {example_id[:80]!r} here. List them to see their ids."
            )
        self._book.forget(namespace, [example_id], created_at=self._now())
        return {"taught_seq": self._token(caller)}

    def _listed(self, query: ListQuery, caller: Caller) -> dict[str, Any]:
        namespace = SHARED if query.shared else caller.namespace
        state = self._book.state(namespace, now=True)
        found = [
            row
            for row in state.examples(query.language)
            if caller.may_see(row.language) and (query.after is None or row.id > query.after)
        ]
        page = found[: query.limit]
        return {
            "taught_seq": self._token(caller),
            "examples": _rows(page),
            "next": page[-1].id if len(found) > len(page) else None,
        }

    def _token(self, caller: Caller) -> str:
        """What holds now, for this caller."""
        own = 0 if caller.namespace == SHARED else self._book.state(caller.namespace, now=True).seq
        shared = self._book.state(SHARED, now=True).seq
        return TaughtView(namespace=caller.namespace, own_seq=own, shared_seq=shared).token


def _writable(caller: Caller, *, shared: bool) -> str:
    if shared:
        caller.check_admin()
        return SHARED
    return caller.namespace


def _rows(examples: Sequence[TaughtExample]) -> list[dict[str, Any]]:
    return [
        {
            "id": row.id,
            "language": row.language,
            "text": row.text,
            "entities": [
                {"start_char": e.start_char, "end_char": e.end_char, "label": e.label} for e in row.entities
            ],
            "created_at": row.created_at,
        }
        for row in examples
    ]
