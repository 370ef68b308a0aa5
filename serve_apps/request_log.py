"""Headers, one log line and some measurements per HTTP request. No Ray in here, and no texts in the log.

Serve's own log formatter writes the lines as JSON and adds the request's id, which the client may send
as ``x-request-id`` and gets back.
"""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_apps.headers import with_headers
from serve_apps.metrics import PROBLEMS, REQUEST_SECONDS, REQUESTS, Recorder
from serve_apps.problems import problem_of

log = logging.getLogger(__name__)

_UNKNOWN_PATH = "other"
_LEFT = 499  # nginx's word for a client that left before it was answered
_QUIET = ("/healthz", "/readyz")  # asked every few seconds


class RequestLog:
    """Stands before everything else.

    Args:
        app: What answers; it may put ``key``, ``texts`` and ``code`` into the request's state.
        recorder: Where measurements go.
    """

    def __init__(self, app: ASGIApp, recorder: Recorder) -> None:
        self._app, self._recorder = app, recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers an ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s, status = time.perf_counter(), _LEFT
        headed = with_headers(send)

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await headed(message)

        scope.setdefault("state", {})
        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # not foreseen; an error of ours became an answer further in
            problem = problem_of(error)
            if status == _LEFT:
                scope["state"]["code"] = problem.code
                await problem.response()(scope, receive, noted)
        finally:
            self._note(scope, status, time.perf_counter() - started_s)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        path = getattr(scope.get("route"), "path", _UNKNOWN_PATH)
        state = scope["state"]
        self._recorder.record(REQUESTS, 1, path=path, status=str(status))
        self._recorder.record(REQUEST_SECONDS, seconds, path=path)
        if code := state.get("code"):
            self._recorder.record(PROBLEMS, 1, code=code)
        if path not in _QUIET:
            caller = state.get("caller")
            noted = {
                "method": scope["method"],
                "path": path,
                "status": status,
                "seconds": round(seconds, 4),
                "key": None if caller is None else caller.id,
                "texts": state.get("texts"),
                "code": code,
            }
            log.info("%s %s %d", scope["method"], path, status, extra={"http": noted})
