"""P5: how many of very many rows get the tokens of the merged model of their own adapter.

    python benchmarks/exactness.py --rows 3000                             # about 3 minutes on a slow core
    python benchmarks/exactness.py --workspace W --corpus panx --limit 100   # trained adapters, too

The whole engine decodes random rows: four architectures with random weights, adapters of different ranks,
scales and layers or none, random texts, prompts, right and wrong guesses, in bursts of random sizes, with
fewer slots than rows and fewer adapters in memory than there are, so that rows join and leave, wait and
adapters load again all the time. Half way every adapter gets new weights under a new digest while rows of the
old one are still under way.

Every answer is then held against the merged model, W + s · B A: fed the prompt and the answer's line, it must
prefer each token to all others that the grammar allows, which is what greedy decoding without batch, cache
and drafts would have chosen. Float64 must agree for every row, float32 where the model's two best allowed
logits are at least 1e-4 apart; rows that differ below that are counted: fewer than one in 10,000.

Not covered: the prior's say, which is taken out here; compositions of several adapters, which tests hold
against merged weights.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from measuring import flags, parsed, result, write
from recording import line_of, recorded

from retrieveall.engine.automaton import choices_along, label_grammar
from retrieveall.engine.protocol import Decoded, GuessedSpan, Row
from retrieveall.engine.transformers_engine import EngineConfig, TransformersEngine
from retrieveall.lora.weights import load_lora
from retrieveall.models.base import open_base
from retrieveall.prompting.codec import PromptCodec
from retrieveall.prompting.hierarchical import build_prompt
from retrieveall.types import EntityExample, Examples
from retrieveall.workspace import Workspace
from tests.models import (
    ARCHITECTURES,
    LABELS,
    LINEARS,
    SENTENCES,
    Architecture,
    save_tiny_adapter,
    save_tiny_base,
    tiny_model,
)

_CLEAR_GAP = 1e-4
_RECIPES: tuple[dict[str, Any], ...] = (
    {"rank": 8, "alpha": 16.0},
    {"rank": 16, "alpha": 8.0},
    {"rank": 4, "alpha": 12.0, "use_rslora": True},
    {"rank": 8, "alpha": 24.0, "targets": ("q_proj", "v_proj", "down_proj")},
    {"rank": 1, "alpha": 2.0, "targets": LINEARS},
)
_ADAPTER_BYTES = 400_000  # less than all adapters take, so that some are dropped and loaded again
_FLOAT64_SHARE = 0.25  # of the rows of float32
_PATIENCE_S = 300.0


@dataclass
class Count:
    """Rows of one kind."""

    rows: int = 0
    nearly_tied: int = 0  # differ where the two best logits are less than 1e-4 apart
    wrong: list[str] = field(default_factory=list)

    def add(self, gap: float | None, what: str, clear_gap: float) -> None:
        """Counts a row; `gap` is None where it agrees."""
        self.rows += 1
        if gap is not None and gap < clear_gap:
            self.nearly_tied += 1
        elif gap is not None:
            self.wrong.append(f"{what}, gap {gap:.2g}")


def main() -> None:
    """Counts and writes P5.

    Raises:
        AssertionError: A row differs that must not.
    """
    parser = flags(__doc__, rounds=1)
    parser.add_argument("--rows", type=int, default=3000, help="Rows of each architecture in float32.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workspace", help="With --corpus: rows of its current release, too.")
    parser.add_argument("--corpus")
    parser.add_argument("--limit", type=int, default=100, help="Test sentences per language of the corpus.")
    arguments = parsed(parser)
    counts = {
        f"{architecture}, {dtype}": random_rows(architecture, dtype, round(share * arguments.rows), arguments)
        for architecture in ARCHITECTURES
        for dtype, share in (("float64", _FLOAT64_SHARE), ("float32", 1.0))
    }
    if arguments.workspace and arguments.corpus:
        counts["trained adapters, float32"] = real_rows(arguments)
    rows, near = sum(c.rows for c in counts.values()), sum(c.nearly_tied for c in counts.values())
    wrong = [f"{kind}: {line}" for kind, count in counts.items() for line in count.wrong]
    record = result(
        "P5",
        "rows whose tokens are those of the merged model of their own adapter ÷ all rows",
        [1 - (near + len(wrong)) / rows],
        goal=0.9999,
        unit="share",
        sides={kind: [float(count.rows)] for kind, count in counts.items()},
        sides_unit="rows compared",
        checks={
            kind: {"rows": count.rows, "nearly_tied": count.nearly_tied, "wrong": len(count.wrong)}
            for kind, count in counts.items()
        },
        setup={"clear_gap": _CLEAR_GAP, "seed": arguments.seed, "rows": rows},
    )
    write(record, arguments.results)
    assert not wrong, "\n".join(wrong[:20])


def random_rows(architecture: Architecture, dtype: str, count: int, arguments: argparse.Namespace) -> Count:
    """Decodes random rows of one architecture and holds them against merged models."""
    with tempfile.TemporaryDirectory() as folder:
        world = RandomWorld(Path(folder), architecture, dtype)
        rng = random.Random(f"{arguments.seed} {architecture} {dtype}")
        try:
            answered = world.decode(count, rng)
        finally:
            world.engine.close()
        check = Checker(world.engine.codec, world.merged, 0.0 if dtype == "float64" else _CLEAR_GAP)
        return check.all(answered)


class RandomWorld:
    """An engine on a random base with random adapters."""

    def __init__(self, folder: Path, architecture: Architecture, dtype: str) -> None:
        self._folder, self._dtype = folder, dtype
        self._base = save_tiny_base(folder / "base", architecture)
        self._digests: list[str] = []
        for generation in range(2):
            for number, recipe in enumerate(_RECIPES):
                digest = f"adapter-{number}-{generation}"
                seed = 100 * generation + number
                save_tiny_adapter(folder / digest, tiny_model(architecture), seed=seed, **recipe)
                self._digests.append(digest)
        config = EngineConfig(
            base_model=self._base, dtype=dtype, max_batch_rows=12, adapter_bytes=_ADAPTER_BYTES
        )
        self.engine = TransformersEngine(config, lambda digest: folder / digest)

    def decode(self, count: int, rng: random.Random) -> list[tuple[Row, Decoded]]:
        """Decodes random rows in bursts; half way every adapter is another one."""
        under_way: list[tuple[Row, Future[Decoded]]] = []
        answered: list[tuple[Row, Decoded]] = []
        for number in range(count):
            row = self._row(rng, generation=int(number > count // 2))
            under_way.append((row, self.engine.submit(row)))
            if len(under_way) > rng.choice((1, 8, 60)):
                kept = rng.randint(0, len(under_way) // 2)  # some are still under way when others come
                for done, future in under_way[: len(under_way) - kept]:
                    answered.append((done, future.result(_PATIENCE_S)))
                under_way = under_way[len(under_way) - kept :]
        return answered + [(row, future.result(_PATIENCE_S)) for row, future in under_way]

    def merged(self, digest: str | None) -> Any:
        """Returns the base with one adapter written into its weights."""
        dtype = getattr(torch, self._dtype)
        model = open_base(str(self._base), dtype=dtype).model
        if digest is not None:
            write_into(model, self._folder / digest)
        return model

    def _row(self, rng: random.Random, *, generation: int) -> Row:
        codec = self.engine.codec
        words = " ".join(rng.sample(SENTENCES, rng.randint(1, 2))).split()
        start = rng.randrange(len(words))
        encoded = codec.text(" ".join(words[start : start + rng.randint(1, 14)]))
        shown = tuple(
            EntityExample(mention=rng.choice(words), label=rng.choice(LABELS))
            for _ in range(rng.randint(0, 6))
        )
        half = len(self._digests) // 2
        chosen = rng.choice([None, *self._digests[half * generation : half * (generation + 1)]])
        return Row(
            prompt_ids=build_prompt(codec, encoded, Examples(entity=shown)).ids,
            sentence=encoded,
            labels=LABELS,
            adapters=() if chosen is None else ((chosen, 1.0),),
            guess=random_guess(rng, len(encoded.units)),
        )


def random_guess(rng: random.Random, units: int) -> tuple[GuessedSpan, ...]:
    """Guesses some mentions in order."""
    borders = sorted(rng.randint(0, units) for _ in range(2 * rng.randint(0, 3)))
    return tuple(
        GuessedSpan(first_unit=a, end_unit=b, label=rng.choice(LABELS))
        for a, b in zip(borders[::2], borders[1::2], strict=True)
        if a < b
    )


def real_rows(arguments: argparse.Namespace) -> Count:
    """Decodes a corpus's sentences with the adapters of the current release; the model alone decides."""
    workspace = Workspace.open(arguments.workspace)
    found = recorded(workspace, arguments.corpus, arguments.limit)
    engine = TransformersEngine(EngineConfig(base_model=found.base.folder), workspace.pool.path)
    try:
        rows = [replace(row, prior=None) for row in found.rows]
        futures = [engine.submit(row) for row in rows]
        answered = [(row, future.result(_PATIENCE_S)) for row, future in zip(rows, futures, strict=True)]
    finally:
        engine.close()
    return Checker(found.base.codec, found.merged, _CLEAR_GAP).all(answered)


