"""What Serve's proxy answers where nobody did."""

from __future__ import annotations

import asyncio

import httpx
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_apps.proxy import AnswerForTheDead, middlewares
from serve_apps.schemas import ErrorBody


async def dead(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def alive(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def ask(app: ASGIApp) -> httpx.Response:
    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app=AnswerForTheDead(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/v1/tag")

    return asyncio.run(answer())


def test_a_request_that_nobody_answers_gets_a_hint() -> None:
    response = ask(dead)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert ErrorBody.model_validate_json(response.content).code == "unavailable"


def test_answers_pass_through() -> None:
    assert ask(alive).status_code == 204
    (middleware,) = middlewares()
    assert isinstance(middleware, Middleware)


def test_nothing_is_sent_to_a_client_that_has_left() -> None:
    sent: list[object] = []

    async def left() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    asyncio.run(AnswerForTheDead(dead)({"type": "http"}, left, send))
    assert sent == []
