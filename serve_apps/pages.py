"""The pages for people: the playground at `/`, the API's documentation at `/docs`. No Ray in here.

Static files without a build step, all from here: the browser asks no other host. Swagger UI comes with the
package `fastapi-offline`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

_PLAYGROUND, _API_DOCS = Path(__file__).parent / "playground", Path(__file__).parent / "api_docs"
_SWAGGER_UI = Path(str(files("fastapi_offline"))) / "static"
_FILES = {
    "/": _PLAYGROUND / "index.html",
    "/playground/page.js": _PLAYGROUND / "page.js",
    "/playground/teach.js": _PLAYGROUND / "teach.js",
    "/playground/page.css": _PLAYGROUND / "page.css",
    "/docs": _API_DOCS / "index.html",
    "/docs/start.js": _API_DOCS / "start.js",
    "/docs/swagger-ui-bundle.js": _SWAGGER_UI / "swagger-ui-bundle.js",
    "/docs/swagger-ui.css": _SWAGGER_UI / "swagger-ui.css",
}
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_pages(app: FastAPI) -> None:
    """Adds the pages and their files to the application."""
    for path, file in _FILES.items():
        app.add_api_route(path, _sender(file), methods=["GET"], include_in_schema=False)


def _sender(file: Path) -> Callable[[], Awaitable[FileResponse]]:
    kind = f"{_KINDS[file.suffix]}; charset=utf-8"

    async def send() -> FileResponse:
        return FileResponse(file, media_type=kind, headers={"Content-Security-Policy": POLICY})

    return send
