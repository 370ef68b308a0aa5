"""The ingress without Ray: the real stages around an echo engine, asked over ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.answer import AnswerOptions, answer_body
from retrieveall.engine.echo import EchoEngine
from retrieveall.errors import EngineClosed, Overloaded, ServiceUnavailable
from retrieveall.generation import Generated, GenerationTask, Generator
from retrieveall.opening import OpenRelease, open_release_router, open_retriever
from retrieveall.prompting.codec import PromptCodec
from retrieveall.tagger import Tagger, TextInput
from retrieveall.workspace import Workspace
from serve_apps.args import ServeArgs
from serve_apps.current import CurrentRelease
from serve_apps.generator import GeneratorStage
from serve_apps.held import HeldReleases, Holding
from serve_apps.ingress import http_app
from serve_apps.opened import ReleaseSource
from serve_apps.retriever import RetrieverStage
from serve_apps.router import RouterStage
from serve_apps.schemas import AdaptersAnswer, ErrorBody, LanguagesAnswer, ReplicasAnswer, TagAnswer
from serve_apps.service import Stages, TagService
from serve_apps.threads import Threads
from tests.models import tiny_tokenizer
from tests.workspaces import random_workspace

MIXED = [
    "Helga Brandt fliegt nach Wien. Анна Белова живёт в Риге.",
    "Daniel Osei works in Leeds.",
    "",
    "  \n",
]


@dataclass(frozen=True)
class Client:
    """Asks an application without a socket, each request in an event loop of its own."""

    app: FastAPI

    def get(self, path: str) -> httpx.Response:
        return self.ask("GET", path)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.ask("POST", path, **body)

    def ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **body)

        return asyncio.run(answer())


@dataclass
class House:
    """A service and the in-process tagger of the same release, both around one engine."""

    opened: OpenRelease
    source: ReleaseSource
    stages: Stages
    tagger: Tagger
    generator: GeneratorStage

    def client(self, *, timeout_s: float = 30.0, max_in_flight: int = 8, **stages: Any) -> Client:
        chosen = {
            name: stages.get(name, getattr(self.stages, name))
            for name in ("router", "retriever", "generator")
        }
        graph, threads = Stages(**chosen), Threads("test", 2)
        current = CurrentRelease(self.source, graph.all, threads)
        asyncio.run(current.take_up())
        service = TagService(current, graph, threads, timeout_s=timeout_s, max_in_flight=max_in_flight)
        return Client(http_app(service, follow_every_s=60))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return random_workspace(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def house(workspace: Workspace) -> Iterator[House]:
    args = ServeArgs(workspace=workspace.uri, release=1)
    source = ReleaseSource.of(args)
    opened = source.read(1)
    retriever = open_retriever(workspace, opened)
    engine = EchoEngine(PromptCodec(tiny_tokenizer()))
    held = HeldReleases[OpenRelease](lambda number, _: source.read(number))
    stage = GeneratorStage(held, engine, engine.codec, Threads("test", 4), replica="g1")
    yield House(
        opened=opened,
        source=source,
        stages=Stages(
            router=RouterStage.open(args, replica="r1"),
            retriever=RetrieverStage.open(args, replica="t1"),
            generator=stage,
        ),
        tagger=Tagger(
            release=1,
            adapters=opened.adapters,
            router=open_release_router(workspace, opened, retriever, "vote"),
            retriever=retriever,
            generator=Generator(engine, engine.codec),
        ),
        generator=stage,
    )
    stage.close()


@pytest.fixture(scope="module")
def client(house: House) -> Client:
    return house.client()


def problem(response: Any, status: int, code: str) -> ErrorBody:
    assert response.status_code == status, response.text
    body = ErrorBody.model_validate_json(response.content)
    assert body.code == code
    assert body.message and body.what_to_do
    return body


def test_the_body_is_the_in_process_taggers(house: House, client: Client) -> None:
    answer = client.post("/v1/tag", json={"texts": MIXED, "explain": True}).json()
    tagged = house.tagger.tag(MIXED, explain=True)
    expected = answer_body(house.tagger.release, MIXED, tagged, AnswerOptions(explain=True))

    assert answer == json.loads(json.dumps(expected))
    assert [len(result["sentences"]) for result in answer["results"]] == [2, 1, 0, 0]
    assert {s["language"] for s in answer["results"][0]["sentences"]} == {"de", "ru"}
    assert answer["results"][1]["sentences"][0]["examples"]["context"]
    TagAnswer.model_validate(answer)


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=60), min_size=1, max_size=3))
def test_any_unicode_is_tagged_with_offsets_of_what_was_sent(client: Client, texts: list[str]) -> None:
    response = client.post("/v1/tag", json={"texts": texts})

    assert response.status_code == 200, response.text
    for text, result in zip(texts, response.json()["results"], strict=True):
        for entity in result["entities"]:
            assert text[entity["start_char"] : entity["end_char"]] == entity["text"]
        covered = {i for s in result["sentences"] for i in range(s["start_char"], s["end_char"])}
        assert all(i in covered or character.isspace() for i, character in enumerate(text))


def test_ids_pins_labels_and_offsets_are_followed(client: Client) -> None:
    item = {"text": "👩 Daniel Osei", "id": "seven", "language": "ru"}
    plain = client.post("/v1/tag", json={"texts": [item]}).json()["results"][0]
    utf16 = client.post("/v1/tag", json={"texts": [item], "offsets": "utf16"}).json()["results"][0]
    other = client.post("/v1/tag", json={"texts": [item], "labels": ["ORG"]}).json()["results"][0]

    assert plain["id"] == "seven"
    assert plain["sentences"][0]["language"] == "ru"
    assert utf16["entities"][0]["start_char"] == plain["entities"][0]["start_char"] + 1
    assert other["entities"] == []


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        (b"{", "bad_body", "JSON"),
        (b"\xff\xfe{}", "bad_body", "body"),
        (b"[]", "bad_body", "body"),
        (b"{}", "bad_body", "texts"),
        (b'{"texts": []}', "bad_body", "texts"),
        (b'{"texts": [7]}', "bad_body", "texts.0"),
        (b'{"texts": ["a"], "min_score": NaN}', "bad_body", "min_score"),
        (b'{"texts": ["a"], "colour": "red"}', "bad_body", "colour"),
        (b'{"texts": ["a", "\\ud800"]}', "lone_surrogate", "lone surrogate"),
        (b'{"texts": [{"text": "a", "id": "\\udfff"}]}', "lone_surrogate", "texts.0"),
        (b'{"texts": [{"text": "a", "language": "xx"}]}', "unknown_language", "de, en, ru"),
        (b'{"texts": [{"text": "a", "language": "../etc"}]}', "unknown_language", "de, en, ru"),
        (json.dumps({"texts": ["a"] * 513}).encode(), "bad_body", "512"),
    ],
)
def test_bad_bodies_are_refused_in_one_shape(client: Client, body: bytes, code: str, named: str) -> None:
    headers = {"Content-Type": "application/json"}
    assert named in problem(client.post("/v1/tag", content=body, headers=headers), 422, code).message


def test_a_field_name_that_is_no_unicode_is_refused_and_not_repeated(client: Client) -> None:
    body = b'{"texts": ["a"], "\\ud800": 1}'
    response = client.post("/v1/tag", content=body, headers={"Content-Type": "application/json"})

    assert response.status_code == 422
    assert ErrorBody.model_validate_json(response.content).code in ("bad_body", "lone_surrogate")


def test_unknown_paths_and_methods_have_the_same_shape(client: Client) -> None:
    problem(client.get("/v2/tag"), 404, "not_found")
    problem(client.get("/v1/tag"), 405, "method_not_allowed")


class Failing:
    """A generator that fails or takes its time."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def hold(self, release: int) -> Holding:
        return Holding(stage="generator", replica="failing", releases=(release,))

    async def generate(
        self, release: int, tasks: Sequence[GenerationTask], timeout_s: float
    ) -> list[Generated]:
        if self.error:
            raise self.error
        await asyncio.sleep(60)
        return []


