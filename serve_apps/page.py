"""The playground at `/`: four static files, no build step. No Ray in here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

_FOLDER = Path(__file__).parent / "playground"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/playground/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/playground/teach.js": ("teach.js", "text/javascript; charset=utf-8"),
    "/playground/page.css": ("page.css", "text/css; charset=utf-8"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)


def add_playground(app: FastAPI) -> None:
    """Adds the page and its files to the application."""
    for path, (name, kind) in _FILES.items():
        app.add_api_route(path, _sender(_FOLDER / name, kind), methods=["GET"], include_in_schema=False)


def _sender(file: Path, kind: str) -> Callable[[], Awaitable[FileResponse]]:
    async def send() -> FileResponse:
        return FileResponse(file, media_type=kind, headers={"Content-Security-Policy": POLICY})

    return send
