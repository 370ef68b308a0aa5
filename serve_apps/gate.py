"""What stands between the request log and the application: keys and sizes. No Ray in here.

Pure ASGI, because all of it happens before a byte of the body is parsed.
"""

from __future__ import annotations

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
    """

    def __init__(self, app: ASGIApp, access: Access, *, max_body_bytes: int) -> None:
        self._app, self._access, self._max_body_bytes = app, access, max_body_bytes

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
        return self._counted(receive)

    def _counted(self, receive: Receive) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise HTTPException(413, str(self._too_large()))
            return message

        return counted

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"The body is larger than {self._max_body_bytes} bytes, as many as this service takes."
        )
