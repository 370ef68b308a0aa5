"""The headers of every answer: the version, and what keeps browsers careful. No Ray in here."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from retrieveall import __version__

_HEADERS = {
    "X-RetrieveAll-Version": __version__,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_SWAGGER = (
    "default-src 'none'; script-src 'unsafe-inline' https://cdn.jsdelivr.net;"
    " style-src 'unsafe-inline' https://cdn.jsdelivr.net; img-src data: https://fastapi.tiangolo.com;"
    " connect-src 'self'; frame-ancestors 'none'"
)
_POLICIES = {"/docs": _SWAGGER, "/redoc": _SWAGGER + "; worker-src blob:; font-src https://fonts.gstatic.com"}


def with_headers(send: Send, path: str) -> Send:
    """Returns a `send` that adds the headers which the answer does not set itself."""

    async def headed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            policy = {"Content-Security-Policy": _POLICIES.get(path, _NOTHING)}
            for name, value in {**_HEADERS, **policy}.items():
                headers.setdefault(name, value)
        await send(message)

    return headed
