"""The HTTP face of the service: a FastAPI application around a `TagService`. No Ray in here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from retrieveall import __version__
from retrieveall.errors import RetrieveAllError
from serve_apps.problems import Problem, body_problem, problem_of, status_problem
from serve_apps.schemas import (
    AdaptersAnswer,
    ErrorBody,
    LanguagesAnswer,
    ReloadAnswer,
    ReplicasAnswer,
    TagAnswer,
    TagRequest,
)
from serve_apps.service import TagService

_ERRORS: dict[int | str, dict[str, Any]] = {
    422: {"model": ErrorBody, "description": "Bad body, lone surrogate, unknown language"},
    429: {"model": ErrorBody, "description": "Overload; Retry-After says when to come back"},
    500: {"model": ErrorBody, "description": "A fault of the service"},
    503: {"model": ErrorBody, "description": "A part of the service restarts; Retry-After says when"},
    504: {"model": ErrorBody, "description": "The service's own deadline passed"},
}


def http_app(service: TagService, *, follow_every_s: float) -> FastAPI:
    """Returns the application; answers are written once and not validated again on their way out.

    Args:
        service: Answers.
        follow_every_s: How often it looks for a new release, from the application's start to its end.
    """

    @asynccontextmanager
    async def following(_: FastAPI) -> AsyncIterator[None]:
        await service.current.start()
        task = asyncio.create_task(service.current.follow(follow_every_s))
        yield
        task.cancel()

    app = FastAPI(
        lifespan=following,
        title="RetrieveAll",
        version=__version__,
        description="Named entities in any mix of languages: one frozen model, one LoRA per language,"
        " retrieved examples.",
    )
    _add_error_handlers(app)
    _add_tagging(app, service)
    _add_listings(app, service)
    _add_probes(app, service)
    return app


def _add_tagging(app: FastAPI, service: TagService) -> None:
    @app.post("/v1/tag", responses={200: {"model": TagAnswer}, **_ERRORS}, tags=["tagging"])
    async def tag(request: TagRequest) -> JSONResponse:
        """Tags texts; each sentence is routed to the adapter of its language."""
        return JSONResponse(await service.tag(request))


def _add_listings(app: FastAPI, service: TagService) -> None:
    @app.get("/v1/languages", responses={200: {"model": LanguagesAnswer}}, tags=["release"])
    async def languages() -> JSONResponse:
        """Lists the languages of the release and what is tagged in each."""
        return JSONResponse(service.languages())

    @app.get("/v1/adapters", responses={200: {"model": AdaptersAnswer}}, tags=["release"])
    async def adapters() -> JSONResponse:
        """Lists the adapters of the release with what they were made from."""
        return JSONResponse(service.adapter_cards())

    @app.get("/v1/replicas", responses={200: {"model": ReplicasAnswer}}, tags=["release"])
    async def replicas() -> JSONResponse:
        """Lists the replicas heard of within a minute and what each holds."""
        return JSONResponse(service.replicas())

    @app.post(
        "/v1/adapters/{language}/reload",
        responses={
            200: {"model": ReloadAnswer},
            **_ERRORS,
            404: {"model": ErrorBody},
            409: {"model": ErrorBody},
        },
        tags=["release"],
    )
    async def reload(language: str) -> JSONResponse:
        """Takes up the current release now and reads the language's adapter whole."""
        return JSONResponse(await service.current.reload(language))

    @app.get("/", include_in_schema=False)
    async def front() -> RedirectResponse:
        return RedirectResponse("docs")


def _add_probes(app: FastAPI, service: TagService) -> None:
    @app.get("/healthz", tags=["probes"])
    async def healthz() -> JSONResponse:
        """Says that the process is alive."""
        return JSONResponse({"status": "alive"})

    @app.get("/readyz", responses={503: {"model": ErrorBody}}, tags=["probes"])
    async def readyz() -> JSONResponse:
        """Says whether router, retriever and generator answer, all for the same release."""
        if await service.ready():
            return JSONResponse({"status": "ready", "release": service.current.opened.release.number})
        return Problem(
            status=503,
            code="not_ready",
            message="Router, retriever or generator does not answer yet.",
            what_to_do="Ask again after the seconds in Retry-After.",
            headers={"Retry-After": "2"},
        ).response()


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def bad_body(_: Request, error: RequestValidationError) -> JSONResponse:
        return body_problem(error.errors()).response()

    @app.exception_handler(HTTPException)
    async def bad_request(_: Request, error: HTTPException) -> JSONResponse:
        return status_problem(error.status_code, str(error.detail)).response()

    @app.exception_handler(Exception)
    async def any_error(_: Request, error: Exception) -> JSONResponse:
        return problem_of(error).response()

    app.add_exception_handler(RetrieveAllError, any_error)
