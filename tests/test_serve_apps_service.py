"""The ingress without Ray: the real stages around an echo engine, asked over ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall import __version__
from retrieveall.answer import AnswerOptions, answer_body
from retrieveall.engine.echo import EchoEngine
from retrieveall.errors import (
    BrokenArtefactError,
    EngineClosed,
    NotFoundError,
    Overloaded,
    RowTooLargeError,
    ServiceUnavailable,
)
from retrieveall.generation import Generated, GenerationTask, Generator
from retrieveall.opening import OpenRelease, open_release_router, open_retriever
from retrieveall.prompting.codec import PromptCodec
from retrieveall.routing.router import Routed
from retrieveall.storage import Store
from retrieveall.tagger import Tagger, TextInput
from retrieveall.types import Route
from retrieveall.workspace import Workspace
from serve_apps import metrics
from serve_apps.access import Access, Caller
from serve_apps.args import ServeArgs
from serve_apps.current import CurrentRelease
from serve_apps.generator import GeneratorStage
from serve_apps.held import HeldReleases, Holding
from serve_apps.ingress import http_app
from serve_apps.keys import KeyFile
from serve_apps.measuring import EngineMeter
from serve_apps.metrics import Metric, NoRecorder, Recorder
from serve_apps.opened import ReleaseSource
from serve_apps.rates import TextRates
from serve_apps.readiness import Readiness
from serve_apps.retriever import RetrieverStage
from serve_apps.router import RouterStage
from serve_apps.schemas import (
    AdaptersAnswer,
    ErrorBody,
    LanguagesAnswer,
    ReadyAnswer,
    ReplicasAnswer,
    TagAnswer,
)
from serve_apps.service import Limits, Stages, TagService
from serve_apps.stream import StreamLimits, Streams
from serve_apps.teaching import TeachService
from serve_apps.threads import Threads
from serve_apps.upkeep import Upkeep
from tests.models import tiny_tokenizer
from tests.workspaces import random_workspace

MIXED = [
    "Helga Brandt fliegt nach Wien. Анна Белова живёт в Риге.",
    "Daniel Osei works in Leeds.",
    "",
    "  \n",
]


ODD = ["Anna", " ", "\n", "\r\n", "\x00", "\ufeff", "\u200b", "\u202e", "e\u0301", "Ǆ", "ﬁ", "İ", "ß", "!",
       "👩\u200d👩", "🇩🇪", "𝔄", "王", "。", "สวัสดี", "שלום", "\u2028", "."]  # fmt: skip
"""What breaks offsets: joiners, marks, letters that change their length, planes beyond the first."""


@dataclass(frozen=True)
class Client:
    """Asks an application without a socket, each request in an event loop of its own."""

    app: FastAPI
    key: str | None = None
    address: str = "127.0.0.1"

    def get(self, path: str) -> httpx.Response:
        return self.ask("GET", path)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.ask("POST", path, **body)

    def ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(
                app=self.app, raise_app_exceptions=False, client=(self.address, 5)
            )
            if self.key is not None:
                body["headers"] = {"Authorization": f"Bearer {self.key}", **body.get("headers", {})}
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
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

    def client(
        self,
        *,
        limits: Limits | None = None,
        stream_limits: StreamLimits | None = None,
        max_body_bytes: int = 1 << 20,
        body_timeout_s: float = 60.0,
        keys: KeyFile | None = None,
        key: str | None = None,
        recorder: Recorder | None = None,
        **stages: Any,
    ) -> Client:
        chosen = {
            name: stages.get(name, getattr(self.stages, name))
            for name in ("router", "retriever", "generator")
        }
        graph, threads = Stages(**chosen), Threads("test", 2)
        current = CurrentRelease(self.source, graph.all, threads)
        asyncio.run(current.take_up())
        rates, access, kept = TextRates(), Access(keys), recorder or NoRecorder()
        service = TagService(current, graph, threads, limits=limits or Limits(), rates=rates, recorder=kept)
        upkeep = Upkeep(
            current, access, rates, threads, kept, in_flight=lambda: service.in_flight, every_s=60
        )
        streams = Streams(service, stream_limits or StreamLimits())
        teaching = TeachService(self.source, current, threads, rates, now=lambda: "2026-01-01T00:00:00+00:00")
        app = http_app(
            service,
            streams,
            teaching,
            access,
            upkeep,
            kept,
            max_body_bytes=max_body_bytes,
            body_timeout_s=body_timeout_s,
        )
        return Client(app, key)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return random_workspace(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def house(workspace: Workspace) -> Iterator[House]:
    yield from opened_house(workspace)


def opened_house(workspace: Workspace) -> Iterator[House]:
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
            router=RouterStage.open(args, NoRecorder(), replica="r1"),
            retriever=RetrieverStage.open(args, NoRecorder(), replica="t1"),
            generator=stage,
        ),
        tagger=Tagger(
            release=1,
            adapters=opened.adapters,
            router=open_release_router(workspace, opened, retriever, args.routing),
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


TEXTS = st.lists(
    st.text(st.characters(codec="utf-8"), max_size=60)
    | st.lists(st.sampled_from(ODD), max_size=12).map("".join),
    min_size=1,
    max_size=3,
)


@settings(max_examples=50)
@given(TEXTS)
def test_any_unicode_is_tagged_with_offsets_of_what_was_sent(client: Client, texts: list[str]) -> None:
    response = client.post("/v1/tag", json={"texts": texts})
    in_utf16 = client.post("/v1/tag", json={"texts": texts, "offsets": "utf16"}).json()["results"]

    assert response.status_code == 200, response.text
    for text, result, units in zip(texts, response.json()["results"], in_utf16, strict=True):
        for entity in result["entities"]:
            assert text[entity["start_char"] : entity["end_char"]] == entity["text"]
        for entity in units["entities"]:
            cut = text.encode("utf-16-le")[2 * entity["start_char"] : 2 * entity["end_char"]]
            assert cut.decode("utf-16-le") == entity["text"]
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
        client = house.client(generator=Failing(error), limits=Limits(**limits))
        return client.post("/v1/tag", json={"texts": ["Anna"]})

    full = ask(Overloaded("4096 rows are waiting. Try again after 7 seconds."))
    problem(full, 429, "overloaded")
    assert full.headers["Retry-After"] == "7"
    closed = ask(EngineClosed("The engine was closed."))
    problem(closed, 503, "unavailable")
    assert closed.headers["Retry-After"] == "1"
    late = ask(None, timeout_s=0.05)
    problem(late, 504, "deadline_exceeded")
    assert late.headers["Retry-After"] == "1"
    problem(ask(RowTooLargeError("A row of 4000 prompt tokens.")), 413, "too_large")
    broken = ask(BrokenArtefactError("The index is broken. Try again after 30 seconds."))
    problem(broken, 503, "broken_language")
    assert broken.headers["Retry-After"] == "30"
    assert "secret" not in problem(ask(RuntimeError("secret")), 500, "internal_error").message


def test_a_broken_release_is_told_to_the_log_alone(house: House, caplog: pytest.LogCaptureFixture) -> None:
    client = house.client(generator=Failing(NotFoundError("/srv/pool/de has no card.")))
    answer = problem(client.post("/v1/tag", json={"texts": ["Anna"]}), 500, "broken_release")
    line = client.post("/v1/tag/stream", content=b'{"text": "Anna"}\n').json()["error"]

    assert "/srv" not in answer.message
    assert (line["code"], line["message"]) == (answer.code, answer.message)
    assert caplog.text.count("NotFoundError: /srv/pool/de has no card.") == 2


def test_a_deadline_stops_rows_that_wait(house: House) -> None:
    async def late() -> None:
        task = GenerationTask(text="Anna", labels=("PER",), adapters=())
        await house.generator.generate(1, [task], -1.0)

    with pytest.raises(TimeoutError, match="deadline"):
        asyncio.run(late())


def test_more_requests_than_fit_are_refused_and_room_is_given_back(house: House) -> None:
    client = house.client(limits=Limits(max_in_flight=0))
    response = client.post("/v1/tag", json={"texts": ["Anna"]})

    problem(response, 429, "overloaded")
    assert response.headers["Retry-After"] == "1"
    one = house.client(limits=Limits(max_in_flight=1))
    statuses = [one.post("/v1/tag", json={"texts": [t]}).status_code for t in ("Anna", "Bo", "\u0301")]
    assert statuses == [200, 200, 200]


def test_listings_and_probes(house: House, client: Client) -> None:
    languages = LanguagesAnswer.model_validate_json(client.get("/v1/languages").content)
    adapters = AdaptersAnswer.model_validate_json(client.get("/v1/adapters").content)

    assert [row.language for row in languages.languages] == ["de", "en", "ru"]
    assert all(row.examples and row.labels == ["PER", "LOC", "ORG"] for row in languages.languages)
    assert {row.digest for row in adapters.adapters} == {a.digest for a in house.opened.adapters.values()}
    assert client.get("/healthz").json() == {"status": "alive"}
    ready = ReadyAnswer.model_validate_json(client.get("/readyz").content)
    assert ready == ReadyAnswer(status="ready", release=1)


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

    assert "gone" not in problem(response, 503, "not_ready").message
    assert response.headers["Retry-After"] == "2"


def test_many_probes_ask_the_replicas_once(house: House) -> None:
    async def probe(now_s: float, times: int) -> list[Any]:
        away = Away()
        graph = Stages(router=house.stages.router, retriever=house.stages.retriever, generator=away)
        current, times_s = CurrentRelease(house.source, graph.all, Threads("test", 2)), [0.0]
        await current.take_up()
        away.asked = 0
        readiness = Readiness(current, clock=lambda: times_s[0])
        assert await readiness.body() == {"status": "ready", "release": 1}
        times_s[0] = now_s
        answers = await asyncio.gather(*(readiness.body() for _ in range(times)), return_exceptions=True)
        return [away.asked, *answers]

    assert asyncio.run(probe(0.9, 20)) == [1, *[{"status": "ready", "release": 1}] * 20]
    asked, *answers = asyncio.run(probe(1.0, 20))
    assert (asked, {type(answer) for answer in answers}) == (2, {ServiceUnavailable})


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


def test_openapi_shows_examples_that_the_service_takes_and_gives(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    asked = paths["/v1/tag"]["post"]["requestBody"]["content"]["application/json"]
    answered = paths["/v1/tag"]["post"]["responses"]["200"]["content"]["application/json"]
    streamed = paths["/v1/tag/stream"]["post"]["requestBody"]["content"]["application/x-ndjson"]["example"]

    assert asked["schema"]["$ref"].endswith("/TagRequest")
    for example in asked["examples"].values():
        assert client.post("/v1/tag", json=example["value"]).status_code == 200
    TagAnswer.model_validate(answered["example"])
    languages = paths["/v1/languages"]["get"]["responses"]["200"]["content"]["application/json"]["example"]
    LanguagesAnswer.model_validate(languages)
    lines = client.post("/v1/tag/stream", content=streamed.encode()).text.splitlines()
    assert ["error" in json.loads(line) for line in lines] == [False, False]


def test_streamed_lines_are_answered_as_texts_are(client: Client) -> None:
    body = "".join(json.dumps({"text": text, "id": str(i)}) + "\n" for i, text in enumerate(MIXED * 20))
    response = client.post("/v1/tag/stream?labels=PER&labels=LOC&explain=true", content=body.encode())
    lines = [json.loads(line) for line in response.text.splitlines()]
    whole = client.post("/v1/tag", json={"texts": MIXED, "explain": True, "labels": ["PER", "LOC"]}).json()

    assert response.headers["Content-Type"].startswith("application/x-ndjson")
    assert [line["id"] for line in lines] == [str(i) for i in range(len(MIXED) * 20)]
    for i, line in enumerate(lines):
        expected = whole["results"][i % len(MIXED)]
        assert (line["release"], line["entities"]) == (1, expected["entities"])
        assert line["sentences"] == expected["sentences"]
    problem(client.post("/v1/tag/stream?colour=red", content=b""), 422, "bad_body")


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


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(store=Store.open(tmp_path))


def test_requests_without_a_good_key_are_refused_before_their_body_is_read(
    house: House, keys: KeyFile
) -> None:
    good, record = keys.create("me", created_at="now")
    revoked, old = keys.create("old", created_at="now")
    keys.revoke(old.id, revoked_at="later")

    for bad in (None, "", "ra_", revoked, good[:-1], good[:-1] + ("a" if good[-1] != "a" else "b")):
        client = house.client(keys=keys, key=bad)
        response = client.post("/v1/tag", content=b"no json")
        body = problem(response, 401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert bad is None or len(bad) < 9 or bad not in body.message
    assert house.client(keys=keys, key=good).get("/v1/languages").status_code == 200
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert house.client(keys=keys).get(path).status_code == 200
    assert record.id in good


def test_a_key_of_some_languages_has_their_shares() -> None:
    caller = Caller(id="k", namespace="k", languages=frozenset({"de", "en"}))
    ranking = (("de", 0.6), ("ru", 0.2), ("en", 0.15), ("es", 0.05))
    route = Route(language="de", ranking=ranking, margin=0.4, shares=ranking[:3])

    assert dict(caller.route(route).shares) == pytest.approx({"de": 0.8, "en": 0.2})
    assert caller.route(replace(route, shares=())).shares == ()


def test_a_key_of_some_languages_sees_a_release_of_those(house: House, keys: KeyFile) -> None:
    key, _ = keys.create("germans", created_at="now", languages=["de", "xx"])
    client = house.client(keys=keys, key=key)

    answer = client.post("/v1/tag", json={"texts": MIXED}).json()
    sentences = [s for result in answer["results"] for s in result["sentences"]]
    assert {s["language"] for s in sentences} == {"de"}
    assert {s["adapter"] for s in sentences} == {house.opened.adapters["de"].digest}
    assert {language for s in sentences for language, _ in s["ranking"]} == {"de"}
    assert [row["language"] for row in client.get("/v1/languages").json()["languages"]] == ["de"]
    assert [row["language"] for row in client.get("/v1/adapters").json()["adapters"]] == ["de"]
    body = {"texts": [{"text": "Анна", "language": "ru"}]}
    assert "ru" not in problem(client.post("/v1/tag", json=body), 422, "unknown_language").message.replace(
        "'ru'", ""
    )
    nobody, _ = keys.create("nobody", created_at="now", languages=["xx"])
    problem(house.client(keys=keys, key=nobody).post("/v1/tag", json={"texts": ["a"]}), 403, "forbidden")


class RoutesTo:
    """A router that knows some languages of the release: the others' indexes cannot be read."""

    def __init__(self, *languages: str) -> None:
        self.languages = languages

    async def hold(self, release: int) -> Holding:
        return Holding(stage="router", replica="some", releases=(release,))

    async def route(self, release: int, documents: Sequence[TextInput], spans: Sequence[Any]) -> Routed:
        ranking = tuple((language, 1.0) for language in self.languages)
        route = Route(language=ranking[0][0], ranking=ranking, margin=0.0, known=True)
        return Routed(routes=(route,) * sum(map(len, spans)), embeddings=None)


