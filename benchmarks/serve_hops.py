"""What the service itself can do: single texts a second with an engine that costs nothing.

    python benchmarks/serve_hops.py --workspace W --corpus sample      # about 3 minutes

64 clients with one text a request, an echo engine in the generator's place, everything else as it is: HTTP,
proxy, ingress, router and retriever with the workspace's indexes. What requests ask of the router and the
retriever goes together while calls are under way (`serve_apps.joining`); the other side makes a call of each
question. Each turn of a side runs in a Ray of its own.

Not covered: the model.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import Any

from measuring import flags, parsed, result, workspace_flags, write
from recording import test_sentences
from serve_load import ask_on
from serving import serving

from retrieveall.workspace import Workspace

_CLIENTS = 64
_WARM_S = 4.0


def main() -> None:
    """Measures both sides in turn.

    Raises:
        AssertionError: A request was not answered.
    """
    parser = flags(__doc__, rounds=2)
    workspace_flags(parser)
    parser.add_argument("--seconds", type=float, default=15.0, help="Of each turn.")
    arguments = parsed(parser)
    workspace = Workspace.open(arguments.workspace)
    languages = sorted(workspace.releases.current().languages)
    texts = [row.text for row in test_sentences(workspace, arguments.corpus, languages, 48)]
    speeds: dict[str, list[float]] = {"joined": [], "alone": []}
    for _ in range(arguments.rounds):
        for side, found in speeds.items():
            found.append(speed(arguments.workspace, side, texts, arguments.seconds))
            print(f"  {side}: {found[-1]:.1f} texts a second", flush=True)
    record = result(
        "serve-hops",
        f"single texts a second with an echo engine, {_CLIENTS} clients, questions joined ÷ each alone",
        [a / b for a, b in zip(speeds["joined"], speeds["alone"], strict=True)],
        goal=None,
        sides={side: [1 / one for one in found] for side, found in speeds.items()},
        texts_per_s={side: statistics.median(found) for side, found in speeds.items()},
        setup={"corpus": arguments.corpus, "languages": languages, "clients": _CLIENTS},
    )
    write(record, arguments.results)


def speed(workspace: str, side: str, texts: Sequence[str], seconds: float) -> float:
    """Returns the texts a second of one side."""
    with serving(workspace, lambda args: application(args, side)) as service:
        asyncio.run(ask_on(service, texts, clients=8, size=1, seconds=_WARM_S))
        began_s = time.monotonic()
        answers = asyncio.run(ask_on(service, texts, clients=_CLIENTS, size=1, seconds=seconds))
        took_s = time.monotonic() - began_s
    assert all(answer.status == "200" for answer in answers), "a request was not answered"
    return len(answers) / took_s


def application(args: Any, side: str) -> Any:
    """Returns the service with an echo engine; asks with each question alone where the side says so."""
    from ray import serve

    from serve_apps.app import RetrieverDeployment, RouterDeployment, deployment

    router, retriever, generator = (
        deployment(name, kind, sizes).bind(args)
        for name, kind, sizes in (
            ("router", RouterDeployment, args.router),
            ("retriever", RetrieverDeployment, args.retriever),
            ("generator", echo_class(), args.generator),
        )
    )
    ingress = serve.ingress()(ingress_class(alone=side == "alone"))
    return deployment("ingress", ingress, args.ingress).bind(args, router, retriever, generator)


def ingress_class(*, alone: bool) -> type[Any]:
    """Returns the ingress; made in a function, so that Ray sends it by value."""
    from serve_apps import joining
    from serve_apps.app import IngressDeployment

    class Ingress(IngressDeployment):
        def __init__(self, *parts: Any) -> None:
            if alone:
                joining.MOST_UNDER_WAY = 1 << 30
            super().__init__(*parts)

    return Ingress


def echo_class() -> type[Any]:
    """Returns the generator with an echo engine."""
    from retrieveall.engine.echo import EchoEngine
    from retrieveall.models.base import TINY, base_folder, open_base
    from serve_apps.app import GeneratorDeployment
    from serve_apps.generator import GeneratorStage
    from serve_apps.held import HeldReleases
    from serve_apps.opened import ReleaseSource
    from serve_apps.threads import Threads

    class Echo(GeneratorDeployment):
        def __init__(self, args: Any) -> None:
            source = ReleaseSource.of(args)
            held = HeldReleases(lambda number, _: source.read(number))
            held.wait_for_first(source)
            codec = open_base(str(base_folder(TINY))).codec
            threads = Threads("generator", args.generator.threads)
            self._stage = GeneratorStage(held, EchoEngine(codec), codec, threads)

    return Echo


if __name__ == "__main__":
    main()
