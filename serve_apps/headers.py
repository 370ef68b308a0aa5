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
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # pages have one of their own
}


def with_headers(send: Send) -> Send:
    """Returns a `send` that adds the headers which the answer does not set itself."""

    async def headed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return headed
