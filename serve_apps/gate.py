"""What stands between the request log and the application: keys and sizes. No Ray in here.

Pure ASGI, because all of it happens before a byte of the body is parsed.
"""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieveall.errors import RetrieveAllError, TooLargeError
from serve_apps.access import Access
from serve_apps.problems import problem_of

KEYED_PATHS = "/v1/"
STREAM_PATHS = ("/v1/tag/stream",)


class Gate:
    """Lets requests in.

    Args:
        app: What answers; finds the caller in ``request.state.caller``.
        access: Knows the callers.
        max_body_bytes: Longest body; of a stream, its lines are bounded instead.
        body_timeout_s: Time that a body may take to arrive; a stream's lines have limits of their own.
    """

    def __init__(self, app: ASGIApp, access: Access, *, max_body_bytes: int, body_timeout_s: float) -> None:
        self._app, self._access = app, access
        self._max_body_bytes, self._body_timeout_s = max_body_bytes, body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers an ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            receive = self._let_in(scope, receive)
        except RetrieveAllError as error:
            problem = problem_of(error)
            scope["state"]["code"] = problem.code
            await problem.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _let_in(self, scope: Scope, receive: Receive) -> Receive:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # Serve's route prefix
        if path.startswith(KEYED_PATHS):
            client = scope.get("client") or ("", 0)
            scope["state"]["caller"] = self._access.caller(headers, str(client[0]))
        if path in STREAM_PATHS:
            return receive
        announced = headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > self._max_body_bytes:
            raise self._too_large()
        return self._bounded(receive)

    def _bounded(self, receive: Receive) -> Receive:
        received, until_s, is_whole = 0, None, False

        async def bounded() -> Message:
            nonlocal received, until_s, is_whole
            if is_whole:  # from here on it tells when the client leaves
                return await receive()
            until_s = until_s or asyncio.get_running_loop().time() + self._body_timeout_s
            try:
                async with asyncio.timeout_at(until_s):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, self._too_slow()) from None
            is_whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise HTTPException(413, str(self._too_large()))
            return message

        return bounded

    def _too_slow(self) -> str:
        return (
            f"The body did not arrive within {self._body_timeout_s:g} s. Send less at once, or use"
            " `POST /v1/tag/stream`."
        )

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"The body is larger than {self._max_body_bytes} bytes, as many as this service takes."
        )