def test_a_key_whose_languages_cannot_be_routed_to_is_told_of_no_others(house: House, keys: KeyFile) -> None:
    key, _ = keys.create("germans", created_at="now", languages=["de"])
    client = house.client(keys=keys, key=key, router=RoutesTo("en", "ru"))
    response = client.post("/v1/tag", json={"texts": ["Anna"]})

    message = problem(response, 503, "broken_language").message
    assert "is for de" in message and "en," not in message and "ru" not in message.replace("routed", "")
    assert response.headers["Retry-After"] == "30"


def test_only_admins_see_replicas_and_reload(house: House, keys: KeyFile) -> None:
    plain, _ = keys.create("plain", created_at="now")
    admin, _ = keys.create("admin", created_at="now", admin=True)

    problem(house.client(keys=keys, key=plain).get("/v1/replicas"), 403, "forbidden")
    problem(house.client(keys=keys, key=plain).post("/v1/adapters/de/reload"), 403, "forbidden")
    assert house.client(keys=keys, key=admin).get("/v1/replicas").status_code == 200


def test_a_rate_is_told_apart_from_overload(house: House, keys: KeyFile) -> None:
    key, _ = keys.create("slow", created_at="now", texts_per_minute=2)
    client = house.client(keys=keys, key=key)

    assert client.post("/v1/tag", json={"texts": ["a", "b", "c"]}).status_code == 200
    response = client.post("/v1/tag", json={"texts": ["a"]})
    problem(response, 429, "rate_limited")
    assert 55 <= int(response.headers["Retry-After"]) <= 60


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("Full. Try again after 1 seconds."),
        ServiceUnavailable("A replica went away. Try again after 1 seconds."),
        EngineClosed("The engine was closed."),
        BrokenArtefactError("The index is broken. Try again after 30 seconds."),
    ],
)
def test_what_the_service_sends_away_is_not_charged(house: House, keys: KeyFile, error: Exception) -> None:
    key, _ = keys.create("slow", created_at="now", texts_per_minute=2)
    failing = Failing(error)
    client = house.client(keys=keys, key=key, generator=failing)
    statuses = [client.post("/v1/tag", json={"texts": ["a", "b"]}).status_code for _ in range(3)]
    failing.error = RuntimeError()

    assert len(set(statuses)) == 1 and statuses[0] in (429, 503)
    problem(client.post("/v1/tag", json={"texts": ["a", "b"]}), 500, "internal_error")
    problem(client.post("/v1/tag", json={"texts": ["a", "b"]}), 429, "rate_limited")