class Checker:
    """Holds answers against merged models.

    Args:
        codec: The base's.
        merged: From an adapter's digest, None for the base, to the merged model.
        clear_gap: Where the two best logits are less apart, rounding may choose either.
    """

    def __init__(self, codec: PromptCodec, merged: Callable[[str | None], Any], clear_gap: float) -> None:
        self._codec, self._merged, self._clear_gap = codec, merged, clear_gap

    def all(self, answered: Sequence[tuple[Row, Decoded]]) -> Count:
        """Counts the rows that agree; one merged model is there at a time."""
        count = Count()
        digests = {row.adapters[0][0] if row.adapters else None for row, _ in answered}
        for digest in sorted(digests, key=str):
            model = self._merged(digest)
            for row, decoded in answered:
                if (row.adapters[0][0] if row.adapters else None) == digest:
                    what = f"adapter {digest}, {len(row.prompt_ids)} prompt tokens"
                    count.add(self._gap(model, row, decoded), what, self._clear_gap)
        return count

    @torch.inference_mode()
    def _gap(self, model: Any, row: Row, decoded: Decoded) -> float | None:
        """Returns by how much the model prefers another token at the first one that it would not choose."""
        line = line_of(self._codec, row, decoded.spans)
        grammar = label_grammar(row.labels, tuple(map(self._codec.label, row.labels)))
        ids = torch.tensor([[*row.prompt_ids, *line[:-1]]])
        logits_LV = model(input_ids=ids, use_cache=False).logits[0, len(row.prompt_ids) - 1 :]
        for token, allowed, logits_V in zip(
            line, choices_along(row.sentence, grammar, line), logits_LV, strict=True
        ):
            chosen = logits_V[list(allowed)]
            if allowed[int(chosen.argmax())] != token:
                return float(chosen.max() - logits_V[token])
        return None


def write_into(model: Any, folder: Path) -> None:
    """Writes a PEFT adapter into a model's weights: W + s · B A."""
    linears = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    head = model.get_output_embeddings()
    shapes = {name: (m.in_features, m.out_features) for name, m in linears.items() if m is not head}
    lora = load_lora(folder, shapes, dtype=model.dtype, device=model.device)
    for name, pair in lora.pairs.items():
        linears[name].weight.data += (pair.a @ pair.b).T


if __name__ == "__main__":
    main()
