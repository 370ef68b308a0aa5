"""P6: rows that join as others leave, against batches that end together.

    python benchmarks/continuous.py                # shape S, about 2 minutes on a slow core

The random base, its 8 adapters and the rows of mixed_batch.py, 16 rows at once. The static side is the same
running batch, 16 rows as they come, each decoded until the longest line of its batch has ended, as batches
of `generate` are. Beside it (`ratio_to_kind`) a kinder one, whose finished rows leave at once; rows join
once all have left. All must give the tokens of the merged models.

The ratio depends on how long lines are beside prompts: tag lines are a twelfth of the tokens of their
prompts here, so most of the time is the prompts', which no batching saves. `decode_only` is the ratio of
the steps' time alone.

Not covered: rows that come in over time, as in a service, where a static batch lets new rows wait too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from decoding import Decoded, Decoder, Job
from measuring import flags, parsed, print_profiles, result, spread, take_turns, write
from random_base import LANGUAGES, SHAPES, FreeRow, RandomBase, assert_right, lengths_for, shape_flags

BATCH = 16


def main() -> None:
    """Measures and writes P6."""
    parser = flags(__doc__, rounds=3)
    shape_flags(parser, rows=64)
    arguments = parsed(parser)
    base = RandomBase(SHAPES[arguments.shape], LANGUAGES)
    rows = base.rows(arguments.rows, lengths_for(arguments))
    model, switch = base.attached()
    decoders = {
        "continuous": Decoder(model, switch, max_rows=BATCH),
        "static": Decoder(model, switch, max_rows=BATCH, join_room=1.0),
        "static, finished rows leave": Decoder(model, switch, max_rows=BATCH, join_room=1.0),
    }
    batches = {"static": in_full(rows)}
    jobs = {name: [base.jobs(some, adapters=True) for some in batches.get(name, [rows])] for name in decoders}
    sides = {name: lambda name=name: decoded(decoders[name], jobs[name]) for name in decoders}
    found = {name: call() for name, call in sides.items()}
    checks = {name: assert_right(base, rows, lines_of(parts, rows)) for name, parts in found.items()}
    turns = take_turns(sides, arguments.rounds)
    if arguments.profile:
        print_profiles(sides)
    seconds = {
        name: {
            "joining_s": sum(part.joining_s for part in parts),
            "stepping_s": sum(part.stepping_s for part in parts),
        }
        for name, parts in ((name, call()) for name, call in sides.items())
    }
    record = result(
        "P6",
        "continuous ÷ static batching, lines of uneven length",
        turns.speed_ratios("continuous", "static"),
        goal=1.5,
        sides=turns.wall_s,
        cpu=turns.cpu("continuous", "static"),
        ratio_to_kind=spread(turns.speed_ratios("continuous", "static, finished rows leave")),
        decode_only=seconds["static"]["stepping_s"] / seconds["continuous"]["stepping_s"],
        parts=seconds,
        checks=checks,
        setup={**base.facts(rows), "batch": BATCH},
    )
    write(record, arguments.results, name="P6" if arguments.shape == "S" else f"P6-{arguments.shape}")


def in_full(rows: Sequence[FreeRow]) -> list[list[FreeRow]]:
    """Returns batches of rows in their order, all rows of a batch as long as its longest."""
    batches = []
    for first in range(0, len(rows), BATCH):
        some = rows[first : first + BATCH]
        longest = max(row.new_tokens for row in some)
        batches.append([replace(row, new_tokens=longest) for row in some])
    return batches


def decoded(decoder: Decoder, batches: Sequence[Sequence[Job]]) -> list[Decoded]:
    """Decodes one batch after the other."""
    return [decoder.decode(jobs) for jobs in batches]


def lines_of(parts: Sequence[Decoded], rows: Sequence[FreeRow]) -> list[list[int]]:
    """Returns the tokens of each row that were asked for."""
    lines = [line.tokens for part in parts for line in part.lines]
    return [tokens[: row.new_tokens] for tokens, row in zip(lines, rows, strict=True)]


if __name__ == "__main__":
    main()