def test_without_keys_only_this_machine_is_answered(house: House) -> None:
    client = house.client()
    far = Client(client.app, address="192.0.2.7")

    problem(far.post("/v1/tag", json={"texts": ["a"]}), 403, "forbidden")
    for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "192.0.2.7"}, {"Forwarded": "for=x"}):
        problem(client.ask("GET", "/v1/languages", headers=headers), 403, "forbidden")
    for host in ("127.0.0.1:8000", "[::1]:8000", "localhost"):
        assert client.ask("GET", "/v1/languages", headers={"Host": host}).status_code == 200


def test_large_bodies_and_texts_are_refused(house: House) -> None:
    client = house.client(limits=Limits(max_text_chars=50), max_body_bytes=500)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    problem(client.post("/v1/tag", content=b"{" * 501), 413, "too_large")
    problem(client.post("/v1/tag", content=chunks()), 413, "too_large")
    assert (
        "texts.1"
        in problem(client.post("/v1/tag", json={"texts": ["a", "b" * 51]}), 413, "too_large").message
    )


def test_a_body_that_does_not_arrive_is_not_waited_for(house: House) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b'{"texts": '
        for _ in range(100):
            await asyncio.sleep(0.05)
            yield b" "

    client = house.client(body_timeout_s=0.2)
    problem(client.post("/v1/tag", content=slow()), 408, "slow_body")
    assert client.post("/v1/tag", json={"texts": ["a"]}).status_code == 200


