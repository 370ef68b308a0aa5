"""The HTTP face of the service: a FastAPI application around a `TagService`. No Ray in here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from retrieveall import __version__
from retrieveall.errors import RetrieveAllError, ServiceUnavailable
from serve_apps.access import Access
from serve_apps.callers import CallerOf
from serve_apps.gate import Gate
from serve_apps.metrics import Recorder
from serve_apps.openapi_examples import (
    LANGUAGES_ANSWER,
    STREAM_ANSWER,
    STREAM_BODY,
    TAG_ANSWER,
    TAG_BODY,
    example,
)
from serve_apps.pages import add_pages
from serve_apps.problems import Problem, body_problem, problem_of, status_problem
from serve_apps.readiness import Readiness
from serve_apps.request_log import RequestLog
from serve_apps.schemas import (
    AdaptersAnswer,
    ErrorBody,
    LanguagesAnswer,
    ReadyAnswer,
    ReloadAnswer,
    ReplicasAnswer,
    TagAnswer,
    TagOptions,
    TagRequest,
)
from serve_apps.service import TagService
from serve_apps.stream import Streams
from serve_apps.teach_routes import add_teaching
from serve_apps.teaching import TeachService
from serve_apps.tracing import Traced
from serve_apps.upkeep import Upkeep

_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorBody, "description": "No API key, or none that is good"},
    403: {"model": ErrorBody, "description": "The key is not for this"},
    408: {"model": ErrorBody, "description": "The body did not arrive in time"},
    413: {"model": ErrorBody, "description": "A body or a text is too large"},
    422: {"model": ErrorBody, "description": "Bad body, lone surrogate, unknown language"},
    429: {
        "model": ErrorBody,
        "description": "`rate_limited` or `overloaded`; Retry-After says when to come back",
    },
    500: {"model": ErrorBody, "description": "A fault of the service"},
    503: {"model": ErrorBody, "description": "A part of the service restarts; Retry-After says when"},
    504: {"model": ErrorBody, "description": "The service's own deadline passed"},
}


_LISTING_ERRORS: dict[int | str, dict[str, Any]] = {status: _ERRORS[status] for status in (401, 403, 503)}


def http_app(
    service: TagService,
    streams: Streams,
    teaching: TeachService,
    access: Access,
    upkeep: Upkeep,
    recorder: Recorder,
    *,
    max_body_bytes: int,
    body_timeout_s: float = 60.0,
) -> FastAPI:
    """Returns the application; answers are written once and not validated again on their way out.

    Args:
        service: Answers.
        streams: Answer streams.
        teaching: Takes, lists and deletes taught examples.
        access: Knows who may ask.
        upkeep: Runs from the application's start to its end.
        recorder: Where measurements go.
        max_body_bytes: Longest body.
        body_timeout_s: Time that a body may take to arrive.
    """

    @asynccontextmanager
    async def kept_up(_: FastAPI) -> AsyncIterator[None]:
        await upkeep.start()
        task = asyncio.create_task(upkeep.run())
        yield
        task.cancel()

    app = FastAPI(
        lifespan=kept_up,
        docs_url=None,  # pages.py has them: no scripts of other hosts
        redoc_url=None,
        title="RetrieveAll",
        version=__version__,
        description="Named entities in any mix of languages: one frozen model, one LoRA per language,"
        " retrieved examples.",
    )
    app.add_middleware(Gate, access=access, max_body_bytes=max_body_bytes, body_timeout_s=body_timeout_s)
    app.add_middleware(RequestLog, recorder=recorder)
    app.add_middleware(Traced)  # the last one stands outermost
    _add_error_handlers(app)
    _add_tagging(app, service, streams)
    add_teaching(app, teaching, _ERRORS)
    _add_listings(app, service)
    _add_probes(app, Readiness(service.current))
    add_pages(app)
    return app


def _add_tagging(app: FastAPI, service: TagService, streams: Streams) -> None:
    @app.post(
        "/v1/tag",
        responses={200: {"model": TagAnswer, **example(TAG_ANSWER)}, **_ERRORS},
        openapi_extra=TAG_BODY,
        tags=["tagging"],
    )
    async def tag(request: TagRequest, http: Request, caller: CallerOf) -> JSONResponse:
        """Tags texts; each sentence is routed to the adapter of its language."""
        http.state.texts = len(request.texts)
        return JSONResponse(await service.tag(request, caller))

    @app.post(
        "/v1/tag/stream",
        response_class=Response,
        responses={200: STREAM_ANSWER, **_ERRORS},
        openapi_extra=STREAM_BODY,
        tags=["tagging"],
    )
    async def tag_stream(options: Annotated[TagOptions, Query()], caller: CallerOf) -> Response:
        """Tags one text a line while they are being sent; one answer a line, in the same order.

        A line that cannot be tagged is answered with `{"line", "error"}`, and the others go on.
        """
        return streams.respond(caller, options)


def _add_listings(app: FastAPI, service: TagService) -> None:
    @app.get(
        "/v1/languages",
        responses={200: {"model": LanguagesAnswer, **example(LANGUAGES_ANSWER)}, **_LISTING_ERRORS},
        tags=["release"],
    )
    async def languages(caller: CallerOf) -> JSONResponse:
        """Lists the languages of the release and what is tagged in each."""
        return JSONResponse(service.languages(caller))

    @app.get("/v1/adapters", responses={200: {"model": AdaptersAnswer}, **_LISTING_ERRORS}, tags=["release"])
    async def adapters(caller: CallerOf) -> JSONResponse:
        """Lists the adapters of the release with what they were made from."""
        return JSONResponse(service.adapter_cards(caller))

    @app.get("/v1/replicas", responses={200: {"model": ReplicasAnswer}, **_LISTING_ERRORS}, tags=["release"])
    async def replicas(caller: CallerOf) -> JSONResponse:
        """Lists the replicas heard of within a minute and what each holds; for admins."""
        caller.check_admin()
        return JSONResponse(service.replicas())

    @app.post(
        "/v1/adapters/{language}/reload",
        responses={
            200: {"model": ReloadAnswer},
            **_ERRORS,
            409: {"model": ErrorBody},
        },
        tags=["release"],
    )
    async def reload(language: str, caller: CallerOf) -> JSONResponse:
        """Takes up the current release now and reads the language's adapter whole; for admins."""
        caller.check_admin()
        return JSONResponse(await service.current.reload(language))