def test_errors_of_a_stage_reach_the_client_with_a_hint(house: House) -> None:
    def ask(error: Exception | None, **limits: Any) -> Any:
        client = house.client(generator=Failing(error), **limits)
        return client.post("/v1/tag", json={"texts": ["Anna"]})

    full = ask(Overloaded("4096 rows are waiting. Try again after 7 seconds."))
    problem(full, 429, "overloaded")
    assert full.headers["Retry-After"] == "7"
    closed = ask(EngineClosed("The engine was closed."))
    problem(closed, 503, "unavailable")
    assert closed.headers["Retry-After"] == "1"
    problem(ask(None, timeout_s=0.05), 504, "deadline_exceeded")
    assert "secret" not in problem(ask(RuntimeError("secret")), 500, "internal_error").message


def test_a_deadline_stops_rows_that_wait(house: House) -> None:
    async def late() -> None:
        task = GenerationTask(text="Anna", labels=("PER",), adapters=())
        await house.generator.generate(1, [task], -1.0)

    with pytest.raises(TimeoutError, match="deadline"):
        asyncio.run(late())


def test_more_requests_than_fit_are_refused_and_room_is_given_back(house: House) -> None:
    client = house.client(max_in_flight=0)
    response = client.post("/v1/tag", json={"texts": ["Anna"]})

    problem(response, 429, "overloaded")
    assert response.headers["Retry-After"] == "1"
    one = house.client(max_in_flight=1)
    statuses = [one.post("/v1/tag", json={"texts": [t]}).status_code for t in ("Anna", "Bo", "\u0301")]
    assert statuses == [200, 200, 200]


