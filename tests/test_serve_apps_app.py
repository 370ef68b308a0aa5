"""The whole graph on Ray Serve with a random base, asked over loopback HTTP."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray

from retrieveall.answer import AnswerOptions, answer_body
from retrieveall.errors import ConfigError, NotFoundError
from retrieveall.opening import OpenOptions, open_tagger
from retrieveall.tagger import TextInput
from retrieveall.workspace import Workspace
from serve_apps.app import build
from serve_apps.args import ServeArgs
from serve_apps.metrics import EXAMPLES_DROPPED
from serve_apps.running import check_free, start_service, stop_service
from serve_apps.schemas import ErrorBody, TagAnswer
from tests.test_serve_apps_metrics import dashboard_metrics
from tests.workspaces import publish_random, random_workspace

TEXTS = [
    "Helga Brandt fliegt morgen nach Wien. Анна Белова переехала из Казани в Ригу.",
    "Daniel Osei works for the Harbour Museum in Leeds.",
    "Peter Mwangi anafanya kazi na Benki ya Bahari. 👩‍👩‍👧 Paris, Paris!",
    "",
]

# Ray leaves sockets and files to the garbage collector, which pytest would take for failures of ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_missing_workspace_or_release_is_told_before_ray_starts(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no workspace"):
        start_service(ServeArgs(workspace=str(tmp_path)), host="127.0.0.1", port=free_port())
    assert not ray.is_initialized()


def test_a_config_files_plain_values_are_checked(tmp_path: Path) -> None:
    plain: Any = {"workspace": str(tmp_path)}
    build(plain)
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        build({**plain, "workspac": 1})  # type: ignore[arg-type]


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="Choose another"):
            check_free("127.0.0.1", taken.getsockname()[1])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return random_workspace(tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> Iterator[httpx.Client]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        url = start_service(
            ServeArgs(workspace=workspace.uri, keys="off"), host="127.0.0.1", port=free_port()
        )
        with httpx.Client(base_url=url, timeout=120) as client:
            yield client
        stop_service()
    finally:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestOnRay:
    def test_answers_equal_the_in_process_taggers(self, client: httpx.Client, workspace: Workspace) -> None:
        answer = client.post("/v1/tag", json={"texts": TEXTS, "explain": True}).raise_for_status().json()
        with open_tagger(workspace, OpenOptions(release=1)) as opened:
            tagged = opened.tagger.tag(TEXTS, explain=True)
            body = answer_body(opened.tagger.release, TEXTS, tagged, AnswerOptions(explain=True))

        TagAnswer.model_validate(answer)
        assert any(result["entities"] for result in answer["results"])
        assert close(answer, json.loads(json.dumps(body)))

    def test_errors_have_one_shape(self, client: httpx.Client) -> None:
        bodies: list[tuple[bytes, str]] = [
            (b"{", "bad_body"),
            (b'{"texts": []}', "bad_body"),
            (b'{"texts": ["\\ud800"]}', "lone_surrogate"),
            (b'{"texts": [{"text": "a", "language": "xx"}]}', "unknown_language"),
        ]
        for body, code in bodies:
            response = client.post("/v1/tag", content=body, headers={"Content-Type": "application/json"})
            assert response.status_code == 422
            assert ErrorBody.model_validate_json(response.content).code == code

    def test_64_requests_at_once_are_all_answered_alike(self, client: httpx.Client) -> None:
        alone = [client.post("/v1/tag", json={"texts": [text]}).json() for text in TEXTS]

        def ask(number: int) -> Any:
            return client.post("/v1/tag", json={"texts": [TEXTS[number % len(TEXTS)]]})

        with ThreadPoolExecutor(64) as pool:
            responses = list(pool.map(ask, range(64)))
        assert [response.status_code for response in responses] == [200] * 64
        for number, response in enumerate(responses):
            assert close(response.json(), alone[number % len(TEXTS)])

    def test_listings_probes_and_documentation_answer(self, client: httpx.Client) -> None:
        assert client.get("/readyz").json()["status"] == "ready"
        assert client.get("/healthz").status_code == 200
        assert [row["language"] for row in client.get("/v1/languages").json()["languages"]] == [
            "de",
            "en",
            "ru",
        ]
        assert len(client.get("/v1/adapters").json()["adapters"]) == 3
        assert client.get("/docs").status_code == 200

    def test_a_stream_is_answered_line_by_line_in_order(self, client: httpx.Client) -> None:
        body = "".join(json.dumps({"text": TEXTS[i % 3], "id": str(i)}) + "\n" for i in range(100))
        whole = client.post("/v1/tag", json={"texts": TEXTS[:3]}).json()["results"]
        response = client.post("/v1/tag/stream", content=body.encode())
        lines = [json.loads(line) for line in response.text.splitlines()]

        assert [line["id"] for line in lines] == [str(i) for i in range(100)]
        assert all(close(line["entities"], whole[i % 3]["entities"]) for i, line in enumerate(lines))

    def test_what_is_not_from_this_machine_or_too_large_is_refused(self, client: httpx.Client) -> None:
        far = client.get("/v1/languages", headers={"Host": "evil.example"})
        large = client.post("/v1/tag", content=b" " * (9 << 20))

        assert (far.status_code, far.json()["code"]) == (403, "forbidden")
        assert (large.status_code, large.json()["code"]) == (413, "too_large")

    def test_what_is_taught_is_answered_with_until_it_is_deleted(
        self, client: httpx.Client, workspace: Workspace
    ) -> None:
        text = "Zorblax Quim tanzt in Wien."
        entities = [{"start_char": 0, "end_char": 12, "label": "ORG"}]
        example = {"text": text, "language": "de", "entities": entities}
        taught = client.post("/v1/examples", json={"examples": [example]}).raise_for_status().json()
        later = [{"text": "Gestern sang Zorblax Quim.", "language": "de"}]
        body = {"texts": later, "explain": True, "taught_seq": taught["taught_seq"]}
        answer = client.post("/v1/tag", json=body).raise_for_status().json()
        with open_tagger(workspace, OpenOptions(release=answer["release"], namespace="local")) as opened:
            tagged = opened.tagger.tag([TextInput(**later[0])], explain=True)
        expected = answer_body(answer["release"], [later[0]["text"]], tagged, AnswerOptions(explain=True))
        example_id = taught["examples"][0]["id"]
        gone = client.delete(f"/v1/examples/{example_id}").raise_for_status().json()
        after = client.post("/v1/tag", json={**body, **gone}).raise_for_status()
        early = client.post("/v1/tag", json={**body, "taught_seq": "999.0"})

        assert close(answer, json.loads(json.dumps(expected)))
        assert example_id in [
            e.get("taught") for e in answer["results"][0]["sentences"][0]["examples"]["entity"]
        ]
        assert example_id not in after.text
        assert (early.status_code, early.headers["Retry-After"]) == (503, "1")

    def test_every_metric_of_the_dashboard_is_exported(self, client: httpx.Client) -> None:
        client.post("/v1/tag", json={"texts": TEXTS})
        client.post("/v1/tag", json={"texts": []})
        client.post("/v1/tag", json={"texts": ["Helga Brandt fliegt nach Wien, " * 100]})
        nodes: Any = ray.nodes()  # type: ignore[no-untyped-call]
        port = nodes[0]["MetricsExportPort"]
        until_s = time.monotonic() + 120
        counted = dashboard_metrics() - set(EXAMPLES_DROPPED.exported)  # none was: all fit
        while missing := counted - exported_metrics(port):
            assert time.monotonic() < until_s, missing
            time.sleep(1)

    def test_releases_change_under_load_without_a_failed_or_a_mixed_answer(
        self, client: httpx.Client, workspace: Workspace, tmp_path: Path
    ) -> None:
        indexes = {c: e.index for c, e in workspace.releases.current().languages.items() if e.index}
        stopped = threading.Event()

        def ask_on(_: int) -> list[httpx.Response]:
            responses = []
            while not stopped.is_set():
                responses.append(client.post("/v1/tag", json={"texts": TEXTS}))
            return responses

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask_on, number) for number in range(4)]
            try:
                new = publish_random(workspace, tmp_path, indexes, seed=50).number
                wait_for_release(client, new)
                back = workspace.releases.rollback(created_at="2025-01-02T00:00:00+00:00").number
                wait_for_release(client, back)
                last = client.post("/v1/tag", json={"texts": TEXTS})
            finally:
                stopped.set()
            responses = [last, *(response for future in asked for response in future.result())]

        assert {response.status_code for response in responses} == {200}
        assert {response.json()["release"] for response in responses} == {1, new, back}
        digests = {
            number: {entry.adapter for entry in workspace.releases.load(number).languages.values()}
            for number in (1, new, back)
        }
        for answer in (response.json() for response in responses):
            used = {s["adapter"] for result in answer["results"] for s in result["sentences"]}
            assert {digest for one in used for digest in one.split("+")} <= digests[answer["release"]]
        held = client.get("/v1/replicas").json()
        assert (held["release"], held["problem"]) == (back, None)
        assert {row["stage"] for row in held["replicas"]} == {"router", "retriever", "generator"}
        assert all(back in row["releases"] for row in held["replicas"])


def exported_metrics(port: int) -> set[str]:
    """Returns the names of the metrics that the node exports now."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    return {re.split(r"[ {]", line, maxsplit=1)[0] for line in text.splitlines() if not line.startswith("#")}


def wait_for_release(client: httpx.Client, number: int) -> None:
    """Waits until answers carry a release."""
    until_s = time.monotonic() + 120
    while client.get("/v1/languages").json()["release"] != number:
        assert time.monotonic() < until_s, f"release {number} was not taken up"
        time.sleep(0.1)


def close(left: Any, right: Any) -> bool:
    """Compares two bodies; scores may differ by 1e-3."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(close(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(close, left, right))
    return bool(left == pytest.approx(right, abs=1e-3)) if isinstance(left, float) else bool(left == right)
