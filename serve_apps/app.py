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
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.handle import DeploymentHandle

from retrieveall.embedding.protocol import Vectors
from retrieveall.generation import Generated, GenerationTask
from retrieveall.routing.router import Routed
from retrieveall.tagger import Composed, TextInput
from retrieveall.types import Examples, Span
from serve_apps.access import Access
from serve_apps.args import ServeArgs, StageArgs
from serve_apps.current import CurrentRelease
from serve_apps.generator import GeneratorStage
from serve_apps.held import Holding
from serve_apps.ingress import http_app
from serve_apps.keys import KeyFile
from serve_apps.opened import ReleaseSource, located
from serve_apps.rates import TextRates
from serve_apps.ray_metrics import RayRecorder
from serve_apps.remote import RemoteGenerator, RemoteRetriever, RemoteRouter
from serve_apps.retriever import RetrieverStage
from serve_apps.router import RouterStage
from serve_apps.service import Limits, Stages, TagService
from serve_apps.stream import StreamLimits, Streams
from serve_apps.threads import Threads
from serve_apps.upkeep import Upkeep

_CONSTRUCTOR_TRIES = 3  # what cannot be opened three times will not be opened the twentieth
_SHUTDOWN_S = 10.0


class RouterDeployment:
    """A replica of the router."""

    def __init__(self, args: ServeArgs) -> None:
        _log_through_serve()
        self._stage = RouterStage.open(args, RayRecorder(), replica=_replica())

    async def hold(self, release: int) -> Holding:
        """See `RouterStage.hold`."""
        return await self._stage.hold(release)

    async def route(
        self, release: int, documents: Sequence[TextInput], spans: Sequence[Sequence[Span]]
    ) -> Routed:
        """See `RouterStage.route`."""
        return await self._stage.route(release, documents, spans)


class RetrieverDeployment:
    """A replica of the retriever."""

    def __init__(self, args: ServeArgs) -> None:
        _log_through_serve()
        self._stage = RetrieverStage.open(args, RayRecorder(), replica=_replica())

    async def hold(self, release: int) -> Holding:
        """See `RetrieverStage.hold`."""
        return await self._stage.hold(release)

    async def retrieve(
        self,
        release: int,
        texts: Sequence[str],
        composed: Sequence[Composed],
        embeddings: Vectors | None,
    ) -> list[Examples]:
        """See `RetrieverStage.retrieve`."""
        return await self._stage.retrieve(release, texts, composed, embeddings)


class GeneratorDeployment:
    """A replica of the generator."""

    def __init__(self, args: ServeArgs) -> None:
        _log_through_serve()
        self._stage = GeneratorStage.open(args, RayRecorder(), replica=_replica())

    async def hold(self, release: int) -> Holding:
        """See `GeneratorStage.hold`."""
        return await self._stage.hold(release)

    async def generate(
        self, release: int, tasks: Sequence[GenerationTask], timeout_s: float
    ) -> list[Generated]:
        """See `GeneratorStage.generate`."""
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
        _log_through_serve()
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
        access = Access(KeyFile(store=source.workspace.store) if args.keys == "required" else None)
        service = TagService(current, stages, threads, limits=limits, rates=rates, recorder=recorder)
        stream_limits = StreamLimits(
            max_streams=args.max_streams,
            max_line_bytes=args.max_line_bytes,
            max_waiting_bytes=args.max_stream_ahead_bytes,
        )
        self._app = http_app(
            service,
            Streams(service, stream_limits),
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
        )

    def __serve_build_asgi_app__(self) -> FastAPI:  # Serve's name for it
        return self._app


def build(args: ServeArgs) -> Application:
    """Returns the application for a workspace.

    Args:
        args: Its arguments, or the plain values that `serve deploy` and `serve run` pass: Serve makes
            pydantic models only of annotations that are no strings.

    Raises:
        ValidationError: pydantic's; a plain value is not one of `ServeArgs`.
        NotFoundError: There is no workspace, or no such release in it.
        IncompatibleArtefactError: An adapter was made for another base, embedder or prompt format.
        ConfigError: The workspace has no base model yet.
    """
    args = located(ServeArgs.model_validate(args))
    return _deployment("ingress", serve.ingress()(IngressDeployment), args.ingress).bind(
        args,
        _deployment("router", RouterDeployment, args.router).bind(args),
        _deployment("retriever", RetrieverDeployment, args.retriever).bind(args),
        _deployment("generator", GeneratorDeployment, args.generator).bind(args),
    )


def _replica() -> str:
    return str(serve.get_replica_context().replica_id.unique_id)


def _log_through_serve() -> None:
    """Lets our log lines go where Serve's own go, as JSON with the request's id."""
    serves = logging.getLogger("ray.serve")
    for name in ("serve_apps", "retrieveall"):
        ours = logging.getLogger(name)
        ours.handlers, ours.propagate = serves.handlers, False
        ours.setLevel(logging.INFO)


def _live_replicas() -> int:
    """Returns how many replicas of this deployment run."""
    here = serve.get_replica_context()
    application = serve.status().applications[here.app_name]
    states = application.deployments[here.deployment].replica_states
    return sum(count for state, count in states.items() if state.value == "RUNNING")


def _deployment(name: str, stage: type[Any], sizes: StageArgs) -> Deployment:
    # Nothing may be lost in a queue of Serve: the ingress itself refuses what is too much, in our shape.
    deployment: Any = serve.deployment(stage)
    configured: Deployment = deployment.options(
        name=name,
        num_replicas=sizes.replicas,
        ray_actor_options={"num_cpus": sizes.cpus, "num_gpus": sizes.gpus},
        max_ongoing_requests=sizes.max_ongoing_requests,
        max_queued_requests=-1,
        max_constructor_retry_count=_CONSTRUCTOR_TRIES,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=_SHUTDOWN_S,
    )
    return configured
