"""`/v1/examples` without Ray: what is taught changes answers, for those who may see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retrieveall.errors import InputError
from retrieveall.storage import Store
from retrieveall.taught.view import TaughtView
from retrieveall.workspace import Workspace
from serve_apps import metrics
from serve_apps.keys import KeyFile
from serve_apps.teach_schemas import ExamplesAnswer, ForgetAnswer, TeachAnswer
from tests.test_serve_apps_service import Client, House, Kept, house, problem  # noqa: F401
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


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(store=Store.open(tmp_path))


def client_of(house: House, keys: KeyFile, **rights: Any) -> Client:  # noqa: F811
    """A client with a key, and so a namespace, of its own."""
    key, _ = keys.create("someone", created_at="now", **rights)
    return house.client(keys=keys, key=key)


def example(**changes: Any) -> dict[str, Any]:
    return {"text": TEXT, "language": "de", "entities": ENTITIES, **changes}


def taught(client: Client, *examples: dict[str, Any], **body: Any) -> Any:
    response = client.post("/v1/examples", json={"examples": list(examples or [example()]), **body})
    assert response.status_code == 200, response.text
    TeachAnswer.model_validate_json(response.content)
    return response.json()


def shown(client: Client, text: str = LATER) -> list[tuple[str, str, str | None]]:
    """The entity examples that a German text is answered with, all calls until now seen."""
    seq = client.get("/v1/examples").json()["taught_seq"]
    item = {"text": text, "language": "de"}
    response = client.post("/v1/tag", json={"texts": [item], "explain": True, "taught_seq": seq})
    assert response.status_code == 200, response.text
    examples = response.json()["results"][0]["sentences"][0]["examples"]["entity"]
    return [(e["mention"], e["label"], e.get("taught")) for e in examples]


def test_what_is_taught_is_retrieved_until_it_is_deleted(house: House, keys: KeyFile) -> None:  # noqa: F811
    client = client_of(house, keys)
    assert "Zorblax Quim" not in [mention for mention, _, _ in shown(client)]
    answer = taught(client)
    mention, label, example_id = shown(client)[0]

    assert (mention, label) == ("Zorblax Quim", "ORG")
    assert answer["examples"] == [{"id": example_id, "status": "added"}]
    gone = client.ask("DELETE", f"/v1/examples/{example_id}")
    seq = ForgetAnswer.model_validate_json(gone.content).taught_seq
    assert example_id not in [one for _, _, one in shown(client)]
    assert answer["taught_seq"] < seq == client.get("/v1/examples").json()["taught_seq"]
    assert client.ask("DELETE", f"/v1/examples/{example_id}").json()["taught_seq"] == seq
    problem(client.ask("DELETE", "/v1/examples/0123456789abcdef"), 404, "unknown_example")


def test_sentences_with_taught_examples_are_counted(house: House) -> None:  # noqa: F811
    kept = Kept()
    client = house.client(recorder=kept)
    shown(client)
    assert kept.value(metrics.TAUGHT_HITS, "de") == 0
    lesson = taught(client, example())["examples"][0]["id"]
    shown(client)
    assert kept.value(metrics.TAUGHT_HITS, "de") == 1
    assert client.ask("DELETE", f"/v1/examples/{lesson}").status_code == 200


def test_a_namespace_is_its_keys_alone(house: House, keys: KeyFile) -> None:  # noqa: F811
    mine, others = client_of(house, keys), client_of(house, keys)
    team = [client_of(house, keys, namespace="team") for _ in range(2)]
    example_id = taught(mine)["examples"][0]["id"]
    taught(
        team[0], example(text="Quax Benn sitzt.", entities=[{"start_char": 0, "end_char": 9, "label": "PER"}])
    )

    assert "Zorblax Quim" not in [mention for mention, _, _ in shown(others)]
    assert others.get("/v1/examples").json()["examples"] == []
    problem(others.ask("DELETE", f"/v1/examples/{example_id}"), 404, "unknown_example")
    assert ("Quax Benn", "PER") in [one[:2] for one in shown(team[1], "Da kam Quax Benn.")]
    assert "Quax Benn" not in [mention for mention, _, _ in shown(mine, "Da kam Quax Benn.")]


def test_shared_examples_need_an_admin_and_are_seen_by_all(house: House, keys: KeyFile) -> None:  # noqa: F811
    admin, plain = client_of(house, keys, admin=True), client_of(house, keys)
    body = {"examples": [example(text="Mirra Tolk lacht.", entities=[])], "shared": True}
    problem(plain.post("/v1/examples", json=body), 403, "forbidden")
    entities = [{"start_char": 0, "end_char": 10, "label": "ORG"}]
    answer = taught(admin, example(text="Mirra Tolk lacht.", entities=entities), shared=True)
    example_id = answer["examples"][0]["id"]

    assert ("Mirra Tolk", "ORG", example_id) in shown(plain, "Es war Mirra Tolk.")
    assert [row["id"] for row in plain.get("/v1/examples?shared=true").json()["examples"]] == [example_id]
    problem(plain.ask("DELETE", f"/v1/examples/{example_id}?shared=true"), 403, "forbidden")
    assert admin.ask("DELETE", f"/v1/examples/{example_id}?shared=true").status_code == 200
    assert "Mirra Tolk" not in [mention for mention, _, _ in shown(admin, "Es war Mirra Tolk.")]


def test_examples_are_listed_page_by_page_and_known_ones_are_not_written(
    house: House,  # noqa: F811
    keys: KeyFile,
) -> None:
    client = client_of(house, keys)
    lessons = [example(text=f"{name} tanzt.", entities=[]) for name in ("Anna", "Bo", "Cy")]
    first = taught(client, *lessons, example(language="en"))
    again = taught(client, *lessons)
    pages, after = [], ""
    while True:
        page = client.get(f"/v1/examples?language=de&limit=2{after}").json()
        ExamplesAnswer.model_validate(page)
        pages.append([row["id"] for row in page["examples"]])
        if page["next"] is None:
            break
        after = f"&after={page['next']}"

    assert [row["status"] for row in again["examples"]] == ["known"] * 3
    assert first["taught_seq"] == again["taught_seq"]
    assert [len(page) for page in pages] == [2, 1]
    assert sorted(one for page in pages for one in page) == sorted(row["id"] for row in first["examples"][:3])
    assert client.get("/v1/examples?language=en").json()["examples"][0]["entities"] == ENTITIES


def test_offsets_may_count_utf16(house: House, keys: KeyFile) -> None:  # noqa: F811
    client = client_of(house, keys)
    entities = [{"start_char": 3, "end_char": 7, "label": "PER"}]
    taught(client, example(text="👩 Anna tanzt.", entities=entities), offsets="utf16")
    inside = [{"start_char": 1, "end_char": 7, "label": "PER"}]
    body = {"examples": [example(text="👩 Anna singt.", entities=inside)], "offsets": "utf16"}

    assert client.get("/v1/examples").json()["examples"][0]["entities"] == [
        {"start_char": 2, "end_char": 6, "label": "PER"}
    ]
    problem(client.post("/v1/examples", json=body), 422, "bad_input")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"language": "nl"}, 422, "unknown_language"),
        ({"entities": [{"start_char": 0, "end_char": 12, "label": "FOOD"}]}, 422, "bad_input"),
        ({"entities": [{"start_char": 0, "end_char": 3, "label": "ORG"}]}, 422, "bad_input"),
        ({"entities": [{"start_char": -1, "end_char": 3, "label": "ORG"}]}, 422, "bad_body"),
        ({"text": " "}, 422, "bad_input"),
        ({"text": "x" * 3000, "entities": []}, 413, "too_large"),
        ({"colour": "red"}, 422, "bad_body"),
    ],
)
def test_what_cannot_be_taught_is_refused_and_nothing_written(
    house: House,  # noqa: F811
    keys: KeyFile,
    changes: dict[str, Any],
    status: int,
    code: str,
) -> None:
    client = client_of(house, keys)
    body = {"examples": [example(text="Anna geht.", entities=[]), example(**changes)]}

    problem(client.post("/v1/examples", json=body), status, code)
    assert client.get("/v1/examples").json()["examples"] == []


def test_a_key_teaches_only_its_languages(house: House, keys: KeyFile) -> None:  # noqa: F811
    client = client_of(house, keys, languages=["en"])
    problem(client.post("/v1/examples", json={"examples": [example()]}), 422, "unknown_language")
    slow = client_of(house, keys, texts_per_minute=1)
    taught(slow)
    problem(slow.post("/v1/examples", json={"examples": [example()]}), 429, "rate_limited")


def test_a_key_lists_and_deletes_only_its_languages(house: House, keys: KeyFile) -> None:  # noqa: F811
    both = client_of(house, keys, namespace="scoped", admin=True)
    german = client_of(house, keys, namespace="scoped", languages=["de"], admin=True)
    for shared, query in ((False, ""), (True, "?shared=true")):
        de, en = (
            row["id"] for row in taught(both, example(), example(language="en"), shared=shared)["examples"]
        )
        listed = "/v1/examples" + query

        assert {row["id"] for row in both.get(listed).json()["examples"]} == {de, en}
        assert [row["id"] for row in german.get(listed).json()["examples"]] == [de]
        english = "/v1/examples?language=en" + ("&shared=true" if shared else "")
        assert german.get(english).json()["examples"] == []
        problem(german.ask("DELETE", f"/v1/examples/{en}{query}"), 404, "unknown_example")
        assert len(both.get(listed).json()["examples"]) == 2
        assert german.ask("DELETE", f"/v1/examples/{de}{query}").status_code == 200
        assert both.ask("DELETE", f"/v1/examples/{en}{query}").status_code == 200


def test_deleting_counts_against_the_rate_as_teaching_does(house: House, keys: KeyFile) -> None:  # noqa: F811
    slow = client_of(house, keys, texts_per_minute=2)
    example_id = taught(slow)["examples"][0]["id"]

    assert slow.ask("DELETE", f"/v1/examples/{example_id}").status_code == 200
    problem(slow.ask("DELETE", f"/v1/examples/{example_id}"), 429, "rate_limited")


def test_a_language_without_index_is_refused(
    house: House,  # noqa: F811
    keys: KeyFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("retrieveall.opening.OpenRelease.indexes", {"en": "0" * 16})
    response = client_of(house, keys).post("/v1/examples", json={"examples": [example()]})
    assert "no index" in problem(response, 422, "bad_input").message


def test_an_answer_that_cannot_have_seen_a_call_is_refused_for_a_moment(
    house: House,  # noqa: F811
    keys: KeyFile,
) -> None:
    client = client_of(house, keys)
    for seq in ("7.0", "0.999"):
        body = {"texts": [{"text": LATER, "language": "de"}], "taught_seq": seq}
        response = client.post("/v1/tag", json=body)
        problem(response, 503, "unavailable")
        assert response.headers["Retry-After"] == "1"
    problem(client.post("/v1/tag", json={"texts": ["a"], "taught_seq": "soon"}), 422, "bad_body")
    with pytest.raises(InputError, match="taught_seq"):
        TaughtView.of("me", "soon")


def test_openapi_shows_examples_that_the_service_takes_and_gives(
    house: House,  # noqa: F811
    keys: KeyFile,
) -> None:
    client = client_of(house, keys)
    paths = client.get("/openapi.json").json()["paths"]["/v1/examples"]
    asked = paths["post"]["requestBody"]["content"]["application/json"]
    answers = [
        paths[m]["responses"]["200"]["content"]["application/json"]["example"] for m in ("post", "get")
    ]

    assert asked["schema"]["$ref"].endswith("/TeachRequest")
    for one in asked["examples"].values():
        assert client.post("/v1/examples", json=one["value"]).status_code == 200
    TeachAnswer.model_validate(answers[0])
    ExamplesAnswer.model_validate(answers[1])


def test_a_key_of_the_shared_namespace_is_refused(keys: KeyFile) -> None:
    for name in ("shared", "../x", ""):
        with pytest.raises(InputError, match="namespace"):
            keys.create("me", created_at="now", namespace=name)
