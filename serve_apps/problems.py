"""Errors as HTTP tells them: one JSON shape, a status, and a Retry-After where trying again helps.

Faults of the service, status 500, tell callers nothing of themselves; what happened goes into the log.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import JSONResponse

from retrieveall.errors import (
    BrokenArtefactError,
    ConflictError,
    DeadlineExceeded,
    EngineClosed,
    ForbiddenError,
    InputError,
    LoneSurrogateError,
    Overloaded,
    RateLimited,
    RetrieveAllError,
    ServiceUnavailable,
    TooLargeError,
    UnknownExampleError,
    UnknownKeyError,
    UnknownLanguageError,
)
from serve_apps.schemas import ErrorBody

log = logging.getLogger(__name__)

_RETRY_S = re.compile(r"after (\d+) second")
_SHOWN_PROBLEMS = 5
_AGAIN = (429, 503, 504)  # trying again helps
_EXPECTED_BODY = (
    'Send JSON such as {"texts": ["Anna Seghers lived in Mexico."]} with the header'
    " Content-Type: application/json; /docs has the schema."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What is answered instead of a result."""

    status: int
    code: str
    message: str
    what_to_do: str
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> JSONResponse:
        """Returns the HTTP response."""
        return JSONResponse(self.body(), status_code=self.status, headers=self.headers)

    def body(self) -> dict[str, str]:
        """Returns the one JSON shape of errors."""
        body = ErrorBody(code=self.code, message=_printable(self.message), what_to_do=self.what_to_do)
        return body.model_dump()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    error: type[Exception]
    status: int
    code: str
    what_to_do: str


_KINDS = (
    _Kind(
        error=UnknownLanguageError,
        status=422,
        code="unknown_language",
        what_to_do="Name a language that `GET /v1/languages` lists, or leave `language` out.",
    ),
    _Kind(
        error=LoneSurrogateError,
        status=422,
        code="lone_surrogate",
        what_to_do="Encode the text as UTF-8, or replace such characters.",
    ),
    _Kind(
        error=TooLargeError,
        status=413,
        code="too_large",
        what_to_do="Send shorter texts, or fewer in one request.",
    ),
    _Kind(
        error=InputError,
        status=422,
        code="bad_input",
        what_to_do="Change the text as the message says and send it again.",
    ),
    _Kind(
        error=Overloaded,
        status=429,
        code="overloaded",
        what_to_do="Send the request again after the seconds in Retry-After, or fewer at once.",
    ),
    _Kind(
        error=RateLimited,
        status=429,
        code="rate_limited",
        what_to_do="Send the request again after the seconds in Retry-After, or ask for a larger rate.",
    ),
    _Kind(
        error=UnknownKeyError,
        status=401,
        code="unauthorized",
        what_to_do="Send the header `Authorization: Bearer ra_…`; whoever runs the service makes keys with"
        " `retrieveall keys create`.",
    ),
    _Kind(
        error=ForbiddenError,
        status=403,
        code="forbidden",
        what_to_do="Use a key that may do this, or ask for something else.",
    ),
    _Kind(
        error=DeadlineExceeded,
        status=504,
        code="deadline_exceeded",
        what_to_do="Send fewer or shorter texts in one request, or try again when there is less load.",
    ),
    _Kind(
        error=ServiceUnavailable,
        status=503,
        code="unavailable",
        what_to_do="Send the request again after the seconds in Retry-After.",
    ),
    _Kind(
        error=BrokenArtefactError,
        status=503,
        code="broken_language",
        what_to_do="Ask for other languages, or tell whoever runs the service: `GET /v1/replicas` says more.",
    ),
    _Kind(
        error=EngineClosed,
        status=503,
        code="unavailable",
        what_to_do="Send the request again after the seconds in Retry-After.",
    ),
    _Kind(
        error=ConflictError,
        status=409,
        code="conflict",
        what_to_do="Do as the message says.",
    ),
    _Kind(
        error=UnknownExampleError,
        status=404,
        code="unknown_example",
        what_to_do="`GET /v1/examples` lists those that there are.",
    ),
)
_BROKEN_RELEASE = Problem(
    status=500,
    code="broken_release",
    message="The service cannot answer from its release; its log says why.",
    what_to_do="Tell whoever runs the service; another release may be served with `--release`.",
)
_INTERNAL_ERROR = Problem(
    status=500,
    code="internal_error",
    message="The service failed in a way that was not foreseen; its log has the traceback.",
    what_to_do="Try again; if it stays, report it with the log.",
)


def problem_of(error: Exception) -> Problem:
    """Returns the problem of an error; a fault of the service is logged.

    What nobody raised on purpose may hold a text: of that the log has the type and the places alone.
    """
    for kind in _KINDS:
        if isinstance(error, kind.error):
            message = str(error)
            headers = _retry_after(message) if kind.status in _AGAIN else {}
            if kind.status == 401:
                headers = {"WWW-Authenticate": "Bearer"}
            return Problem(
                status=kind.status,
                code=kind.code,
                message=message,
                what_to_do=kind.what_to_do,
                headers=headers,
            )
    is_ours = isinstance(error, RetrieveAllError)
    words = f": {_printable(str(error))}" if is_ours else ""
    places = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s%s\n%s", type(error).__name__, words, places)
    return _BROKEN_RELEASE if is_ours else _INTERNAL_ERROR


def _retry_after(message: str) -> dict[str, str]:
    found = _RETRY_S.search(message)
    return {"Retry-After": found.group(1) if found else "1"}


def body_problem(errors: Sequence[Any], expected: str = _EXPECTED_BODY) -> Problem:
    """Returns the problem of a body that the schema refuses.

    Args:
        errors: As pydantic lists them; what was sent is not repeated.
        expected: What to send instead.
    """
    surrogates = [error for error in errors if error["type"] == "string_unicode"]
    if surrogates:
        return Problem(
            status=422,
            code="lone_surrogate",
            message=f"{_place(surrogates[0])}: a lone surrogate, which no Unicode text may hold.",
            what_to_do="Decode the input as UTF-8, or replace such characters before sending.",
        )
    lines = [f"{_place(error)}: {error['msg']}" for error in errors[:_SHOWN_PROBLEMS]]
    more = len(errors) - len(lines)
    return Problem(
        status=422,
        code="bad_body",
        message="; ".join(lines) + (f"; and {more} more" if more else ""),
        what_to_do=expected,
    )


def _place(error: Any) -> str:
    return ".".join(map(str, error["loc"])) or "line"


def status_problem(status: int, detail: str) -> Problem:
    """Returns the problem of what the HTTP layer itself refuses: unknown paths, methods, broken bytes."""
    if status == 400:  # FastAPI's word for bytes that are no JSON
        return body_problem([{"type": "json_invalid", "loc": ("body",), "msg": detail}])
    codes = {404: "not_found", 405: "method_not_allowed", 408: "slow_body", 413: "too_large"}
    return Problem(
        status=status,
        code=codes.get(status, f"http_{status}"),
        message=detail,
        what_to_do="/docs lists what the service answers.",
    )


def _printable(message: str) -> str:
    """Writes what cannot be UTF-8 as an escape."""
    return message.encode("utf-8", "backslashreplace").decode("utf-8")
