"""P1, P1c, P1d: what it costs that the rows of a batch have different adapters.

    python benchmarks/mixed_batch.py                # shape S, about 5 minutes on a slow core
    python benchmarks/mixed_batch.py --shape L      # bfloat16; many CPUs only emulate it

A base with random weights, 8 adapters of rank 16 on all linear layers, prompts of 48 to 256 tokens, lines as
long as PAN-X's. All sides run through the engine's running batch and choose among the whole vocabulary:

- P1: 8 adapters in turn, 16 rows at once, against one merged model. The same with an operation that gathers
  A and B for every token, and, for the merged model, with `generate` and `generate_batch` of transformers.
- P1c: 32 rows at once, each of an adapter of its own, against one merged model.
- P1d: a model with the LoRA layers, every row of the base alone, against a model without them.

First every row's tokens must be those of the merged model of its own adapter, `generate` and
`generate_batch` must give the merged model's, and the merged model must be no slower here than in `generate`
(`baseline`, at equal line lengths; below 0.95 the ratio to it means little, and the result says so).

Not covered: the grammar, drafts and forced tokens (they would hide the cost: see passes.py), adapters of
different ranks, loading of adapters, a GPU.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from decoding import Decoded, Decoder
from measuring import flags, parsed, print_profiles, result, spread, take_turns, write
from random_base import LANGUAGES, SHAPES, FreeRow, RandomBase, assert_right, lengths_for, shape_flags
from rivals import GatherPlan, generate, generate_batch

BATCH = 16
MANY = 32
_BASELINE_TOKENS = 16


def main() -> None:
    """Measures and writes P1, P1c and P1d."""
    parser = flags(__doc__, rounds=5)
    shape_flags(parser, rows=32)
    arguments = parsed(parser)
    suffix = "" if arguments.shape == "S" else f"-{arguments.shape}"
    few, lengths = RandomBase(SHAPES[arguments.shape], LANGUAGES), lengths_for(arguments)
    rows = few.rows(arguments.rows, lengths)
    write(mixed(few, rows, arguments), arguments.results, name=f"P1{suffix}")
    write(unused(few, rows, arguments), arguments.results, name=f"P1d{suffix}")
    many = RandomBase(SHAPES[arguments.shape], MANY)
    rows = many.rows(MANY, lengths)
    write(all_different(many, rows, arguments), arguments.results, name=f"P1c{suffix}")


def mixed(base: RandomBase, rows: Sequence[FreeRow], arguments: argparse.Namespace) -> dict[str, Any]:
    """P1, with the rivals beside it."""
    runs = Runs(base, rows)
    one, paged = base.merged(0), base.merged(0)  # generate_batch changes its model's attention
    runs.add("8 adapters", *base.attached(), adapters=True)
    runs.add("merged", one)
    runs.add("gather per token", *base.attached(), adapters=True, plan=GatherPlan)
    checked = assert_right(base, rows, runs.tokens("8 adapters"))
    gathered = assert_right(base, rows, runs.tokens("gather per token"))
    own = [replace(row, adapter=0) for row in rows]
    assert_right(base, own, generate(one, own, batch=BATCH))
    assert_right(base, own, generate_batch(paged, own, batch=BATCH))
    slow = {  # one turn is enough for what is far off, and they are slow
        "merged, generate_batch": lambda: generate_batch(paged, rows, batch=BATCH),
        "merged, generate": lambda: generate(one, rows, batch=BATCH),
        "gather per token": runs["gather per token"],
        "8 adapters": runs["8 adapters"],
        "merged": runs["merged"],
    }
    turns = take_turns({name: runs[name] for name in ("8 adapters", "merged")}, arguments.rounds)
    parts = runs.parts(("8 adapters", "merged"))
    beside = take_turns(slow, max(1, arguments.rounds // 3))
    if arguments.profile:
        print_profiles({name: runs[name] for name in ("8 adapters", "merged")})
    return result(
        "P1",
        "8 adapters in a batch of 16 ÷ one merged model, same engine",
        turns.speed_ratios("8 adapters", "merged"),
        goal=0.90,
        sides={**beside.wall_s, **turns.wall_s},
        cpu=turns.cpu("8 adapters", "merged"),
        parts=parts,
        decode_only=parts["merged"]["stepping_s"] / parts["8 adapters"]["stepping_s"],
        ratios_to_merged={
            name: statistics.median(beside.speed_ratios(name, "merged")) for name in slow if name != "merged"
        },
        baseline=baseline(base, rows, arguments.rounds),
        checks={"8 adapters": checked, "gather per token": gathered},
        setup={**base.facts(rows), "batch": BATCH},
    )


def baseline(base: RandomBase, rows: Sequence[FreeRow], rounds: int) -> dict[str, Any]:
    """The merged model here ÷ in `generate`: one batch, one length of line, the same cache of all layers."""
    model = base.merged(0)
    same = [replace(row, adapter=0, new_tokens=_BASELINE_TOKENS) for row in rows[:BATCH]]
    decoder, jobs = Decoder(model, max_rows=BATCH), base.jobs(same, adapters=False)
    sides: dict[str, Callable[[], object]] = {
        "engine": lambda: decoder.decode(jobs),
        "generate": lambda: generate(model, same, batch=BATCH),
    }
    turns = take_turns(sides, rounds)
    ratio = statistics.median(turns.speed_ratios("engine", "generate"))
    return {
        "ratio": ratio,
        "holds": ratio >= 0.95,
        "cpu": turns.cpu("engine", "generate"),
        "sides": {name: spread(values) for name, values in turns.wall_s.items()},
    }


def unused(base: RandomBase, rows: Sequence[FreeRow], arguments: argparse.Namespace) -> dict[str, Any]:
    """P1d: LoRA layers that no row uses."""
    runs = Runs(base, rows)
    runs.add("adapters loaded, unused", *base.attached(), adapters=False)
    runs.add("no LoRA layers", base.plain())
    assert runs.tokens("adapters loaded, unused") == runs.tokens("no LoRA layers")
    turns = take_turns(runs, arguments.rounds)
    return result(
        "P1d",
        "engine with adapters that no row uses ÷ engine without LoRA layers",
        turns.speed_ratios(*runs),
        goal=0.99,
        sides=turns.wall_s,
        cpu=turns.cpu(*runs),
        setup={**base.facts(rows), "batch": BATCH},
    )


def all_different(base: RandomBase, rows: Sequence[FreeRow], arguments: argparse.Namespace) -> dict[str, Any]:
    """P1c: as many adapters as rows."""
    runs = Runs(base, rows, max_rows=MANY)
    runs.add("32 adapters", *base.attached(), adapters=True)
    runs.add("merged", base.merged(0))
    checked = assert_right(base, rows, runs.tokens("32 adapters"))
    turns = take_turns(runs, arguments.rounds)
    parts = runs.parts(tuple(runs))
    if arguments.profile:
        print_profiles(runs)
    return result(
        "P1c",
        "32 adapters in a batch of 32 ÷ one merged model, same engine",
        turns.speed_ratios(*runs),
        goal=0.80,
        sides=turns.wall_s,
        cpu=turns.cpu(*runs),
        parts=parts,
        decode_only=parts["merged"]["stepping_s"] / parts["32 adapters"]["stepping_s"],
        checks=checked,
        setup={**base.facts(rows), "batch": MANY},
    )


class Runs(dict[str, Callable[[], Decoded]]):
    """Sides that decode the same rows, by name."""

    def __init__(self, base: RandomBase, rows: Sequence[FreeRow], *, max_rows: int = BATCH) -> None:
        self._base, self._rows, self._max_rows = base, rows, max_rows

    def add(self, name: str, model: Any, switch: Any = None, *, adapters: bool = False, **how: Any) -> None:
        """Adds a model; `adapters` says whether the rows' adapters act on it."""
        decoder = Decoder(model, switch, max_rows=self._max_rows, **how)
        jobs = self._base.jobs(self._rows, adapters=adapters)
        self[name] = lambda: decoder.decode(jobs)

    def tokens(self, name: str) -> list[list[int]]:
        """Runs a side and returns every row's tokens."""
        return [line.tokens for line in self[name]().lines]

    def parts(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Runs every side once more and returns the seconds of joining and of stepping."""
        found = {name: self[name]() for name in names}
        return {name: {"joining_s": d.joining_s, "stepping_s": d.stepping_s} for name, d in found.items()}


if __name__ == "__main__":
    main()
