"""The application: `serve run serve_apps.app:build workspace=…`, `serve deploy`, or `retrieveall serve`.

    ingress (FastAPI) → router → retriever → generator

Four deployments, each sized for itself. The ingress stamps every request with its release, and all four
answer for that one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from opentelemetry.trace import SpanKind
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import AutoscalingConfig
from ray.serve.handle import DeploymentHandle

from retrieveall.embedding.protocol import Vectors
from retrieveall.generation import Generated, GenerationTask
from retrieveall.routing.router import Routed
from retrieveall.tagger import Composed, TextInput
from retrieveall.taught.view import TaughtView
from retrieveall.types import Examples, Span
from serve_apps.access import Access
from serve_apps.args import ServeArgs, StageArgs
from serve_apps.current import CurrentRelease
from serve_apps.generator import GeneratorStage
from serve_apps.held import Holding
from serve_apps.ingress import http_app
from serve_apps.joining import answer_each
from serve_apps.keys import KeyFile
from serve_apps.opened import ReleaseSource, located
from serve_apps.rates import TextRates
from serve_apps.ray_metrics import RayRecorder
from serve_apps.remote import (
    RemoteGenerator,
    RemoteRetriever,
    RemoteRouter,
    RetrieveQuestion,
    RouteQuestion,
)
from serve_apps.retriever import RetrieverStage
from serve_apps.router import RouterStage
from serve_apps.service import Limits, Stages, TagService
from serve_apps.stream import StreamLimits, Streams
from serve_apps.teaching import TeachService
from serve_apps.threads import Threads
from serve_apps.tracing import Carrier, export_traces, span
from serve_apps.upkeep import Upkeep

_CONSTRUCTOR_TRIES = 3  # what cannot be opened three times will not be opened the twentieth
_SHUTDOWN_S = 10.0
_METRICS_EVERY_S = 1.0  # 10 by default: new replicas come late


class RouterDeployment:
    """A replica of the router."""

    def __init__(self, args: ServeArgs) -> None:
        _seen_from_outside()
        self._stage = RouterStage.open(args, RayRecorder(), replica=_replica())

    async def hold(self, release: int) -> Holding:
        """See `RouterStage.hold`."""
        return await self._stage.hold(release)

    async def route(self, questions: Sequence[RouteQuestion]) -> list[Routed | Exception]:
        """See `RouterStage.route`; each question is answered for itself."""
        return await answer_each([self._route(*question) for question in questions])

    async def _route(
        self,
        trace: Carrier,
        release: int,
        documents: Sequence[TextInput],
        spans: Sequence[Sequence[Span]],
    ) -> Routed:
        with span("router.route", trace, kind=SpanKind.SERVER):
            return await self._stage.route(release, documents, spans)


class RetrieverDeployment:
    """A replica of the retriever."""

    def __init__(self, args: ServeArgs) -> None:
        _seen_from_outside()
        self._stage = RetrieverStage.open(args, RayRecorder(), replica=_replica())

    async def hold(self, release: int) -> Holding:
        """See `RetrieverStage.hold`."""
        return await self._stage.hold(release)

    async def retrieve(self, questions: Sequence[RetrieveQuestion]) -> list[list[Examples] | Exception]:
        """See `RetrieverStage.retrieve`; each question is answered for itself."""
        return await answer_each([self._retrieve(*question) for question in questions])

    async def _retrieve(
        self,
        trace: Carrier,
        release: int,
        texts: Sequence[str],
        composed: Sequence[Composed],
        embeddings: Vectors | None,
        view: TaughtView,
    ) -> list[Examples]:
        with span("retriever.retrieve", trace, kind=SpanKind.SERVER):
            return await self._stage.retrieve(release, texts, composed, embeddings, view)


class GeneratorDeployment:
    """A replica of the generator."""

    def __init__(self, args: ServeArgs) -> None:
        _seen_from_outside()
        self._stage = GeneratorStage.open(args, RayRecorder(), replica=_replica())

    async def hold(self, release: int) -> Holding:
        """See `GeneratorStage.hold`."""
        return await self._stage.hold(release)

    async def generate(
        self, trace: Carrier, release: int, tasks: Sequence[GenerationTask], timeout_s: float
    ) -> list[Generated]:
        """See `GeneratorStage.generate`."""
        facts = {"retrieveall.release": release, "retrieveall.sentences": len(tasks)}
        with span("generator.generate", trace, kind=SpanKind.SERVER, attributes=facts):
            return await self._stage.generate(release, tasks, timeout_s)


class IngressDeployment:
    """A replica of the ingress."""

    def __init__(
        self,
        args: ServeArgs,
        router: DeploymentHandle[Any],
        retriever: DeploymentHandle[Any],
        generator: DeploymentHandle[Any],
    ) -> None:
        _seen_from_outside()
        recorder = RayRecorder()
        stages = Stages(
            router=RemoteRouter(router, "router"),
            retriever=RemoteRetriever(retriever, "retriever"),
            generator=RemoteGenerator(generator, "generator"),
        )
        source = ReleaseSource.of(args)
        threads = Threads("ingress", args.ingress.threads, library_threads=args.ingress.library_threads)
        current = CurrentRelease(source, stages.all, threads)
        rates = TextRates()
        limits = Limits(
            timeout_s=args.timeout_s,
            max_in_flight=args.max_requests_in_flight,
            max_text_chars=args.max_text_chars,
        )
        access = Access(KeyFile(store=source.store) if args.keys == "required" else None)
        service = TagService(current, stages, threads, limits=limits, rates=rates, recorder=recorder)
        stream_limits = StreamLimits(
            max_streams=args.max_streams,
            max_line_bytes=args.max_line_bytes,
            max_waiting_bytes=args.max_stream_ahead_bytes,
            idle_s=args.stream_idle_s,
        )
        self._app = http_app(
            service,
            Streams(service, stream_limits),
            TeachService(source, current, threads, rates, shown=args.examples),
            access,
            Upkeep(
                current,
                access,
                rates,
                threads,
                recorder,
                in_flight=lambda: service.in_flight,
                every_s=args.release_poll_s,
                count_replicas=_live_replicas,
            ),
            recorder,
            max_body_bytes=args.max_body_bytes,
            body_timeout_s=args.timeout_s,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:  # Serve's name for it
        return self._app


def build(args: ServeArgs) -> Application:
    """Returns the application for a workspace that need not be there yet; `/readyz` says what is missing.

    Args:
        args: Its arguments, or the plain values that `serve deploy` and `serve run` pass: Serve makes
            pydantic models only of annotations that are no strings.

    Raises:
        ValidationError: pydantic's; a plain value is not one of `ServeArgs`.
    """
    args = located(ServeArgs.model_validate(args))
    return deployment("ingress", serve.ingress()(IngressDeployment), args.ingress).bind(
        args,
        deployment("router", RouterDeployment, args.router).bind(args),
        deployment("retriever", RetrieverDeployment, args.retriever).bind(args),
        deployment("generator", GeneratorDeployment, args.generator).bind(args),
    )


def _replica() -> str:
    return str(serve.get_replica_context().replica_id.unique_id)


def _seen_from_outside() -> None:
    """Lets our log lines go where Serve's own go, as JSON with the request's id; spans to the collector."""
    here = serve.get_replica_context()
    export_traces(here.deployment, str(here.replica_id.unique_id))
    serves = logging.getLogger("ray.serve")
    for name in ("serve_apps", "retrieveall"):
        ours = logging.getLogger(name)
        ours.handlers, ours.propagate = serves.handlers, False
        ours.setLevel(logging.INFO)


def _live_replicas() -> int:
    """Returns how many replicas of this deployment run."""
    here = serve.get_replica_context()
    application = serve.status().applications[here.app_name]
    states: Any = application.deployments[here.deployment].replica_states  # by name, not as it is declared
    return int(states.get("RUNNING", 0))


def deployment(name: str, stage: type[Any], sizes: StageArgs) -> Deployment:
    """Returns a deployment of a size.

    Args:
        name: Of the deployment.
        stage: Class of its replicas.
        sizes: Its size, and how it grows.
    """
    # Nothing may be lost in a queue of Serve: the ingress itself refuses what is too much, in our shape.
    plain: Any = serve.deployment(stage)
    configured: Deployment = plain.options(
        name=name,
        **_replicas(sizes),
        ray_actor_options={"num_cpus": sizes.cpus, "num_gpus": sizes.gpus},
        max_ongoing_requests=sizes.max_ongoing_requests,
        max_queued_requests=-1,
        max_constructor_retry_count=_CONSTRUCTOR_TRIES,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=_SHUTDOWN_S,
    )
    return configured


def _replicas(sizes: StageArgs) -> dict[str, Any]:
    if sizes.max_replicas <= sizes.replicas:
        return {"num_replicas": sizes.replicas}
    scaling = AutoscalingConfig(
        min_replicas=sizes.replicas,
        max_replicas=sizes.max_replicas,
        target_ongoing_requests=sizes.target_ongoing_requests,
        # Ray 2.60 calls it deprecated, but the environment variables that are to replace it do nothing yet.
        metrics_interval_s=_METRICS_EVERY_S,
        look_back_period_s=sizes.look_back_s,
        upscale_delay_s=sizes.upscale_delay_s,
        downscale_delay_s=sizes.downscale_delay_s,
    )
    return {"autoscaling_config": scaling}