def test_every_answer_carries_the_version_and_secure_headers(house: House, client: Client) -> None:
    broken = house.client(generator=Failing(RuntimeError()))
    for response in (
        *map(client.get, ("/v1/languages", "/healthz", "/nowhere", "/docs")),
        broken.post("/v1/tag", json={"texts": ["a"]}),
    ):
        headers = response.headers
        assert headers["X-RetrieveAll-Version"] == __version__
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


@dataclass
class Kept:
    """Remembers what was recorded."""

    values: dict[tuple[str, str], float] = field(default_factory=dict)

    def record(self, metric: Metric, value: float, **tags: str) -> None:
        assert set(tags) == set(metric.tags), metric.name
        key = metric.name, " ".join(tags[name] for name in metric.tags)
        before = self.values.get(key, 0.0) if metric.kind == "counter" else 0.0
        self.values[key] = before + value

    def value(self, metric: Metric, tags: str = "") -> float:
        return self.values[metric.name, tags]


def test_requests_stages_and_sentences_are_measured(house: House) -> None:
    kept = Kept()
    client = house.client(recorder=kept)
    answer = client.post("/v1/tag", json={"texts": MIXED, "explain": True}).json()
    client.post("/v1/tag", json={"texts": []})
    client.get("/nowhere/at/all")

    sentences = [s for result in answer["results"] for s in result["sentences"]]
    german = [s for s in sentences if s["language"] == "de"]
    assert kept.value(metrics.TEXTS) == len(MIXED)
    assert kept.value(metrics.SENTENCES, "de selection") == len(german)
    assert kept.value(metrics.RETRIEVAL_HITS, "de") == len(german)
    shown = sum(len(s["examples"]["entity"]) for s in german)
    assert kept.values.get((metrics.EXAMPLES.name, "de entity"), 0) == shown
    assert kept.value(metrics.ROUTE_MARGIN, "ru") > 0
    assert kept.value(metrics.NEW_TOKENS, "de") > 0
    assert kept.value(metrics.REQUESTS, "/v1/tag 200") == 1
    assert kept.value(metrics.REQUESTS, "/v1/tag 422") == 1
    assert kept.value(metrics.REQUESTS, "other 404") == 1
    assert kept.value(metrics.PROBLEMS, "bad_body") == 1
    stages = {tags for name, tags in kept.values if name == metrics.STAGE_SECONDS.name}
    assert stages == {"sentences", "route", "retrieve", "generate", "answer"}


