"""`/v1/examples` without Ray: what is taught changes answers, for those who may see it."""

from __future__ import annotations

from typing import Any

import pytest

from retrieveall.workspace import Workspace
from serve_apps.teach_schemas import TeachAnswer
from tests.test_serve_apps_service import Client, House, house, problem  # noqa: F401
from tests.workspaces import random_workspace

TEXT = "Zorblax Quim tanzt in Wien."
ENTITIES = [
    {"start_char": 0, "end_char": 12, "label": "ORG"},
    {"start_char": 22, "end_char": 26, "label": "LOC"},
]
LATER = "Gestern sang Zorblax Quim."


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return random_workspace(tmp_path_factory.mktemp("teaching"), ("de", "en"))


def example(**changes: Any) -> dict[str, Any]:
    return {"text": TEXT, "language": "de", "entities": ENTITIES, **changes}


def taught(client: Client, *examples: dict[str, Any], **body: Any) -> Any:
    response = client.post("/v1/examples", json={"examples": list(examples or [example()]), **body})
    assert response.status_code == 200, response.text
    TeachAnswer.model_validate_json(response.content)
    return response.json()


def shown(client: Client, text: str = LATER, **body: Any) -> list[tuple[str, str, str | None]]:
    """What entity examples a German text is answered with."""
    item = {"text": text, "language": "de"}
    response = client.post("/v1/tag", json={"texts": [item], "explain": True, **body})
    assert response.status_code == 200, response.text
    examples = response.json()["results"][0]["sentences"][0]["examples"]["entity"]
    return [(e["mention"], e["label"], e.get("taught")) for e in examples]


def test_what_is_taught_is_retrieved_at_once(house: House) -> None:  # noqa: F811
    client = house.client()
    before = shown(client)
    answer = taught(client)

    first = shown(client, taught_seq=answer["taught_seq"])[0]
    assert answer["examples"] == [{"id": first[2], "status": "added"}]
    assert first[:2] == ("Zorblax Quim", "ORG")
    assert "Zorblax Quim" not in [mention for mention, _, _ in before]
