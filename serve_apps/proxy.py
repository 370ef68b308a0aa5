"""What Serve's own HTTP proxy answers where the ingress replica of a request died: our 503, not a bare 500.

Serve puts it in front where ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` is ``serve_apps.proxy:middlewares``
in the environment that Ray starts with. `retrieveall serve` sets it.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieveall.errors import ServiceUnavailable
from serve_apps.problems import problem_of


class AnswerForTheDead:
    """Answers what was left without an answer.

    Args:
        app: Serve's proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers an ASGI request."""
        started = left = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        async def received() -> Message:
            nonlocal left
            message = await receive()
            left = left or message["type"] == "http.disconnect"
            return message

        await self._app(scope, received, noted)
        if scope["type"] == "http" and not started and not left:
            lost = ServiceUnavailable(
                "The process that held the request went away; another one answers. Try again after 1 seconds."
            )
            await problem_of(lost).response()(scope, receive, send)


def middlewares() -> list[Middleware]:
    """Returns what Serve puts in front of its proxy."""
    return [Middleware(AnswerForTheDead)]
