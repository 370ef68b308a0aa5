"""OpenTelemetry traces, where ``OTEL_EXPORTER_OTLP_ENDPOINT`` names a collector. No Ray in here.

Without a collector spans are OpenTelemetry's own that record nothing. A request's trace id goes with it from
the ingress to every stage, and is the client's where its ``traceparent`` header names one. Texts are in no
span.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
Carrier = Mapping[str, str]
"""A span's identity on its way to another process, as the headers of W3C Trace Context."""

_W3C = TraceContextTextMapPropagator()

log = logging.getLogger(__name__)


def export_traces(deployment: str, replica: str) -> bool:
    """Sends the spans of this process to the collector that the environment names.

    Args:
        deployment: Tells the spans of the deployments apart.
        replica: Those of its replicas.

    Returns:
        Whether it names one, and what sends there is installed.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return False
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        log.error("%s is set, and no traces are sent: pip install 'retrieveall[traces]'", ENDPOINTS[0])
        return False
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME", "retrieveall"),
        "service.instance.id": replica,
        "retrieveall.deployment": deployment,
    }
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True


@contextmanager
def span(
    name: str,
    carrier: Carrier | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int] | None = None,
) -> Iterator[trace.Span]:
    """A span for the block; an error that leaves the block is noted in it by its class alone.

    Args:
        name: Of the span.
        carrier: Its parent in another process; None takes the span of this task.
        kind: Of the span.
        attributes: Facts; no texts.
    """
    context = None if carrier is None else _W3C.extract(dict(carrier))
    tracer = trace.get_tracer("retrieveall")
    with tracer.start_as_current_span(
        name, context, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as opened:
        try:
            yield opened
        except BaseException as error:
            opened.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise


def carried() -> dict[str, str]:
    """Returns the identity of this task's span."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier


class Traced:
    """A span around every HTTP request.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers an ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        name = f"{scope['method']} {scope['path'].removeprefix(scope.get('root_path', ''))}"
        with span(name, headers, kind=SpanKind.SERVER) as opened:

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    opened.set_attribute("http.response.status_code", message["status"])
                await send(message)

            await self._app(scope, receive, noted)
