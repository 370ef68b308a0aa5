"""The caller of a request, as routes take it. No Ray in here."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from serve_apps.access import Caller

_BEARER = HTTPBearer(auto_error=False, description="A key of `retrieveall keys create`; the gate checks it.")


def caller_of(request: Request, _: Annotated[Any, Security(_BEARER)]) -> Caller:
    """Returns the caller that the gate found; the scheme is there for `/docs` alone."""
    caller: Caller = request.state.caller
    return caller


CallerOf = Annotated[Caller, Depends(caller_of)]
