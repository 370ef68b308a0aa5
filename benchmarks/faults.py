"""Kills each part of a running service under load and counts how every request ends.

    python benchmarks/faults.py --workspace W --corpus sample        # 1,000 requests each; several minutes
    python benchmarks/faults.py --workspace W --corpus sample --requests 60

Starts a Ray of its own with the whole application on it and sends one sentence a request, from several
clients at once, in six runs: undisturbed, then with SIGKILL in the middle of the run to the process of the
generator, the retriever, the router, the ingress, and to Serve's HTTP proxy. A request must end in the
answer that it has alone (scores within 1e-3) or in an error of the documented shape that says when to come
back; where the proxy dies, it may also lose its connection. Nothing else, and nothing later than
`--timeout-s`. As clients should, each comes back after the seconds that an error names. Each run also says
how long it took from the kill until a request that began after it was answered right.

Not covered: machines that go away, networks that break, a dead Serve controller.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
from measuring import flags, parsed, result, workspace_flags, write
from recording import test_sentences
from serving import Service, children_named, serving

from retrieveall.workspace import Workspace

PARTS = {
    "generator": "ServeReplica:retrieveall:generator",
    "retriever": "ServeReplica:retrieveall:retriever",
    "router": "ServeReplica:retrieveall:router",
    "ingress": "ServeReplica:retrieveall:ingress",
    "proxy": "ProxyActor",
}
_RIGHT, _LOST = "right answer", "connection lost"
_HINTED = {429, 503, 504}
_SCORE = 1e-3


@dataclass(frozen=True)
class End:
    """How one request ended, on the monotonic clock."""

    began_s: float
    ended_s: float
    how: str
    is_fine: bool


def main() -> None:
    """Counts and writes the result.

    Raises:
        AssertionError: A request ended in another way.
    """
    parser = flags(__doc__, rounds=1)
    workspace_flags(parser)
    parser.add_argument("--requests", type=int, default=1000, help="Requests of each run.")
    parser.add_argument("--clients", type=int, default=16, help="Requests at the same time.")
    parser.add_argument("--timeout-s", type=float, default=90.0, help="A request that takes longer hangs.")
    parser.add_argument("--kill", default=",".join(PARTS), help="Parts to kill, one run each.")
    arguments = parsed(parser)
    with serving(arguments.workspace) as service:
        load = Load(service, arguments)
        runs = {part: load.run(part) for part in ("nothing", *arguments.kill.split(","))}
    requests, wrong = arguments.requests * len(runs), sum(run["wrong"] for run in runs.values())
    record = result(
        "faults",
        "requests that ended in the right answer or a documented error while processes were killed ÷ all",
        [1 - wrong / requests],
        goal=1.0,
        unit="share",
        sides={f"kill {part}": [run["s_until_right"]] for part, run in runs.items() if run["s_until_right"]},
        sides_unit="seconds from the kill to the next right answer",
        runs=runs,
        setup={"requests": arguments.requests, "clients": arguments.clients, "corpus": arguments.corpus},
    )
    write(record, arguments.results)
    for part, run in runs.items():
        print(f"  kill {part}: {run}", flush=True)
    assert not wrong, f"{wrong} of {requests} requests ended in another way"


class Load:
    """Requests whose right answers are known."""

    def __init__(self, service: Service, arguments: argparse.Namespace) -> None:
        self._service, self._arguments = service, arguments
        workspace = Workspace.open(arguments.workspace)
        languages = sorted(workspace.releases.current().languages)
        texts = [row.text for row in test_sentences(workspace, arguments.corpus, languages, 10)]
        random.Random(0).shuffle(texts)
        with service.client() as client:
            answers = [client.post("/v1/tag", json={"texts": [text]}).raise_for_status() for text in texts]
        self._known = [(text, _entities(answer)) for text, answer in zip(texts, answers, strict=True)]

    def run(self, part: str) -> dict[str, Any]:
        """Sends all requests and kills a part when a third of them have ended."""
        ends: list[End] = []
        numbers, lock = iter(range(self._arguments.requests)), threading.Lock()
        killed_s: list[float] = []

        def next_number() -> int | None:
            with lock:
                if part in PARTS and not killed_s and len(ends) >= self._arguments.requests // 3:
                    killed_s.append(kill(PARTS[part]))
                return next(numbers, None)

        def ask_on(_: int) -> None:
            with self._service.client(timeout_s=self._arguments.timeout_s) as client:
                while (number := next_number()) is not None:
                    ends.append(self._end(client, number, part))

        began_s = time.monotonic()
        with ThreadPoolExecutor(self._arguments.clients) as pool:
            list(pool.map(ask_on, range(self._arguments.clients)))
        took_s = time.monotonic() - began_s
        self._service.wait_until_ready()
        return summary(ends, self._arguments.requests, killed_s, took_s)

    def _end(self, client: httpx.Client, number: int, part: str) -> End:
        text, expected = self._known[number % len(self._known)]
        began_s, wait_s = time.monotonic(), 0.0
        try:
            response = client.post("/v1/tag", json={"texts": [text]})
            how, is_fine = judged(response, expected)
            wait_s = float(response.headers.get("Retry-After", 0.0))
        except httpx.TimeoutException:
            how, is_fine = f"no end within {self._arguments.timeout_s:g} s", False
        except httpx.TransportError:
            how, is_fine, wait_s = _LOST, part == "proxy", 2.0
        ended_s = time.monotonic()
        time.sleep(min(wait_s, 2.0))
        return End(began_s, ended_s, how, is_fine)


def judged(response: httpx.Response, expected: list[Any]) -> tuple[str, bool]:
    """Returns how a request ended, and whether it may."""
    if response.status_code == 200:
        is_right = _alike(_entities(response), expected)
        return (_RIGHT if is_right else "wrong answer"), is_right
    try:
        code = json.loads(response.content)["code"]
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.text[:80]!r}", False
    return (
        f"{response.status_code} {code}",
        response.status_code in _HINTED and "Retry-After" in response.headers,
    )


def summary(ends: Sequence[End], requests: int, killed_s: Sequence[float], took_s: float) -> dict[str, Any]:
    """Returns the counts of one run."""
    seconds = sorted(end.ended_s - end.began_s for end in ends)
    again = [e.ended_s for e in ends if killed_s and e.how == _RIGHT and e.began_s > killed_s[0]]
    return {
        "ends": dict(Counter(end.how for end in ends)),
        "wrong": requests - sum(end.is_fine for end in ends),
        "slowest_s": round(seconds[-1], 2),
        "took_s": round(took_s, 1),
        "s_until_right": round(min(again) - killed_s[0], 2) if again else None,
    }


def kill(title: str) -> float:
    """Ends a process of this benchmark's own Ray at once; returns when, on the monotonic clock."""
    pids = children_named(title)
    assert pids, f"no process of ours is called {title}"
    os.kill(pids[0], signal.SIGKILL)
    return time.monotonic()


def _entities(response: httpx.Response) -> list[Any]:
    found: list[Any] = response.json()["results"][0]["entities"]
    return found


def _alike(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(
        {**a, "score": 0} == {**b, "score": 0} and abs(a["score"] - b["score"]) <= _SCORE
        for a, b in zip(left, right, strict=True)
    )


if __name__ == "__main__":
    main()
