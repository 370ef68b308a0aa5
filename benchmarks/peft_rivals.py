"""P2, P3: against what PEFT's users have for rows of several adapters.

    python benchmarks/peft_rivals.py                # shape S, about 6 minutes on a slow core

The same random base, adapters and rows as in mixed_batch.py; useful tokens only, and those are the same on
both sides. `generate` gets batches of near prompt lengths and decodes each to its longest line.

- P2: `adapter_names` with `generate`, batches of 16 rows with 8 adapters.
- P2-32: the same with batches of 32 rows with 32 adapters.
- P3: every batch of 16 rows cut by language, `set_adapter` before each part. Rows are taken as they come: a
  user who holds thousands of rows can make whole batches of one language, and then needs no such engine.

First every row's tokens must be those of the merged model of its own adapter, on all sides.

Not covered: the grammar (PEFT's users have none), vLLM, a GPU, and training.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import peft
from decoding import Decoder
from measuring import flags, parsed, print_profiles, result, take_turns, write
from random_base import LANGUAGES, SHAPES, FreeRow, RandomBase, assert_right, lengths_for, shape_flags
from rivals import generate, generate_by_language

BATCH = 16
MANY = 32
_ENGINE = "engine"


def main() -> None:
    """Measures and writes P2, P2-32 and P3."""
    parser = flags(__doc__, rounds=3)
    shape_flags(parser, rows=32)
    arguments = parsed(parser)
    suffix = "" if arguments.shape == "S" else f"-{arguments.shape}"
    lengths = lengths_for(arguments)
    few, many = RandomBase(SHAPES[arguments.shape], LANGUAGES), RandomBase(SHAPES[arguments.shape], MANY)
    rows = few.rows(arguments.rows, lengths)
    by_names, by_language = of_peft(few, with_names=True), of_peft(few, with_names=False)
    for name, title, goal, base, taken, rival, batch in (
        ("P2", "engine ÷ PEFT adapter_names, 8 adapters, batch 16", 2.0, few, rows, by_names, BATCH),
        ("P3", "engine ÷ set_adapter per language, 8 adapters, batch 16", 4.0, few, rows, by_language, BATCH),
        (
            "P2-32",
            "engine ÷ PEFT adapter_names, 32 adapters, batch 32",
            3.0,
            many,
            many.rows(max(MANY, arguments.rows), lengths),
            of_peft(many, with_names=True),
            MANY,
        ),
    ):
        record = compare(name, title, goal, base, taken, rival, batch, arguments)
        write(record, arguments.results, name=f"{name}{suffix}")


Rival = Callable[[Sequence[FreeRow], int], list[list[int]]]


def of_peft(base: RandomBase, *, with_names: bool) -> Rival:
    """Returns the rival: rows and batch size in, tokens out."""
    model = base.with_peft()
    if with_names:
        return lambda rows, batch: generate(model, rows, batch=batch, with_names=True)
    return lambda rows, batch: generate_by_language(model, rows, batch=batch)


def compare(
    name: str,
    title: str,
    goal: float,
    base: RandomBase,
    rows: Sequence[FreeRow],
    rival: Rival,
    batch: int,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Checks both sides' tokens, then times them."""
    decoder = Decoder(*base.attached(), max_rows=batch)
    jobs = base.jobs(rows, adapters=True)
    ours = assert_right(base, rows, [line.tokens for line in decoder.decode(jobs).lines])
    theirs = assert_right(base, rows, rival(rows, batch))
    sides: dict[str, Callable[[], object]] = {
        _ENGINE: lambda: decoder.decode(jobs),
        "PEFT": lambda: rival(rows, batch),
    }
    turns = take_turns(sides, arguments.rounds)
    if arguments.profile:
        print_profiles(sides)
    return result(
        name,
        title,
        turns.speed_ratios(_ENGINE, "PEFT"),
        goal=goal,
        sides=turns.wall_s,
        cpu=turns.cpu(_ENGINE, "PEFT"),
        checks={_ENGINE: ours, "PEFT": theirs},
        setup={**base.facts(rows), "batch": batch, "peft": peft.__version__},
    )


if __name__ == "__main__":
    main()
