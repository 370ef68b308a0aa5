"""Whatever the OpenAPI description allows is answered as it says, and never with a fault of the service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi import checks

from retrieveall.workspace import Workspace
from serve_apps.keys import KeyFile
from tests.test_serve_apps_service import House, opened_house
from tests.workspaces import NOW, random_workspace


def no_fault(context: Any, response: Any, case: Any) -> None:
    """No 5xx, but for the answer to a `taught_seq` that nobody was given: come again."""
    waits = case.body.get("taught_seq") if isinstance(case.body, dict) else None
    if response.status_code == 503 and waits:
        assert response.json()["code"] == "unavailable" and "retry-after" in response.headers
    else:
        assert response.status_code < 500, response.text


# not that all the description allows is accepted: an unknown language is 422
CHECKS = [
    no_fault,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


def as_lines(_: Any, value: Any) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")


schemathesis.serializer("application/x-ndjson")(as_lines)


pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return random_workspace(tmp_path_factory.mktemp("openapi"), ("de", "en"))


@pytest.fixture(scope="module")
def house(workspace: Workspace) -> Iterator[House]:
    yield from opened_house(workspace)


@pytest.fixture(scope="module")
def described(house: House, workspace: Workspace) -> Any:
    keys = KeyFile(store=workspace.store)
    key, _ = keys.create("fuzz", created_at=NOW, admin=True)
    app = house.client(keys=keys).app
    description = schemathesis.openapi.from_asgi("/openapi.json", app)
    description.config.update(headers={"Authorization": f"Bearer {key}"})
    return description


def test_what_the_description_allows_is_answered_as_it_says(described: Any) -> None:
    operations = [found.ok() for found in described.get_all_operations()]
    for operation in operations:

        @settings(max_examples=30, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def answered(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        answered()
    assert {"POST /v1/tag", "POST /v1/tag/stream", "GET /readyz"} <= {one.label for one in operations}
