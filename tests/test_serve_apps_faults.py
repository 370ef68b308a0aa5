"""What is broken takes its language out, is told, and the rest is answered as before. With real stages."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from retrieveall.errors import NotFoundError, ServiceUnavailable
from retrieveall.lora.peft_files import WEIGHTS_FILE
from retrieveall.workspace import Workspace
from serve_apps import held
from serve_apps.access import Access
from serve_apps.args import ServeArgs
from serve_apps.current import CurrentRelease
from serve_apps.generator import GeneratorStage
from serve_apps.ingress import http_app
from serve_apps.metrics import NoRecorder
from serve_apps.opened import ReleaseSource, check_release
from serve_apps.rates import TextRates
from serve_apps.retriever import RetrieverStage
from serve_apps.router import RouterStage
from serve_apps.schemas import ErrorBody, ReadyAnswer, ReplicasAnswer
from serve_apps.service import Limits, Stages, TagService
from serve_apps.stream import StreamLimits, Streams
from serve_apps.teaching import TeachService
from serve_apps.threads import Threads
from serve_apps.upkeep import Upkeep
from tests.test_serve_apps_service import Client
from tests.workspaces import publish_random, random_workspace

GERMAN = {"text": "Helga Brandt fliegt morgen nach Wien.", "language": "de"}
ENGLISH = {"text": "Daniel Osei works for the Harbour Museum in Leeds.", "language": "en"}


@dataclass
class Service:
    """All of the service but Ray and sockets."""

    current: CurrentRelease
    generator: GeneratorStage
    client: Client

    @classmethod
    def open(cls, uri: str) -> Service:
        args = ServeArgs(workspace=uri, release_poll_s=3600)
        none, threads, rates, access = NoRecorder(), Threads("test", 2), TextRates(), Access(None)
        generator = GeneratorStage.open(args, none, replica="g")
        stages = Stages(
            router=RouterStage.open(args, none, replica="r"),
            retriever=RetrieverStage.open(args, none, replica="t"),
            generator=generator,
        )
        source = ReleaseSource.of(args)
        current = CurrentRelease(source, stages.all, threads)
        service = TagService(current, stages, threads, limits=Limits(), rates=rates, recorder=none)
        upkeep = Upkeep(
            current, access, rates, threads, none, in_flight=lambda: service.in_flight, every_s=60
        )
        streams = Streams(service, StreamLimits())
        teaching = TeachService(source, current, threads, rates)
        app = http_app(service, streams, teaching, access, upkeep, none, max_body_bytes=1 << 20)
        return cls(current=current, generator=generator, client=Client(app))

    def look(self) -> None:
        """Does what the ingress does every second."""

        async def chores() -> None:
            await self.current.take_up()
            await self.current.ask_replicas()
            await self.current.read_adapters()

        asyncio.run(chores())

    def tag(self, item: dict[str, str]) -> Any:
        response = self.client.post("/v1/tag", json={"texts": [item]})
        return response.json()["results"] if response.status_code == 200 else response

    def ready(self) -> ReadyAnswer:
        return ReadyAnswer.model_validate_json(self.client.get("/readyz").content)

    def replicas(self) -> ReplicasAnswer:
        return ReplicasAnswer.model_validate_json(self.client.get("/v1/replicas").content)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of one release, never changed."""
    return Path(random_workspace(tmp_path_factory.mktemp("faults"), ("de", "en")).uri)


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> Workspace:
    return Workspace.open(shutil.copytree(made, tmp_path / "workspace"))


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The English answer of a service where nothing is broken."""
    service = Service.open(str(shutil.copytree(made, tmp_path_factory.mktemp("whole") / "workspace")))
    service.look()
    answer = service.tag(ENGLISH)
    service.generator.close()
    return answer


@pytest.fixture
def mended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MEND_EVERY_S", 0.0)
    monkeypatch.setattr("serve_apps.current.MEND_EVERY_S", 0.0)


@pytest.fixture(autouse=True)
def never_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_apps.readiness.FRESH_S", 0.0)


def broken_language(response: Any, named: str) -> None:
    assert response.status_code == 503, response.text
    assert "/" not in response.json()["message"]  # no file
    body = ErrorBody.model_validate_json(response.content)
    assert body.code == "broken_language" and named in body.message
    assert response.headers["Retry-After"] == "30"


@pytest.mark.usefixtures("mended_at_once")
@pytest.mark.parametrize("rest", [0, 100, -9])
def test_a_corrupt_adapter_takes_its_language_out_until_it_is_mended(
    workspace: Workspace, whole: Any, rest: int
) -> None:
    digest = workspace.releases.current().entry("de").adapter
    weights = workspace.pool.path(digest) / WEIGHTS_FILE
    good = weights.read_bytes()
    weights.write_bytes(good[:rest])
    service = Service.open(workspace.uri)
    service.look()

    assert service.tag(ENGLISH) == whole
    broken_language(service.tag(GERMAN), digest)
    assert service.ready() == ReadyAnswer(status="degraded", release=1)
    told = service.replicas()
    assert set(told.faults) == {"de"} and digest in told.faults["de"]
    assert {row.stage: set(row.faults) for row in told.replicas}["generator"] == {"de"}

    weights.write_bytes(good)
    assert service.tag(GERMAN)[0]["sentences"][0]["adapter"] == digest
    service.look()
    assert (service.ready().status, service.replicas().faults) == ("ready", {})
    service.generator.close()


@pytest.mark.usefixtures("mended_at_once")
@pytest.mark.parametrize("file", ["context/shard-00000.faiss", "entity/shard-00000.arrow", "manifest.json"])
def test_a_corrupt_index_takes_its_language_out_until_it_is_mended(
    workspace: Workspace, whole: Any, file: str
) -> None:
    index = workspace.releases.current().entry("de").index
    shard = workspace.indexes.local_path(f"de/{index}/{file}")
    good = shard.read_bytes()
    shard.write_bytes(good[: len(good) // 2])
    service = Service.open(workspace.uri)
    service.look()

    answer = service.tag(ENGLISH)
    assert answer[0]["entities"] == whole[0]["entities"]
    assert index is not None
    broken_language(service.tag(GERMAN), "de")
    assert service.ready().status == "degraded"
    assert set(service.replicas().faults) == {"de"} and index in service.replicas().faults["de"]
    assert {row.stage for row in service.replicas().replicas if row.faults} == {"router", "retriever"}

    shard.write_bytes(good)
    service.look()
    assert service.ready().status == "ready"
    assert service.tag(GERMAN)[0]["sentences"][0]["language"] == "de"
    service.generator.close()


def test_a_new_release_with_a_corrupt_index_is_not_taken_up(
    workspace: Workspace, whole: Any, tmp_path: Path
) -> None:
    service = Service.open(workspace.uri)
    service.look()
    indexes = {c: e.index for c, e in workspace.releases.current().languages.items() if e.index}
    other = workspace.indexes.local_path(f"de/{indexes['de']}")
    copied = shutil.copytree(other, other.with_name("0123456789abcdef"))
    manifest = copied / "manifest.json"
    manifest.write_text(manifest.read_text().replace(other.name, copied.name))
    (copied / "context/shard-00000.faiss").write_bytes(b"no index")
    publish_random(workspace, tmp_path, {**indexes, "de": copied.name}, seed=5)
    service.look()

    ready, told = service.ready(), service.replicas()
    assert (ready.status, ready.release, told.faults) == ("degraded", 1, {})
    assert told.problem is not None and copied.name in told.problem
    assert service.tag(ENGLISH) == whole
    service.generator.close()


def test_a_workspace_that_comes_later_is_told_and_then_served(made: Path, tmp_path: Path) -> None:
    uri = tmp_path / "later"
    args = ServeArgs(workspace=str(uri))
    with pytest.raises(NotFoundError, match="does not exist"):
        check_release(args)
    waited: list[float] = []
    opening = held.HeldReleases[int](lambda number, _: number)

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            shutil.copytree(made, uri)

    opening.wait_for_first(ReleaseSource.of(args), sleep=sleep)
    assert (len(waited), opening.numbers) == (2, (1,))


def test_while_there_is_no_workspace_the_service_says_so(tmp_path: Path) -> None:
    args = ServeArgs(workspace=str(tmp_path / "nowhere"), release_poll_s=3600)
    none, threads, rates, access = NoRecorder(), Threads("test", 2), TextRates(), Access(None)
    source = ReleaseSource.of(args)
    current = CurrentRelease(source, (), threads)
    stages: Any = None
    service = TagService(current, stages, threads, limits=Limits(), rates=rates, recorder=none)
    upkeep = Upkeep(current, access, rates, threads, none, in_flight=lambda: 0, every_s=60)
    streams = Streams(service, StreamLimits())
    teaching = TeachService(source, current, threads, rates)
    app = http_app(service, streams, teaching, access, upkeep, none, max_body_bytes=100)
    with pytest.raises(ServiceUnavailable, match="no release open"):
        asyncio.run(current.take_up())
    client = Client(app)

    for path in ("/readyz", "/v1/languages", "/v1/examples"):
        response = client.get(path)
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "2"
        assert "nowhere" not in ErrorBody.model_validate_json(response.content).message
    told = ReplicasAnswer.model_validate_json(client.get("/v1/replicas").content)
    assert (told.release, told.replicas) == (None, [])
    assert told.problem is not None and "nowhere" in told.problem
    assert client.get("/healthz").status_code == 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own that can be filled; mounting takes root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096) == 4096:
            pass
    assert not shutil.disk_usage(disk).free
    return filler


def test_on_a_full_disk_the_service_answers_and_releases_wait(
    made: Path, small_disk: Path, whole: Any, tmp_path: Path
) -> None:
    workspace = Workspace.open(shutil.copytree(made, small_disk / "workspace"))
    filler = fill(small_disk)
    service = Service.open(workspace.uri)  # cannot keep what its router fits
    service.look()
    assert service.tag(ENGLISH) == whole
    indexes = {c: e.index for c, e in workspace.releases.current().languages.items() if e.index}

    with pytest.raises(OSError, match="No space"):
        publish_random(workspace, tmp_path, indexes, seed=5)
    service.look()
    assert (service.ready().status, service.ready().release) == ("ready", 1)
    assert service.tag(ENGLISH) == whole

    filler.unlink()
    publish_random(workspace, tmp_path, indexes, seed=5)
    service.look()
    assert (service.ready().status, service.ready().release) == ("ready", 2)
    service.generator.close()