def _add_probes(app: FastAPI, readiness: Readiness) -> None:
    @app.get("/healthz", tags=["probes"])
    async def healthz() -> JSONResponse:
        """Says that the process is alive."""
        return JSONResponse({"status": "alive"})

    @app.get("/readyz", responses={200: {"model": ReadyAnswer}, 503: {"model": ErrorBody}}, tags=["probes"])
    async def readyz() -> JSONResponse:
        """Says whether router, retriever and generator answer, all for the same release.

        `degraded` is ready, too: the newest release or some languages do not answer. `GET /v1/replicas` tells
        admins which and why.
        """
        try:
            return JSONResponse(await readiness.body())
        except ServiceUnavailable as error:
            return replace(problem_of(error), code="not_ready").response()


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def bad_body(request: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(request, body_problem(error.errors()))

    @app.exception_handler(HTTPException)
    async def bad_request(request: Request, error: HTTPException) -> JSONResponse:
        return _answer(request, status_problem(error.status_code, str(error.detail)))

    @app.exception_handler(RetrieveAllError)
    async def refused(request: Request, error: RetrieveAllError) -> JSONResponse:
        return _answer(request, problem_of(error))


def _answer(request: Request, problem: Problem) -> JSONResponse:
    request.state.code = problem.code  # for the request's log line
    return problem.response()
