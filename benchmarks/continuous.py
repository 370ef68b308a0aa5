"""P6: rows that join as others leave, against batches that end together.

    python benchmarks/continuous.py                # shape S, about 2 minutes on a slow core

The random base, its 8 adapters and the rows of mixed_batch.py, 16 rows at once. The static side is the same
running batch where rows join only once all have left; finished rows leave it, so that it computes no row
longer than needed, which is kinder than a padded batch. Both must give the same tokens as the merged models.

The ratio depends on how long lines are beside prompts: tag lines are a twelfth of the tokens of their
prompts here, so most of the time is the prompts', which no batching saves. `decode_only` is the ratio of
the steps' time alone.

Not covered: rows that come in over time, as in a service, where a static batch lets new rows wait too.
"""

from __future__ import annotations

from decoding import Decoder
from measuring import flags, parsed, print_profiles, result, take_turns, write
from random_base import LANGUAGES, SHAPES, RandomBase, assert_right, lengths_for, shape_flags

BATCH = 16


def main() -> None:
    """Measures and writes P6."""
    parser = flags(__doc__, rounds=3)
    shape_flags(parser, rows=64)
    arguments = parsed(parser)
    base = RandomBase(SHAPES[arguments.shape], LANGUAGES)
    rows = base.rows(arguments.rows, lengths_for(arguments))
    model, switch = base.attached()
    jobs = base.jobs(rows, adapters=True)
    decoders = {
        "continuous": Decoder(model, switch, max_rows=BATCH),
        "static": Decoder(model, switch, max_rows=BATCH, join_room=1.0),
    }
    found = {name: decoder.decode(jobs) for name, decoder in decoders.items()}
    checks = {
        name: assert_right(base, rows, [line.tokens for line in decoded.lines])
        for name, decoded in found.items()
    }
    sides = {name: lambda decoder=decoder: decoder.decode(jobs) for name, decoder in decoders.items()}
    turns = take_turns(sides, arguments.rounds)
    found = {name: call() for name, call in sides.items()}
    if arguments.profile:
        print_profiles(sides)
    record = result(
        "P6",
        "continuous ÷ static batching, lines of uneven length",
        turns.speed_ratios("continuous", "static"),
        goal=1.5,
        sides=turns.wall_s,
        cpu=turns.cpu("continuous", "static"),
        decode_only=found["static"].stepping_s / found["continuous"].stepping_s,
        parts={n: {"joining_s": d.joining_s, "stepping_s": d.stepping_s} for n, d in found.items()},
        checks=checks,
        setup={**base.facts(rows), "batch": BATCH},
    )
    write(record, arguments.results, name="P6" if arguments.shape == "S" else f"P6-{arguments.shape}")


if __name__ == "__main__":
    main()
