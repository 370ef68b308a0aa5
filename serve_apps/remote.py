"""The stages as the ingress sees them on Ray: handles behind the service's protocols, errors turned back.

Ray is known here and in `serve_apps.app`, `running` and `ray_metrics` alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from retrieveall.embedding.protocol import Vectors
from retrieveall.errors import Overloaded, RetrieveAllError, ServiceUnavailable
from retrieveall.generation import Generated, GenerationTask
from retrieveall.routing.router import Routed
from retrieveall.tagger import Composed, TextInput
from retrieveall.taught.view import TaughtView
from retrieveall.types import Examples, Span
from serve_apps.held import Holding
from serve_apps.joining import JoinedCalls
from serve_apps.tracing import Carrier, carried

RouteQuestion = tuple[Carrier, int, Sequence[TextInput], Sequence[Sequence[Span]]]
"""What a request asks of the router: its trace and the arguments of `RouterStage.route`."""
RetrieveQuestion = tuple[Carrier, int, Sequence[str], Sequence[Composed], Vectors | None, TaughtView]
"""What a request asks of the retriever: its trace and the arguments of `RetrieverStage.retrieve`."""

_GONE = (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError)


async def answer_of(response: Any, stage: str) -> Any:
    """Waits for a stage and raises what it raised, without the wrapping of Ray.

    Raises:
        Overloaded: The stage's queue is full.
        ServiceUnavailable: The replica died or does not exist.
    """
    try:
        return await response
    except asyncio.CancelledError:  # our deadline, or the client left: the stage need not go on
        response.cancel()
        raise
    except BackPressureError:
        raise Overloaded(f"The queue of the {stage} is full. Try again after 1 seconds.") from None
    except _GONE:
        raise ServiceUnavailable(
            f"A replica of the {stage} went away while it worked; another one starts."
            " Try again after 2 seconds."
        ) from None
    except RayTaskError as error:
        if isinstance(error.cause, RetrieveAllError):
            raise error.cause from None
        raise


class _RemoteStage:
    def __init__(self, handle: DeploymentHandle[Any], name: str) -> None:
        self._handle, self._name = handle, name

    async def hold(self, release: int) -> Holding:
        """Opens a release unless it is open; returns what the replica holds."""
        holding: Holding = await self._call("hold", release)
        return holding

    async def _call(self, method: str, *args: Any) -> Any:
        """Asks a replica, and one other where it dies: asking twice changes nothing."""
        remote = getattr(self._handle, method)
        try:
            return await answer_of(remote.remote(*args), self._name)
        except ServiceUnavailable:
            return await answer_of(remote.remote(*args), self._name)


class RemoteRouter(_RemoteStage):
    """`serve_apps.router.RouterStage` behind a handle."""

    def __init__(self, handle: DeploymentHandle[Any], name: str) -> None:
        super().__init__(handle, name)
        self._calls = JoinedCalls[RouteQuestion, Routed](partial(self._call, "route"))

    async def route(
        self, release: int, documents: Sequence[TextInput], spans: Sequence[Sequence[Span]]
    ) -> Routed:
        """Routes the sentences of all documents."""
        return await self._calls.ask((carried(), release, documents, spans), size=sum(map(len, spans)))


class RemoteRetriever(_RemoteStage):
    """`serve_apps.retriever.RetrieverStage` behind a handle."""

    def __init__(self, handle: DeploymentHandle[Any], name: str) -> None:
        super().__init__(handle, name)
        self._calls = JoinedCalls[RetrieveQuestion, list[Examples]](partial(self._call, "retrieve"))

    async def retrieve(
        self,
        release: int,
        texts: Sequence[str],
        composed: Sequence[Composed],
        embeddings: Vectors | None,
        view: TaughtView,
    ) -> list[Examples]:
        """Finds the examples of all sentences."""
        question = (carried(), release, texts, composed, embeddings, view)
        return await self._calls.ask(question, size=len(texts))


class RemoteGenerator(_RemoteStage):
    """`serve_apps.generator.GeneratorStage` behind a handle."""

    async def generate(
        self, release: int, tasks: Sequence[GenerationTask], timeout_s: float
    ) -> list[Generated]:
        """Decodes all sentences."""
        found: list[Generated] = await self._call("generate", carried(), release, tasks, timeout_s)
        return found
