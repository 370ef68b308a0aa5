"""A client of the HTTP service, for programs that wait and for those that use asyncio.

Both retry what may be tried again (429, 503, a lost connection) after the seconds that the service
names, and raise the errors of `retrieveall.errors` for the rest. Sending a request twice is harmless:
tagging changes nothing, and what was taught or deleted once is not taught or deleted again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from retrieveall import errors
from retrieveall.answer import OffsetUnit

Text = str | Mapping[str, str]
"""A text, or ``{"text", "id", "language"}`` with the last two where they are known."""

Body = dict[str, Any]

_AGAIN = frozenset({429, 503})
_MAX_WAIT_S = 30.0
_BY_CODE: Mapping[str, type[errors.RetrieveAllError]] = {
    "unauthorized": errors.UnknownKeyError,
    "forbidden": errors.ForbiddenError,
    "unknown_language": errors.UnknownLanguageError,
    "lone_surrogate": errors.LoneSurrogateError,
    "bad_body": errors.InputError,
    "bad_input": errors.InputError,
    "too_large": errors.TooLargeError,
    "conflict": errors.ConflictError,
    "unknown_example": errors.UnknownExampleError,
    "rate_limited": errors.RateLimited,
    "overloaded": errors.Overloaded,
    "deadline_exceeded": errors.DeadlineExceeded,
    "slow_body": errors.DeadlineExceeded,
    "unavailable": errors.ServiceUnavailable,
    "not_ready": errors.ServiceUnavailable,
    "broken_language": errors.BrokenArtefactError,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TagQuery:
    """What may be asked of the answer's form; see `POST /v1/tag`.

    Attributes:
        labels: Only these; None for all.
        min_score: Entities below it are left out.
        offsets: Unit of all offsets.
        explain: Also return the retrieved examples.
        taught_seq: Of an answer of `teach` or `forget`: be answered with what was taught.
    """

    labels: Sequence[str] | None = None
    min_score: float = 0.0
    offsets: OffsetUnit = "codepoint"
    explain: bool = False
    taught_seq: str | None = None

    def body(self, texts: Iterable[Text]) -> Body:
        """Returns the body of a request."""
        return {
            "texts": [text if isinstance(text, str) else dict(text) for text in texts],
            "labels": None if self.labels is None else list(self.labels),
            "min_score": self.min_score,
            "offsets": self.offsets,
            "explain": self.explain,
            "taught_seq": self.taught_seq,
        }


Example = Mapping[str, Any]
"""``{"text", "language", "entities": [{"start_char", "end_char", "label"}]}``, with all its entities."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaughtQuery:
    """Which taught examples are listed; see `GET /v1/examples`.

    Attributes:
        language: Only this language; None for all.
        shared: The shared ones instead of the key's own.
        after: ``next`` of the page before; None for the first.
        limit: Of one page.
    """

    language: str | None = None
    shared: bool = False
    after: str | None = None
    limit: int = 100

    def params(self) -> dict[str, str | int | bool]:
        """Returns the query of a request."""
        named = {"language": self.language, "after": self.after}
        given = {name: value for name, value in named.items() if value is not None}
        return {**given, "shared": self.shared, "limit": self.limit}


def _lesson(examples: Iterable[Example], shared: bool, offsets: OffsetUnit) -> Body:
    return {"examples": [dict(example) for example in examples], "shared": shared, "offsets": offsets}


@dataclass(frozen=True, kw_only=True, slots=True)
class Retries:
    """How often and how long to wait for a service that is full or restarts.

    Attributes:
        count: Tries after the first.
        max_wait_s: Longest wait before one of them; where the service names more, its error is raised.
    """

    count: int = 5
    max_wait_s: float = _MAX_WAIT_S

    def wait_s(self, tried: int, response: httpx.Response | None) -> float | None:
        """Returns the seconds to wait before the next try; None where there is none.

        Args:
            tried: Tries so far, at least one.
            response: What came; None where the connection was lost.
        """
        if tried > self.count or (response is not None and response.status_code not in _AGAIN):
            return None
        named: str = "" if response is None else response.headers.get("Retry-After", "")
        if named.isdigit():
            wait_s = float(named)
            return None if wait_s > self.max_wait_s else wait_s + random.uniform(0.0, 0.1)
        return min(self.max_wait_s, 0.5 * 2.0**tried)