def test_listings_and_probes(house: House, client: Client) -> None:
    languages = LanguagesAnswer.model_validate_json(client.get("/v1/languages").content)
    adapters = AdaptersAnswer.model_validate_json(client.get("/v1/adapters").content)

    assert [row.language for row in languages.languages] == ["de", "en", "ru"]
    assert all(row.examples and row.labels == ["PER", "LOC", "ORG"] for row in languages.languages)
    assert {row.digest for row in adapters.adapters} == {a.digest for a in house.opened.adapters.values()}
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready", "release": 1}


class Away(Failing):
    """A generator that goes away once the service has started."""

    asked = 0

    async def hold(self, release: int) -> Holding:
        self.asked += 1
        if self.asked > 1:
            raise ServiceUnavailable("gone")
        return await super().hold(release)


def test_a_stage_that_went_away_makes_the_service_not_ready(house: House) -> None:
    response = house.client(generator=Away()).get("/readyz")

    problem(response, 503, "not_ready")
    assert response.headers["Retry-After"] == "2"


def test_what_each_replica_holds_is_told(client: Client) -> None:
    answer = ReplicasAnswer.model_validate_json(client.get("/v1/replicas").content)

    assert (answer.release, answer.problem) == (1, None)
    assert {(row.stage, row.replica, *row.releases) for row in answer.replicas} == {
        ("router", "r1", 1),
        ("retriever", "t1", 1),
        ("generator", "g1", 1),
    }


def test_a_service_of_one_release_follows_no_other(client: Client) -> None:
    problem(client.post("/v1/adapters/de/reload"), 409, "conflict")


def test_openapi_documents_the_error_shape(client: Client) -> None:
    schema = client.get("/openapi.json").json()
    answers = schema["paths"]["/v1/tag"]["post"]["responses"]

    assert client.get("/docs").status_code == 200
    for status in ("422", "429", "503", "504"):
        assert answers[status]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody")


def test_a_pinned_text_equals_the_taggers(house: House, client: Client) -> None:
    text = TextInput(text="Helga Brandt fliegt nach Wien.", language="de")
    answer = client.post("/v1/tag", json={"texts": [{"text": text.text, "language": "de"}]}).json()
    expected = answer_body(1, [text.text], house.tagger.tag([text]), AnswerOptions())

    assert answer == json.loads(json.dumps(expected))


def test_workspaces_are_found_from_any_folder(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_apps.opened import located

    folder = Path(workspace.uri)
    monkeypatch.chdir(folder.parent)
    args = located(ServeArgs(workspace=folder.name))

    assert (args.release, args.workspace) == (None, str(folder))
