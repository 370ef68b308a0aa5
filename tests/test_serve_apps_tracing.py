"""Spans of a request: one trace from the HTTP request to every stage, in one process and over Ray."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from retrieveall.cli.process import ray_running
from retrieveall.workspace import Workspace
from serve_apps.args import ServeArgs
from serve_apps.running import start_service, stop_service
from serve_apps.tracing import ENDPOINTS, carried, export_traces, span
from tests.test_serve_apps_app import free_port
from tests.test_serve_apps_app import pytestmark as quiet_ray
from tests.test_serve_apps_service import House, opened_house
from tests.workspaces import random_workspace

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
SECRET = "Helga Brandt fliegt nach Wien."

pytestmark = quiet_ray


@pytest.fixture(scope="module")
def exported() -> InMemorySpanExporter:
    """Where the spans of this process go; OpenTelemetry takes one provider a process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return random_workspace(tmp_path_factory.mktemp("tracing"), ("de", "en"))


@pytest.fixture(scope="module")
def house(workspace: Workspace) -> Iterator[House]:
    yield from opened_house(workspace)


def test_a_request_is_one_trace_with_a_span_for_each_stage(
    house: House, exported: InMemorySpanExporter
) -> None:
    exported.clear()
    client = house.client()
    client.ask("POST", "/v1/tag", json={"texts": [SECRET]}, headers=PARENT)
    client.ask("POST", "/v1/tag", json={"texts": []}, headers=PARENT)

    spans = [found for found in exported.get_finished_spans() if is_ours(found)]  # FastAPI has its own, too
    assert {f"{found.context.trace_id:032x}" for found in spans if found.context} == {TRACE}
    assert [found.name for found in spans] == [
        *("sentences", "route", "retrieve", "generate", "answer", "POST /v1/tag"),
        "POST /v1/tag",
    ]
    (request,) = (found for found in spans[:-1] if found.name == "POST /v1/tag")
    assert request.attributes == {"http.response.status_code": 200}
    assert SECRET not in "".join(found.to_json() for found in spans)


def is_ours(found: ReadableSpan) -> bool:
    return found.instrumentation_scope is not None and found.instrumentation_scope.name == "retrieveall"


def test_a_span_goes_on_in_another_process_and_tells_no_text_of_an_error(
    exported: InMemorySpanExporter,
) -> None:
    exported.clear()
    with span("here"):
        carrier = carried()
    with pytest.raises(ValueError, match="Helga"), span("there", carrier):
        raise ValueError(SECRET)

    there, here = exported.get_finished_spans()[::-1]
    assert there.parent is not None and here.context is not None
    assert (there.parent.trace_id, there.parent.span_id) == (here.context.trace_id, here.context.span_id)
    assert there.status.description == "ValueError"
    assert SECRET not in there.to_json()


def test_without_a_collector_nothing_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert not export_traces("ingress", "1")


class Collector(ThreadingHTTPServer):
    """Keeps the spans that it is sent, as ``(deployment, name, trace id)``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.spans: list[tuple[str, str, str]] = []
        self.came = threading.Condition()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def keep(self, body: bytes) -> None:
        sent = ExportTraceServiceRequest.FromString(body)
        with self.came:
            for resource in sent.resource_spans:
                facts = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                for one in (found for scope in resource.scope_spans for found in scope.spans):
                    self.spans.append((facts["retrieveall.deployment"], one.name, one.trace_id.hex()))
            self.came.notify_all()

    def of(self, trace_id: str) -> set[tuple[str, str]]:
        return {(deployment, name) for deployment, name, found in self.spans if found == trace_id}


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        assert isinstance(self.server, Collector)
        self.server.keep(self.rfile.read(length))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as server:
        monkeypatch.setenv(ENDPOINTS[0], f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        yield server
        server.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_collector_gets_one_trace_of_all_deployments(collector: Collector, workspace: Workspace) -> None:
    with ray_running():
        args = ServeArgs(workspace=workspace.uri, keys="off")
        url = start_service(args, host="127.0.0.1", port=free_port())
        httpx.post(f"{url}/v1/tag", json={"texts": [SECRET]}, headers=PARENT, timeout=120).raise_for_status()
        wanted = {
            ("ingress", "POST /v1/tag"),
            *(("ingress", stage) for stage in ("sentences", "route", "retrieve", "generate", "answer")),
            ("router", "router.route"),
            ("retriever", "retriever.retrieve"),
            ("generator", "generator.generate"),
        }
        with collector.came:
            collector.came.wait_for(lambda: wanted <= collector.of(TRACE), timeout=60)
        assert wanted <= collector.of(TRACE)
        stop_service()
