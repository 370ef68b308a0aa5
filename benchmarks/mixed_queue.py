"""P9c: one queue for the rows of all adapters ÷ Serve's multiplexing, which makes a batch per model id.

    python benchmarks/mixed_queue.py --workspace W --corpus sample      # about 2 minutes on two free cores

Two deployments on one Ray, each with one replica and the same engine and adapters. `mixed` hands every
sentence to the engine at once, whose running batch takes rows of all adapters. `multiplexed` is Serve's own
way: the language is the multiplexed model id, and `serve.batch` (32 at most, 10 ms) forms batches, which
Serve cuts by that id; a batch decodes as a whole, in one thread, before the next. 64 sentences are in
flight, languages at random; both must find the same entities first.

Not covered: HTTP, routing and retrieval, which both sides have alike; adapters that do not fit into memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from measuring import flags, parsed, result, take_turns, workspace_flags, write
from recording import test_sentences

from retrieveall.cli.process import ray_running, set_defaults
from retrieveall.generation import Generated, GenerationTask, Generator
from retrieveall.opening import OpenOptions, open_engine, open_retriever, read_release
from retrieveall.tagger import TextInput, compose, generation_task, pinned_route, retrieve_examples
from retrieveall.workspace import Workspace

_IN_FLIGHT = 64


def main() -> None:
    """Measures and writes P9c.

    Raises:
        AssertionError: The two find different entities.
    """
    parser = flags(__doc__, rounds=3)
    workspace_flags(parser)
    parser.add_argument("--limit", type=int, default=192, help="Sentences, over all languages.")
    arguments = parsed(parser)
    tasks = tasks_of(Workspace.open(arguments.workspace), arguments.corpus, arguments.limit)
    set_defaults()
    with ray_running():
        sides = deployed(arguments.workspace, arguments.threads, tasks)
        mixed, multiplexed = (call() for call in sides.values())
        differing = sum(_spans(a) != _spans(b) for a, b in zip(mixed, multiplexed, strict=True))
        assert differing <= max(1, len(tasks) // 1000), f"{differing} of {len(tasks)} sentences differ"
        turns = take_turns(sides, arguments.rounds, warm_up=False)
    record = result(
        "P9c",
        f"one mixed queue ÷ Serve-multiplexed batches per adapter, {_IN_FLIGHT} in flight",
        turns.speed_ratios("mixed", "multiplexed"),
        goal=3.0,
        sides=turns.wall_s,
        checks={"sentences_compared": len(tasks), "sentences_differing": differing},
        setup={
            "corpus": arguments.corpus,
            "sentences": len(tasks),
            "adapters": len({task.adapters for task, _ in tasks}),
        },
    )
    write(record, arguments.results)


def tasks_of(workspace: Workspace, corpus: str, limit: int) -> list[tuple[GenerationTask, str]]:
    """Returns the generator's tasks of test sentences and their languages, shuffled."""
    opened = read_release(workspace, OpenOptions())
    retriever = open_retriever(workspace, opened)
    languages = sorted(opened.adapters)
    rows = test_sentences(workspace, corpus, languages, -(-limit // len(languages)))[:limit]
    composed = [compose(pinned_route(row.language), opened.adapters) for row in rows]
    documents = [TextInput(text=row.text) for row in rows]
    examples = retrieve_examples(retriever, [one.text for one in documents], composed, None)
    tasks = [
        (generation_task(row.text, one, found), row.language)
        for row, one, found in zip(rows, composed, examples, strict=True)
    ]
    random.Random(0).shuffle(tasks)
    return tasks


def deployed(
    workspace: str, threads: int, tasks: Sequence[tuple[GenerationTask, str]]
) -> dict[str, Callable[[], list[Generated]]]:
    """Starts both deployments; returns what sends all tasks to each."""
    from pathlib import Path

    from ray import serve

    uri = str(Path(workspace).resolve())
    handles = {}
    for name, kind in (("mixed", mixed_class()), ("multiplexed", multiplexed_class())):
        plain: Any = serve.deployment(kind)
        sized = plain.options(name=name, ray_actor_options={"num_cpus": 0.5}, max_ongoing_requests=256)
        handles[name] = serve.run(sized.bind(uri, threads), name=name, route_prefix=None)

    def send(name: str, session: bool) -> list[Generated]:
        def ask(one: tuple[GenerationTask, str]) -> Generated:
            handle = handles[name].options(multiplexed_model_id=one[1]) if session else handles[name]
            answer: Generated = handle.tag.remote(one[0]).result(timeout_s=600)
            return answer

        with ThreadPoolExecutor(_IN_FLIGHT) as pool:
            return list(pool.map(ask, tasks))

    return {"mixed": lambda: send("mixed", False), "multiplexed": lambda: send("multiplexed", True)}


def open_generator(uri: str, threads: int) -> Generator:
    """Opens the engine of a workspace's current release."""
    workspace = Workspace.open(uri)
    settings = workspace.settings()
    engine = open_engine(workspace, read_release(workspace, OpenOptions()), settings, threads=threads)
    return Generator(engine, engine.codec, budget_tokens=settings.prompt.budget_tokens)


def mixed_class() -> type[Any]:
    """Returns our deployment; made in a function, so that Ray sends it by value."""
    from serve_apps.threads import Threads

    class Mixed:
        def __init__(self, uri: str, threads: int) -> None:
            self._generator = open_generator(uri, threads)
            self._threads = Threads("mixed", _IN_FLIGHT, library_threads=threads)

        async def tag(self, task: GenerationTask) -> Generated:
            return (await self._threads.run(self._generator.generate, [task]))[0]

    return Mixed


def multiplexed_class() -> type[Any]:
    """Returns the rival."""
    from ray import serve

    from serve_apps.threads import Threads

    class Multiplexed:
        def __init__(self, uri: str, threads: int) -> None:
            self._generator = open_generator(uri, threads)
            self._threads = Threads("multiplexed", 1, library_threads=threads)

        @serve.multiplexed(max_num_models_per_replica=64)
        async def adapter(self, language: str) -> str:
            return language

        @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.01)
        async def tag(self, tasks: list[GenerationTask]) -> list[Generated]:
            await self.adapter(serve.get_multiplexed_model_id())
            return await self._threads.run(self._generator.generate, tasks)

    return Multiplexed


def _spans(answer: Generated) -> list[tuple[int, int, str]]:
    return [(entity.start_char, entity.end_char, entity.label) for entity in answer.entities]


if __name__ == "__main__":
    main()
