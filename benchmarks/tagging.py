"""Sentences a second of the whole tagger, and where its time goes.

    python benchmarks/tagging.py --workspace W --corpus panx --limit 50     # about 2 minutes on a slow core

Test sentences of all languages, mixed, through the current release: routed, with examples, one sentence a
text. They are tagged 1, 8 and 32 at a time; first all three must find the same entities (one sentence in a
thousand may differ: sums in another order). The split runs the tagger's own stages one after the other;
`prompt` is windows, prompts and guesses, `engine` from the first row handed in to the last answer.

Not covered: HTTP and Ray, splitting of long texts, several callers at once, F1 (see `retrieveall eval`).
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from measuring import flags, parsed, result, take_turns, workspace_flags, write
from recording import RecordingEngine, test_sentences

from retrieveall.engine.transformers_engine import TransformersEngine
from retrieveall.generation import Generator
from retrieveall.opening import (
    OpenOptions,
    open_engine,
    open_release_router,
    open_retriever,
    read_release,
)
from retrieveall.release_retriever import ReleaseRetriever
from retrieveall.tagger import (
    SentenceRouter,
    ServedAdapter,
    Tagger,
    TextInput,
    compose,
    generation_task,
    plan_documents,
    retrieve_examples,
    route_sentences,
)
from retrieveall.workspace import Workspace

BATCHES = (1, 8, 32)
_STAGES = ("routing", "retrieval", "prompt", "engine")


class Parts:
    """A release opened part by part, so that its stages can be timed."""

    def __init__(self, workspace: Workspace, *, threads: int) -> None:
        opened, settings = read_release(workspace, OpenOptions()), workspace.settings()
        self.adapters: dict[str, ServedAdapter] = opened.adapters
        self.retriever: ReleaseRetriever = open_retriever(workspace, opened)
        self.router: SentenceRouter = open_release_router(workspace, opened, self.retriever, None)
        self.engine: TransformersEngine = open_engine(workspace, opened, settings, threads=threads)
        self.budget_tokens = settings.prompt.budget_tokens
        self.tagger = Tagger(
            release=opened.release.number,
            adapters=self.adapters,
            router=self.router,
            retriever=self.retriever,
            generator=Generator(self.engine, self.engine.codec, budget_tokens=self.budget_tokens),
        )

    def tag(self, texts: Sequence[str], batch: int) -> list[Any]:
        """Tags texts, so many at a time."""
        chunks = (texts[start : start + batch] for start in range(0, len(texts), batch))
        return [tagged for chunk in chunks for tagged in self.tagger.tag(chunk, split=False)]

    def split_s(self, texts: Sequence[str], batch: int) -> dict[str, float]:
        """Returns the seconds of every stage over all texts."""
        seconds = dict.fromkeys(_STAGES, 0.0)
        for start in range(0, len(texts), batch):
            for stage, duration_s in self._stages(texts[start : start + batch]).items():
                seconds[stage] += duration_s
        return seconds

    def _stages(self, texts: Sequence[str]) -> dict[str, float]:
        documents = [TextInput(text=text) for text in texts]
        spans = plan_documents(documents, self.adapters, split=False)
        clock = [time.perf_counter()]
        routed = route_sentences(self.router, documents, spans)
        clock.append(time.perf_counter())
        composed = [compose(route, self.adapters) for route in routed.routes]
        examples = retrieve_examples(self.retriever, texts, composed, routed.embeddings)
        clock.append(time.perf_counter())
        recording = RecordingEngine()
        generator = Generator(recording, self.engine.codec, budget_tokens=self.budget_tokens)
        generator.generate(
            [generation_task(t, c, e) for t, c, e in zip(texts, composed, examples, strict=True)]
        )
        clock.append(time.perf_counter())
        for future in [self.engine.submit(row) for row in recording.rows]:
            future.result()
        clock.append(time.perf_counter())
        return {stage: b - a for stage, a, b in zip(_STAGES, clock[:-1], clock[1:], strict=True)}


def main() -> None:
    """Measures and writes ``tagging``."""
    parser = flags(__doc__, rounds=3)
    workspace_flags(parser)
    parser.add_argument("--limit", type=int, default=50, help="Test sentences per language.")
    arguments = parsed(parser)
    workspace = Workspace.open(arguments.workspace)
    parts = Parts(workspace, threads=arguments.threads)
    rows = test_sentences(workspace, arguments.corpus, sorted(parts.adapters), arguments.limit)
    random.Random(0).shuffle(rows)
    texts = [row.text for row in rows]
    try:
        differing = differing_texts(parts, texts)
        sides: dict[str, Callable[[], object]] = {
            f"{batch} at a time": lambda batch=batch: parts.tag(texts, batch) for batch in BATCHES
        }
        turns = take_turns(sides, arguments.rounds)
        split = {f"{batch} at a time": parts.split_s(texts, batch) for batch in BATCHES}
    finally:
        parts.engine.close()
    largest = list(sides)[-1]
    record = result(
        "tagging",
        f"sentences a second of the tagger, {largest}",
        [len(texts) / seconds for seconds in turns.wall_s[largest]],
        goal=None,
        unit="sentences a second",
        sides=turns.wall_s,
        sentences_per_s={n: len(texts) / statistics.median(s) for n, s in turns.wall_s.items()},
        cpu_ms_per_sentence={n: 1000 * min(s) / len(texts) for n, s in turns.cpu_s.items()},
        split_s=split,
        checks={"sentences_compared": len(texts), "sentences_differing": differing},
        setup={"corpus": arguments.corpus, "sentences": len(texts), "languages": sorted(parts.adapters)},
    )
    write(record, arguments.results)


def differing_texts(parts: Parts, texts: Sequence[str]) -> int:
    """Returns how many texts have other entities in batches of other sizes.

    Raises:
        AssertionError: More than sums in another order explain.
    """
    found = [
        [[(e.start_char, e.end_char, e.label) for e in tagged.entities] for tagged in parts.tag(texts, batch)]
        for batch in BATCHES
    ]
    differing = sum(any(one != first for one in others) for first, *others in zip(*found, strict=True))
    assert differing <= max(1, len(texts) // 1000), f"{differing} of {len(texts)} texts depend on the batch"
    return differing


if __name__ == "__main__":
    main()
