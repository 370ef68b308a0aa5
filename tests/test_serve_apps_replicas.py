"""Several replicas of a deployment on Ray: what all must agree on, and what each does alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from retrieveall.cli.process import ray_running
from retrieveall.workspace import Workspace
from serve_apps.app import deployment
from serve_apps.args import GeneratorArgs, IngressArgs, ServeArgs, StageArgs
from serve_apps.keys import KeyFile
from serve_apps.running import start_service, stop_service
from tests.test_serve_apps_app import free_port
from tests.test_serve_apps_app import pytestmark as quiet_ray
from tests.workspaces import NOW, publish_random, random_workspace

LANGUAGES = ("de", "en", "es", "ru")
PER_MINUTE = 10

pytestmark = quiet_ray


def test_a_deployment_grows_where_it_may() -> None:
    class Nothing:
        pass

    fixed = deployment("one", Nothing, StageArgs(replicas=3))
    growing = deployment("two", Nothing, StageArgs(replicas=2, max_replicas=8, cpus=0.5))

    assert (fixed.num_replicas, fixed._deployment_config.autoscaling_config) == (3, None)
    scaling = growing._deployment_config.autoscaling_config
    assert scaling is not None
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (2, 8, 16.0)
    assert growing.ray_actor_options is not None and growing.ray_actor_options["num_cpus"] == 0.5


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return random_workspace(tmp_path_factory.mktemp("replicas"), LANGUAGES)


@pytest.fixture(scope="module")
def keys(workspace: Workspace) -> dict[str, str]:
    file = KeyFile(store=workspace.store)
    admin, _ = file.create("admin", created_at=NOW, admin=True)
    limited, _ = file.create("limited", created_at=NOW, texts_per_minute=PER_MINUTE)
    return {"admin": admin, "limited": limited}


@pytest.fixture(scope="module")
def url(workspace: Workspace, keys: dict[str, str]) -> Iterator[str]:
    assert keys
    args = ServeArgs(
        workspace=workspace.uri,
        ingress=IngressArgs(replicas=2, cpus=0.1),
        generator=GeneratorArgs(replicas=2, cpus=0.1, threads=16),
    )
    with ray_running():
        yield start_service(args, host="127.0.0.1", port=free_port())
        stop_service()


@pytest.fixture
def client(url: str, keys: dict[str, str]) -> Iterator[httpx.Client]:
    # a connection for each request, so that requests reach both ingress replicas
    headers = {"Authorization": f"Bearer {keys['admin']}", "Connection": "close"}
    with httpx.Client(base_url=url, timeout=120, headers=headers) as client:
        yield client


def wait_for(is_so: Callable[[], bool], timeout_s: float = 120.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until_s, "it did not come"
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestOnRay:
    def test_releases_and_reloads_reach_all_replicas(
        self, client: httpx.Client, workspace: Workspace, tmp_path: Path
    ) -> None:
        indexes = {c: e.index for c, e in workspace.releases.current().languages.items() if e.index}
        new = publish_random(workspace, tmp_path, indexes, seed=50).number
        reloaded = client.post("/v1/adapters/de/reload").raise_for_status().json()
        assert reloaded["release"] == new

        def all_answer() -> bool:
            answers = [client.get("/v1/languages").json()["release"] for _ in range(20)]
            return set(answers) == {new}

        wait_for(all_answer)
        tagged = [client.post("/v1/tag", json={"texts": ["Daniel Osei"]}).json() for _ in range(10)]
        assert {answer["release"] for answer in tagged} == {new}

    def test_a_rate_is_divided_by_the_live_ingress_replicas(self, url: str, keys: dict[str, str]) -> None:
        headers = {"Authorization": f"Bearer {keys['limited']}", "Connection": "close"}
        with httpx.Client(base_url=url, timeout=120, headers=headers) as client:
            began_s = time.monotonic()
            answers = [client.post("/v1/tag", json={"texts": ["a"]}) for _ in range(6 * PER_MINUTE)]
            minutes = (time.monotonic() - began_s) / 60

        refused = [answer.json() for answer in answers if answer.status_code == 429]
        assert {body["code"] for body in refused} == {"rate_limited"}
        assert all("each of 2 ingress replicas" in body["message"] for body in refused)
        went = sum(answer.status_code == 200 for answer in answers)
        assert PER_MINUTE / 2 < went <= PER_MINUTE * (1 + minutes) + 2
