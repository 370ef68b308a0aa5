"""`/v1/examples` over HTTP. No Ray in here."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse

from serve_apps.callers import CallerOf
from serve_apps.openapi_examples import EXAMPLES_ANSWER, TEACH_ANSWER, TEACH_BODY, example
from serve_apps.schemas import ErrorBody
from serve_apps.teach_schemas import ExamplesAnswer, ForgetAnswer, ListQuery, TeachAnswer, TeachRequest
from serve_apps.teaching import TeachService

_PATH = "/v1/examples"


def add_teaching(app: FastAPI, teaching: TeachService, errors: dict[int | str, dict[str, Any]]) -> None:
    """Adds the routes to the application.

    Args:
        app: The application.
        teaching: Answers.
        errors: Documented answers of every route.
    """
    conflict = {"model": ErrorBody, "description": "The namespace is full, or examples are off"}
    unknown = {"model": ErrorBody, "description": "There is no such example"}

    @app.post(
        _PATH,
        responses={200: {"model": TeachAnswer, **example(TEACH_ANSWER)}, **errors, 409: conflict},
        openapi_extra=TEACH_BODY,
        tags=["teaching"],
    )
    async def teach(request: TeachRequest, http: Request, caller: CallerOf) -> JSONResponse:
        """Teaches labelled sentences: from the next request on they are retrieved like training sentences.

        They are on the disk before the answer is sent. All replicas know them within seconds; a request that
        carries the answer's `taught_seq` is answered with them or gets 503.
        """
        http.state.texts = len(request.examples)
        return JSONResponse(await teaching.teach(request, caller))

    @app.get(
        _PATH,
        responses={200: {"model": ExamplesAnswer, **example(EXAMPLES_ANSWER)}, **errors},
        tags=["teaching"],
    )
    async def examples(query: Annotated[ListQuery, Query()], caller: CallerOf) -> JSONResponse:
        """Lists the caller's taught examples, or the shared ones."""
        return JSONResponse(await teaching.listed(query, caller))

    @app.delete(
        _PATH + "/{example_id}",
        responses={200: {"model": ForgetAnswer}, **errors, 404: unknown},
        tags=["teaching"],
    )
    async def forget(example_id: str, caller: CallerOf, shared: bool = False) -> JSONResponse:
        """Deletes a taught example; shared ones are for admins."""
        return JSONResponse(await teaching.forget(example_id, caller, shared=shared))