def answered(response: httpx.Response) -> Body:
    """Returns the JSON of a response.

    Raises:
        RetrieveAllError: The service refused or failed; of the class that its code names.
    """
    if response.is_success:
        body: Body = response.json()
        return body
    try:
        problem = response.json()
        message = f"{problem['message']} {problem['what_to_do']}"
        kind = _BY_CODE.get(problem["code"], errors.RetrieveAllError)
    except (ValueError, KeyError, TypeError):  # a proxy in between, or Serve itself
        message, kind = response.text[:200], errors.RetrieveAllError
    raise kind(f"The service at {response.url.host} answered {response.status_code}: {message}")


def _lost(error: httpx.TransportError, tried: int) -> errors.ServiceUnavailable:
    return errors.ServiceUnavailable(
        f"The service could not be reached in {tried} tries: {type(error).__name__}: {error}. Check its"
        " address, and that it runs."
    )


def _options(url: str, key: str | None, timeout_s: float) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": url, "timeout": timeout_s, "headers": headers}


class Client:
    """Asks a service and waits; a context manager.

    Args:
        url: Such as ``http://127.0.0.1:8000``.
        key: API key; None where the service checks none.
        timeout_s: Time of one try.
        retries: How often to try again.
        transport: Of httpx; the default is the network.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 120.0,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(**_options(url, key, timeout_s), transport=transport)
        self._retries = retries or Retries()

    def tag(self, texts: Sequence[Text], query: TagQuery | None = None) -> Body:
        """Tags up to 512 texts; returns the body of `POST /v1/tag`.

        Raises:
            InputError: The service refuses a text.
            UnknownKeyError: It wants a key.
            ForbiddenError: The key is not for this.
            RateLimited: The key has sent its share, also after the retries.
            Overloaded: It is full, also after the retries.
            ServiceUnavailable: It cannot be reached.
            DeadlineExceeded: It took too long.
        """
        return self._ask("POST", "v1/tag", json=(query or TagQuery()).body(texts))

    def tag_all(
        self, texts: Iterable[Text], query: TagQuery | None = None, *, batch: int = 32
    ) -> Iterator[Body]:
        """Tags any number of texts in requests of ``batch`` texts; yields one result per text, in order.

        Each result carries ``release``. Raises as `tag` does.
        """
        for some in _batches(texts, batch):
            yield from _results(self.tag(some, query))

    def teach(
        self, examples: Iterable[Example], *, shared: bool = False, offsets: OffsetUnit = "codepoint"
    ) -> Body:
        """Teaches up to 512 labelled sentences; returns the body of `POST /v1/examples`.

        Its ``taught_seq`` in a `TagQuery` has texts answered with them. Raises as `tag` does.

        Args:
            examples: What to teach.
            shared: For all keys instead of one's own; for admins.
            offsets: Unit of the examples' offsets.
        """
        return self._ask("POST", "v1/examples", json=_lesson(examples, shared, offsets))

    def taught(self, query: TaughtQuery | None = None) -> Body:
        """Returns the body of `GET /v1/examples`: a page of taught examples."""
        return self._ask("GET", "v1/examples", params=(query or TaughtQuery()).params())

    def forget(self, example_id: str, *, shared: bool = False) -> Body:
        """Deletes a taught example; returns the body of `DELETE /v1/examples/{id}`.

        Raises:
            UnknownExampleError: There is no such example.
        """
        return self._ask("DELETE", f"v1/examples/{quote(example_id, safe='')}", params={"shared": shared})

    def languages(self) -> Body:
        """Returns the body of `GET /v1/languages`."""
        return self._ask("GET", "v1/languages")

    def adapters(self) -> Body:
        """Returns the body of `GET /v1/adapters`."""
        return self._ask("GET", "v1/adapters")

    def replicas(self) -> Body:
        """Returns the body of `GET /v1/replicas`; for admins."""
        return self._ask("GET", "v1/replicas")

    def reload(self, language: str) -> Body:
        """Has the service take up the current release now; for admins."""
        return self._ask("POST", f"v1/adapters/{language}/reload")

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections."""
        self.close()

    def _ask(self, method: str, path: str, **options: Any) -> Body:
        tried = 0
        while True:
            tried += 1
            response: httpx.Response | None = None
            try:
                response = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if (wait_s := self._retries.wait_s(tried, None)) is None:
                    raise _lost(error, tried) from error
            else:
                if (wait_s := self._retries.wait_s(tried, response)) is None:
                    return answered(response)
            time.sleep(wait_s)


