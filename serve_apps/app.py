"""The application: `serve run serve_apps.app:build workspace=…`, `serve deploy`, or `retrieveall serve`.

    ingress (FastAPI) → router → retriever → generator

Four deployments, each sized for itself. The ingress stamps every request with its release, and all four
answer for that one.
"""

from __future__ import annotations

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
from serve_apps.args import ServeArgs, StageArgs
from serve_apps.current import CurrentRelease
from serve_apps.generator import GeneratorStage
from serve_apps.held import Holding
from serve_apps.ingress import http_app
from serve_apps.opened import ReleaseSource, located
from serve_apps.remote import RemoteGenerator, RemoteRetriever, RemoteRouter
from serve_apps.retriever import RetrieverStage
from serve_apps.router import RouterStage
from serve_apps.service import Stages, TagService
from serve_apps.threads import Threads

_CONSTRUCTOR_TRIES = 3  # what cannot be opened three times will not be opened the twentieth
_SHUTDOWN_S = 10.0


class RouterDeployment:
    """A replica of the router."""

    def __init__(self, args: ServeArgs) -> None:
        self._stage = RouterStage.open(args, replica=_replica())

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
        self._stage = RetrieverStage.open(args, replica=_replica())

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
        self._stage = GeneratorStage.open(args, replica=_replica())

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
        stages = Stages(
            router=RemoteRouter(router, "router"),
            retriever=RemoteRetriever(retriever, "retriever"),
            generator=RemoteGenerator(generator, "generator"),
        )
        self._args = args
        threads = Threads("ingress", args.ingress.threads, library_threads=args.ingress.library_threads)
        self._service = TagService(
            CurrentRelease(ReleaseSource.of(args), stages.all, threads),
            stages,
            threads,
            timeout_s=args.timeout_s,
            max_in_flight=args.max_requests_in_flight,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:  # Serve's name for it
        return http_app(self._service, follow_every_s=self._args.release_poll_s)


def build(args: ServeArgs) -> Application:
    """Returns the application for a workspace.

    Raises:
        NotFoundError: There is no workspace, or no such release in it.
        IncompatibleArtefactError: An adapter was made for another base, embedder or prompt format.
        ConfigError: The workspace has no base model yet.
    """
    args = located(args)
    return _deployment("ingress", serve.ingress()(IngressDeployment), args.ingress).bind(
        args,
        _deployment("router", RouterDeployment, args.router).bind(args),
        _deployment("retriever", RetrieverDeployment, args.retriever).bind(args),
        _deployment("generator", GeneratorDeployment, args.generator).bind(args),
    )


def _replica() -> str:
    return str(serve.get_replica_context().replica_id.unique_id)


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
