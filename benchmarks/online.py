"""Do the service and the in-process tagger give the same entities?

    python benchmarks/online.py --workspace W --corpus panx --limit 1000      # some minutes

Test sentences of all languages, mixed, are tagged in this process and by a service on the same workspace
and release, over HTTP, several requests at once, so that batches differ. Start, end and label must be the
same and scores within 1e-3, but for one sentence in a thousand: sums in another order may tip a near tie.
Each sentence that differs is listed with the smallest gap between the two best allowed logits of its lines.

Not covered: several replicas, GPUs, bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from typing import Any

import torch
from measuring import flags, parsed, result, workspace_flags, write
from recording import Recorded, line_of, test_sentences
from serving import Service, serving

from retrieveall.answer import AnswerOptions, answer_body
from retrieveall.engine.automaton import choices_along, label_grammar
from retrieveall.engine.protocol import Decoded, EngineStats, Row
from retrieveall.engine.transformers_engine import TransformersEngine
from retrieveall.generation import Generator
from retrieveall.models.base import open_base
from retrieveall.opening import OpenTagger, open_tagger
from retrieveall.workspace import Workspace

_SCORE = 1e-3
_AT_ONCE = 4


def main() -> None:
    """Compares and writes the result.

    Raises:
        AssertionError: More sentences differ than near ties explain.
    """
    parser = flags(__doc__, rounds=1)
    workspace_flags(parser)
    parser.add_argument("--limit", type=int, default=1000, help="Sentences, over all languages.")
    parser.add_argument("--batch", type=int, default=32, help="Texts a request.")
    arguments = parsed(parser)
    workspace = Workspace.open(arguments.workspace)
    languages = sorted(workspace.releases.current().languages)
    rows = test_sentences(workspace, arguments.corpus, languages, -(-arguments.limit // len(languages)))
    texts = [row.text for row in rows][: arguments.limit]
    with serving(arguments.workspace, timeout_s=600.0) as service:
        online = asked(service, texts, arguments.batch)
    with open_tagger(workspace) as opened:
        offline = tagged(opened, texts, arguments.batch)
        differing = [i for i in range(len(texts)) if not alike(online[i], offline[i])]
        told = [difference(workspace, opened, texts[i], online[i], offline[i]) for i in differing]
    record = result(
        "online",
        "sentences whose entities over HTTP are the in-process tagger's ÷ all",
        [1 - len(differing) / len(texts)],
        goal=0.999,
        unit="share",
        sides={"sentences": [float(len(texts))], "with entities": [float(sum(map(bool, offline)))]},
        sides_unit="sentences",
        checks={"entities": sum(map(len, offline)), "differing": told},
        setup={"corpus": arguments.corpus, "languages": languages, "batch": arguments.batch},
    )
    write(record, arguments.results)
    for one in told:
        print(f"  {one}", flush=True)
    assert len(differing) <= max(1, len(texts) // 1000), f"{len(differing)} of {len(texts)} sentences differ"


def asked(service: Service, texts: Sequence[str], batch: int, *, at_once: int = _AT_ONCE) -> list[list[Any]]:
    """Returns the entities of each text over HTTP."""
    with service.client(connections=at_once, timeout_s=600) as client, ThreadPoolExecutor(at_once) as pool:

        def ask(some: Sequence[str]) -> list[list[Any]]:
            response = client.post("/v1/tag", json={"texts": some}).raise_for_status()
            return [one["entities"] for one in response.json()["results"]]

        return [one for part in pool.map(ask, cut(texts, batch)) for one in part]


def tagged(opened: OpenTagger, texts: Sequence[str], batch: int) -> list[list[Any]]:
    """Returns the entities of each text from the tagger in this process."""
    found = []
    for some in cut(texts, batch):
        body = answer_body(opened.tagger.release, some, opened.tagger.tag(some), AnswerOptions())
        found += [one["entities"] for one in body["results"]]
    return found


def cut(texts: Sequence[str], batch: int) -> list[list[str]]:
    """Returns the texts in parts."""
    return [list(texts[start : start + batch]) for start in range(0, len(texts), batch)]


def alike(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Compares two lists of entities; scores may differ a little."""
    return len(left) == len(right) and all(
        {**a, "score": 0} == {**b, "score": 0} and abs(a["score"] - b["score"]) <= _SCORE
        for a, b in zip(left, right, strict=True)
    )


def difference(
    workspace: Workspace, opened: OpenTagger, text: str, online: list[Any], offline: list[Any]
) -> dict[str, Any]:
    """Returns what differs in one text, and the smallest gap of the tagger's own answer."""
    listening = ListeningEngine(opened.engine)
    budget = workspace.settings().prompt.budget_tokens
    tagger = copy(opened.tagger)
    tagger._generator = Generator(listening, opened.engine.codec, budget_tokens=budget)
    tagger.tag([text])
    gaps = [smallest_gap(workspace, opened, row, future.result()) for row, future in listening.rows]
    known = [gap for gap in gaps if gap is not None]
    return {
        "characters": len(text),
        "online": _places(online),
        "offline": _places(offline),
        "smallest_gap": min(known) if known else None,
    }


class ListeningEngine:
    """Hands rows on and keeps them."""

    def __init__(self, engine: TransformersEngine) -> None:
        self._engine = engine
        self.rows: list[tuple[Row, Future[Decoded]]] = []

    def submit(self, row: Row) -> Future[Decoded]:
        """See `Engine.submit`."""
        future = self._engine.submit(row)
        self.rows.append((row, future))
        return future

    def stats(self) -> EngineStats:
        """See `Engine.stats`."""
        return self._engine.stats()

    def close(self) -> None:
        """The engine is closed elsewhere."""


@torch.inference_mode()
def smallest_gap(workspace: Workspace, opened: OpenTagger, row: Row, decoded: Decoded) -> float | None:
    """Returns by how much the two best allowed logits are apart where they are nearest.

    None for a row of several adapters, which no merged model stands for.
    """
    if len(row.adapters) != 1:
        return None
    base = open_base(opened.opened.base_model)
    ((digest, _),) = row.adapters
    model = Recorded(base=base, rows=[], adapters={digest: ""}, workspace=workspace).merged(digest)
    line = line_of(base.codec, row, decoded.spans)
    grammar = label_grammar(row.labels, tuple(map(base.codec.label, row.labels)))
    ids = torch.tensor([[*row.prompt_ids, *line[:-1]]])
    logits_LV = model(input_ids=ids, use_cache=False).logits[0, len(row.prompt_ids) - 1 :]
    gaps = []
    for allowed, logits_V in zip(choices_along(row.sentence, grammar, line), logits_LV, strict=True):
        if len(allowed) > 1:
            best, second = logits_V[list(allowed)].topk(2).values.tolist()
            gaps.append(best - second)
    return min(gaps, default=None)


def _places(entities: Sequence[Any]) -> list[tuple[int, int, str, float]]:
    return [(e["start_char"], e["end_char"], e["label"], round(e["score"], 4)) for e in entities]


if __name__ == "__main__":
    main()