class AsyncClient:
    """Asks a service from asyncio; an asynchronous context manager. Arguments and answers as `Client`'s."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 120.0,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**_options(url, key, timeout_s), transport=transport)
        self._retries = retries or Retries()

    async def tag(self, texts: Sequence[Text], query: TagQuery | None = None) -> Body:
        """Tags up to 512 texts; see `Client.tag`."""
        return await self._ask("POST", "v1/tag", json=(query or TagQuery()).body(texts))

    async def tag_all(
        self, texts: Iterable[Text], query: TagQuery | None = None, *, batch: int = 32, at_once: int = 4
    ) -> AsyncIterator[Body]:
        """Tags any number of texts, some requests at once; yields one result per text, in order.

        Each result carries ``release``. Raises as `Client.tag` does.
        """
        pending: deque[asyncio.Task[Body]] = deque()
        try:
            for some in _batches(texts, batch):
                if len(pending) == at_once:
                    for result in _results(await pending.popleft()):
                        yield result
                pending.append(asyncio.create_task(self.tag(some, query)))
            while pending:
                for result in _results(await pending.popleft()):
                    yield result
        finally:
            for task in pending:
                task.cancel()

    async def teach(
        self, examples: Iterable[Example], *, shared: bool = False, offsets: OffsetUnit = "codepoint"
    ) -> Body:
        """Teaches up to 512 labelled sentences; see `Client.teach`."""
        return await self._ask("POST", "v1/examples", json=_lesson(examples, shared, offsets))

    async def taught(self, query: TaughtQuery | None = None) -> Body:
        """Returns the body of `GET /v1/examples`: a page of taught examples."""
        return await self._ask("GET", "v1/examples", params=(query or TaughtQuery()).params())

    async def forget(self, example_id: str, *, shared: bool = False) -> Body:
        """Deletes a taught example; see `Client.forget`."""
        return await self._ask(
            "DELETE", f"v1/examples/{quote(example_id, safe='')}", params={"shared": shared}
        )

    async def languages(self) -> Body:
        """Returns the body of `GET /v1/languages`."""
        return await self._ask("GET", "v1/languages")

    async def adapters(self) -> Body:
        """Returns the body of `GET /v1/adapters`."""
        return await self._ask("GET", "v1/adapters")

    async def replicas(self) -> Body:
        """Returns the body of `GET /v1/replicas`; for admins."""
        return await self._ask("GET", "v1/replicas")

    async def reload(self, language: str) -> Body:
        """Has the service take up the current release now; for admins."""
        return await self._ask("POST", f"v1/adapters/{language}/reload")

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Returns itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections."""
        await self.close()

    async def _ask(self, method: str, path: str, **options: Any) -> Body:
        tried = 0
        while True:
            tried += 1
            try:
                response = await self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if (wait_s := self._retries.wait_s(tried, None)) is None:
                    raise _lost(error, tried) from error
            else:
                if (wait_s := self._retries.wait_s(tried, response)) is None:
                    return answered(response)
            await asyncio.sleep(wait_s)


def _results(body: Body) -> Iterator[Body]:
    for result in body["results"]:
        yield {"release": body["release"], **result}


def _batches(texts: Iterable[Text], size: int) -> Iterator[list[Text]]:
    left = iter(texts)
    while some := list(islice(left, size)):
        yield some