def test_the_engine_is_measured_as_it_grows(house: House) -> None:
    kept = Kept()
    engine = EchoEngine(PromptCodec(tiny_tokenizer()))
    meter = EngineMeter(engine.stats, lambda: {"0f": "de"}, kept)
    meter.measure()
    task = GenerationTask(text="Anna lebt in Bern", labels=("PER",), adapters=())
    answer = Generator(engine, engine.codec).generate([task])[0]
    meter.measure()
    meter.measure()

    assert kept.value(metrics.ENGINE_ROWS, "done") == 1
    assert kept.value(metrics.ENGINE_TOKENS) == answer.new_tokens
    assert kept.value(metrics.ENGINE_PASSES) == answer.forward_passes
    assert kept.value(metrics.ADAPTERS, "de") == 0
    engine.close()


def test_requests_are_logged_without_their_texts(
    house: House, keys: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    key, record = keys.create("me", created_at="now")
    caplog.set_level("INFO")
    body = {"texts": ["a secret text"]}
    house.client(keys=keys, key=key).post("/v1/tag", json=body)
    failing = house.client(keys=keys, key=key, generator=Failing(RuntimeError("a secret text")))
    failing.post("/v1/tag", json=body)

    noted = [entry.__dict__["http"] for entry in caplog.records if "http" in entry.__dict__]
    assert [(n["path"], n["status"], n["key"], n["texts"], n["code"]) for n in noted] == [
        ("/v1/tag", 200, record.id, 1, None),
        ("/v1/tag", 500, record.id, 1, "internal_error"),
    ]
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text and "secret" not in str(noted)
