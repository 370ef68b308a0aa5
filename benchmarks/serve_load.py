"""P9, and what the service does under load: from one client to 256, and ten times more than it takes.

    python benchmarks/serve_load.py --workspace W --corpus sample     # about 8 minutes on two free cores

Starts a Ray of its own with the whole application on it and asks it over loopback. P9 divides the service,
32 texts a request and one request at a time, by the in-process tagger on the same texts, in turns; both
must find the same entities first. `serve-load` has texts a second and p50, p95 and p99 of 1, 8, 64 and 256
clients with one text and with 32 texts a request. Clients ask for ten seconds, then what is under way is
waited for: the largest load has 8,192 texts in flight and takes minutes, or is refused what the engine's
queue has no room for. `overload` counts answers while ten times more clients ask than there are places
(`max_requests_in_flight`), each coming back after the seconds that a refusal names, then all of them leave;
its value is the time from there until texts a second are nine tenths of what they were before.

The clients run on the same cores and take their part of them.

Not covered: networks, TLS, several replicas, GPUs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
from matplotlib.figure import Figure
from measuring import flags, parsed, result, take_turns, workspace_flags, write
from online import alike, asked, cut, tagged
from recording import test_sentences
from serving import Service, serving

from retrieveall.opening import OpenOptions, open_tagger
from retrieveall.workspace import Workspace

CLIENTS = (1, 8, 64, 256)
TEXTS = (1, 32)
_PLACES = 32
_TIMES = 10
_FULL_SPEED = 0.9
_CALM_S, _STORM_S, _WARM_S = 8.0, 10.0, 2.0


def main() -> None:
    """Measures and writes the results.

    Raises:
        AssertionError: Service and tagger differ, or an answer was neither right nor a refusal.
    """
    parser = flags(__doc__, rounds=3)
    workspace_flags(parser)
    parser.add_argument("--limit", type=int, default=192, help="Sentences, over all languages.")
    parser.add_argument("--seconds", type=float, default=10.0, help="Of every load.")
    arguments = parsed(parser)
    workspace = Workspace.open(arguments.workspace)
    languages = sorted(workspace.releases.current().languages)
    rows = test_sentences(workspace, arguments.corpus, languages, -(-arguments.limit // len(languages)))
    texts = [row.text for row in rows][: arguments.limit]
    setup = {"corpus": arguments.corpus, "languages": languages, "sentences": len(texts)}
    with serving(arguments.workspace, timeout_s=300.0) as service:
        write(ratio(service, workspace, texts, arguments, setup), arguments.results)
        loads = [load(service, texts, n, size, arguments.seconds) for size in TEXTS for n in CLIENTS]
    record = load_record(loads, setup)
    write(record, arguments.results, draw_loads(loads))
    for one in loads:
        print(f"  {one}", flush=True)
    with serving(arguments.workspace, max_requests_in_flight=_PLACES) as service:
        record, figure = overload(service, texts, setup)
    write(record, arguments.results, figure)
    wrong = {k: n for k, n in record["answers"].items() if k not in ("200", "429")}
    assert not wrong, f"overload was answered with {wrong}"


def ratio(
    service: Service, workspace: Workspace, texts: Sequence[str], arguments: Any, setup: dict[str, Any]
) -> dict[str, Any]:
    """Returns P9."""
    with open_tagger(workspace, OpenOptions(threads=arguments.threads)) as opened:
        online, offline = asked(service, texts, 32), tagged(opened, texts, 32)
        differing = sum(not alike(a, b) for a, b in zip(online, offline, strict=True))
        assert differing <= max(1, len(texts) // 1000), f"{differing} of {len(texts)} texts differ"
        sides = {
            "service": lambda: asked(service, texts, 32, at_once=1),
            "tagger": lambda: tagged(opened, texts, 32),
        }
        turns = take_turns(sides, arguments.rounds)
    return result(
        "P9",
        "HTTP service ÷ in-process tagger, 32 texts a request, one request at a time",
        turns.speed_ratios("service", "tagger"),
        goal=0.95,
        sides=turns.wall_s,
        checks={"texts_compared": len(texts), "texts_differing": differing},
        texts_per_s={name: len(texts) / statistics.median(s) for name, s in turns.wall_s.items()},
        setup=setup,
    )


@dataclass(frozen=True)
class Answer:
    """One answer: when it was asked and given, on the monotonic clock, and its status."""

    asked_s: float
    given_s: float
    status: str


def load(service: Service, texts: Sequence[str], clients: int, size: int, seconds: float) -> dict[str, Any]:
    """Returns throughput and latency of so many clients, each with one request at a time."""
    asyncio.run(ask_on(service, texts, clients=min(8, clients), size=size, seconds=_WARM_S))
    began_s = time.monotonic()
    answers = asyncio.run(ask_on(service, texts, clients=clients, size=size, seconds=seconds))
    took_s = time.monotonic() - began_s
    good = [answer for answer in answers if answer.status == "200"]
    waits_ms = sorted(1000 * (answer.given_s - answer.asked_s) for answer in good)
    return {
        "clients": clients,
        "texts_a_request": size,
        "texts_per_s": round(size * len(good) / took_s, 2),
        "answers": dict(Counter(answer.status for answer in answers)),
        **{f"p{share}_ms": round(at(waits_ms, share), 1) for share in (50, 95, 99)},
    }


def at(ordered: Sequence[float], percent: int) -> float:
    """Returns a percentile of sorted values, the next one above; NaN of none."""
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1] if ordered else math.nan


async def ask_on(
    service: Service, texts: Sequence[str], *, clients: int, size: int, seconds: float, leave: bool = False
) -> list[Answer]:
    """Asks for some seconds; refused clients wait as they are told.

    Args:
        service: Whom.
        texts: What, over and over.
        clients: How many at the same time, each with one request.
        size: Texts of a request.
        seconds: After which no client asks again.
        leave: Break off what is then under way; else it is waited for and counted.
    """
    bodies = [json.dumps({"texts": part}).encode() for part in cut(texts, size)]
    numbers, answers = count(), list[Answer]()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    headers = {"Content-Type": "application/json"}
    ends_s = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=service.url, timeout=600, limits=limits, headers=headers) as client:

        async def ask() -> None:
            while (asked_s := time.monotonic()) < ends_s:
                try:
                    response = await client.post("/v1/tag", content=bodies[next(numbers) % len(bodies)])
                    status, wait = str(response.status_code), response.headers.get("Retry-After", "0")
                except httpx.TransportError as error:
                    status, wait = type(error).__name__, "1"
                answers.append(Answer(asked_s, time.monotonic(), status))
                await asyncio.sleep(float(wait))

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds if leave else None):
                await asyncio.gather(*(ask() for _ in range(clients)))
    return answers


def load_record(loads: Sequence[dict[str, Any]], setup: dict[str, Any]) -> dict[str, Any]:
    """Returns the record of all loads; its value is the highest throughput."""
    sides = {f"{o['clients']} clients × {o['texts_a_request']}": [o["texts_per_s"]] for o in loads}
    return result(
        "serve-load",
        "texts a second of the HTTP service, highest of all loads",
        [max(one["texts_per_s"] for one in loads)],
        goal=None,
        unit="texts a second",
        sides=sides,
        sides_unit="texts a second",
        loads=list(loads),
        setup=setup,
    )


def draw_loads(loads: Sequence[dict[str, Any]]) -> Figure:
    """Draws throughput and latency over the number of clients."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    speed, wait = figure.subplots(1, 2)
    for size, style in zip(TEXTS, ("-", "--"), strict=True):
        some = [one for one in loads if one["texts_a_request"] == size]
        clients = [one["clients"] for one in some]
        speed.plot(
            clients, [one["texts_per_s"] for one in some], f"k{style}o", label=f"{size} texts a request"
        )
        for percent, colour in ((50, "#7aa6c2"), (95, "#c2937a"), (99, "#9c3b3b")):
            waits_s = [one[f"p{percent}_ms"] / 1000 for one in some]
            wait.plot(clients, waits_s, style, color=colour, marker="o", label=f"p{percent}, {size} texts")
    for axes, name in ((speed, "texts a second"), (wait, "seconds")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(CLIENTS, [str(n) for n in CLIENTS])
        axes.set_xlabel("clients")
        axes.set_ylabel(name)
        axes.legend(fontsize=7)
    speed.set_ylim(bottom=0)
    wait.set_yscale("log")
    return figure


def overload(service: Service, texts: Sequence[str], setup: dict[str, Any]) -> tuple[dict[str, Any], Figure]:
    """Returns the record of a calm, a storm and the calm after it, and its picture."""
    phases = {}
    for name, clients, seconds in (
        ("warm", _PLACES, 2.0),
        ("before", _PLACES, _CALM_S),
        ("storm", _TIMES * _PLACES, _STORM_S),
        ("after", _PLACES, _CALM_S),
    ):
        began_s = time.monotonic()
        leave = name == "storm"
        answers = asyncio.run(ask_on(service, texts, clients=clients, size=1, seconds=seconds, leave=leave))
        phases[name] = (began_s, answers)
    speeds = {name: per_second(began_s, answers) for name, (began_s, answers) in phases.items()}
    usual = statistics.median(speeds["before"])
    again = next((s for s, speed in enumerate(speeds["after"]) if speed >= _FULL_SPEED * usual), None)
    storm = Counter(answer.status for answer in phases["storm"][1])
    record = result(
        "overload",
        f"seconds until full speed after {_TIMES} times more clients than places",
        [_CALM_S if again is None else float(again)],  # or longer: it was not seen
        goal=5.0,
        better="lower",
        unit="seconds",
        sides={name: speeds[name] for name in ("before", "storm", "after")},
        sides_unit="texts a second",
        answers=dict(storm),
        setup={**setup, "places": _PLACES, "clients": _TIMES * _PLACES},
    )
    return record, draw_storm(speeds)


def per_second(began_s: float, answers: Sequence[Answer]) -> list[float]:
    """Returns the good answers of every whole second."""
    counts = Counter(int(a.given_s - began_s) for a in answers if a.status == "200")
    return [float(counts[second]) for second in range(max(1, max(counts, default=0)))]


def draw_storm(speeds: dict[str, list[float]]) -> Figure:
    """Draws good answers a second through the three phases."""
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    axes, start = figure.add_subplot(), 0
    for name, colour in (("before", "#7aa6c2"), ("storm", "#9c3b3b"), ("after", "#7aa6c2")):
        seconds = range(start, start + len(speeds[name]))
        axes.bar(seconds, speeds[name], width=0.9, align="edge", color=colour, label=name)
        start += len(speeds[name])
    axes.set_xlabel("seconds")
    axes.set_ylabel("texts a second")
    axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
