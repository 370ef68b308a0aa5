"""The client against a service that refuses, restarts and answers; no socket, no Ray."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator

import httpx
import pytest

import retrieveall
from retrieveall import errors
from retrieveall.client import AsyncClient, Client, Retries, TagQuery, TaughtQuery

Answer = Callable[[httpx.Request], httpx.Response]


def problem(status: int, code: str, retry_after: str | None = None) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    body = {"code": code, "message": "What was given.", "what_to_do": "What to do."}
    return httpx.Response(status, json=body, headers=headers)


def tagged(request: httpx.Request) -> httpx.Response:
    texts = json.loads(request.content)["texts"]
    return httpx.Response(200, json={"release": 4, "results": [{"entities": [t]} for t in texts]})


class Service:
    """Gives the answers that it was told, then tags."""

    def __init__(self, *first: httpx.Response | Exception) -> None:
        self.first = list(first)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.first.pop(0) if self.first else tagged(request)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []

    async def sleep(wait_s: float) -> None:
        waited.append(wait_s)

    monkeypatch.setattr("retrieveall.client.time.sleep", waited.append)
    monkeypatch.setattr("retrieveall.client.asyncio.sleep", sleep)
    return waited


def both(service: Service, key: str | None = "ra_x") -> Iterator[Callable[[], object]]:
    """Gives the same question by the client that waits and by the one of asyncio."""
    transport = httpx.MockTransport(service)

    def wait() -> object:
        with Client("http://s", key=key, transport=transport, retries=Retries(count=3)) as client:
            return client.tag(["a"])

    async def ask() -> object:
        async with AsyncClient("http://s", key=key, transport=transport, retries=Retries(count=3)) as client:
            return await client.tag(["a"])

    yield wait
    yield lambda: asyncio.run(ask())


def test_the_body_and_the_key_are_sent_and_the_answer_returned() -> None:
    service = Service()
    transport = httpx.MockTransport(service)
    with Client("http://s/base", key="ra_x", transport=transport) as client:
        body = client.tag(["a", {"text": "b", "language": "nl"}], TagQuery(labels=("PER",), explain=True))

    assert body == {"release": 4, "results": [{"entities": ["a"]}, {"entities": [service_item()]}]}
    (request,) = service.asked
    assert request.url.path == "/base/v1/tag"
    assert request.headers["Authorization"] == "Bearer ra_x"
    assert json.loads(request.content) == {
        "texts": ["a", service_item()],
        "labels": ["PER"],
        "min_score": 0.0,
        "offsets": "codepoint",
        "explain": True,
        "taught_seq": None,
    }


def service_item() -> dict[str, str]:
    return {"text": "b", "language": "nl"}


def test_full_and_restarting_services_are_asked_again_after_the_seconds_they_name(waits: list[float]) -> None:
    first = (problem(429, "overloaded", "7"), problem(503, "unavailable", "2"), httpx.ConnectError("refused"))
    for ask in both(service := Service(*first)):
        service.first, service.asked = list(first), []
        waits.clear()
        assert ask() == {"release": 4, "results": [{"entities": ["a"]}]}
        assert len(service.asked) == 4
        assert 7 <= waits[0] < 7.2 and 2 <= waits[1] < 2.2 and waits[2] > 0


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(401, "unauthorized"), errors.UnknownKeyError),
        (problem(422, "unknown_language"), errors.UnknownLanguageError),
        (problem(413, "too_large"), errors.TooLargeError),
        (problem(404, "unknown_example"), errors.UnknownExampleError),
        (problem(504, "deadline_exceeded"), errors.DeadlineExceeded),
        (problem(408, "slow_body"), errors.DeadlineExceeded),
        (problem(429, "rate_limited", "999"), errors.RateLimited),
        (problem(500, "internal_error"), errors.RetrieveAllError),
        (httpx.Response(502, text="<html>bad gateway"), errors.RetrieveAllError),
        (httpx.Response(404, json=["odd"]), errors.RetrieveAllError),
    ],
)
def test_what_cannot_be_tried_again_is_raised_at_once(
    answer: httpx.Response, kind: type[Exception], waits: list[float]
) -> None:
    for ask in both(service := Service()):
        service.first, service.asked = [answer], []
        with pytest.raises(kind):
            ask()
        assert len(service.asked) == 1 and not waits


def test_a_service_that_stays_away_is_told(waits: list[float]) -> None:
    for ask in both(service := Service()):
        service.first = [httpx.ConnectError("refused")] * 4
        with pytest.raises(errors.ServiceUnavailable, match="4 tries"):
            ask()
    for ask in both(service := Service()):
        service.first = [problem(429, "overloaded", "1")] * 4
        with pytest.raises(errors.Overloaded):
            ask()


def test_any_number_of_texts_is_tagged_in_order() -> None:
    service = Service()
    transport = httpx.MockTransport(service)
    texts = [str(number) for number in range(100)]
    with Client("http://s", transport=transport) as client:
        waited = list(client.tag_all(iter(texts), batch=7))

    async def collected() -> list[object]:
        async with AsyncClient("http://s", transport=transport) as client:
            return [result async for result in client.tag_all(iter(texts), batch=7, at_once=3)]

    assert waited == asyncio.run(collected()) == [{"release": 4, "entities": [text]} for text in texts]
    assert len(service.asked) == 30


def test_examples_are_taught_listed_and_forgotten() -> None:
    asked: list[tuple[str, str, object]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        asked.append((request.method, str(request.url.copy_with(scheme="http", host="s")), body))
        return httpx.Response(200, json={"taught_seq": "1.0"})

    lesson = {
        "text": "Anna",
        "language": "de",
        "entities": [{"start_char": 0, "end_char": 4, "label": "PER"}],
    }
    query = TaughtQuery(language="de", after="0f", limit=7)

    async def ask() -> list[object]:
        async with AsyncClient("http://s", transport=httpx.MockTransport(answer)) as client:
            done = [await client.teach([lesson], shared=True), await client.taught(query)]
            return [*done, await client.forget("a/b")]

    with Client("http://s", transport=httpx.MockTransport(answer)) as client:
        waited = [client.teach([lesson], shared=True), client.taught(query), client.forget("a/b")]
    once = list(asked)

    assert waited == asyncio.run(ask()) == [{"taught_seq": "1.0"}] * 3
    assert asked == once * 2
    assert once == [
        ("POST", "http://s/v1/examples", {"examples": [lesson], "shared": True, "offsets": "codepoint"}),
        ("GET", "http://s/v1/examples?language=de&after=0f&shared=false&limit=7", None),
        ("DELETE", "http://s/v1/examples/a%2Fb?shared=false", None),
    ]


def test_the_package_offers_both_clients() -> None:
    assert (retrieveall.Client, retrieveall.AsyncClient) == (Client, AsyncClient)
    assert not hasattr(retrieveall, "Nothing")
