"""P7, P7b, P7d: what forced tokens, drafts and the grammar do, on real sentences with trained adapters.

    python benchmarks/passes.py --workspace W --corpus panx --limit 25     # about 3 minutes on a slow core

The rows are those that the tagger makes of the corpus's test sentences. Through the engine's running batch:

- P7: forward passes a sentence, one token a pass ÷ with forced tokens and drafts. A count, no timing.
- P7b-4, P7b-16: the same as wall time, 4 and 16 rows at once.
- P7b-wrong: forced tokens alone ÷ with guesses that are always wrong, 16 rows at once: what drafts cost
  where they do not pay, until the engine pauses them.
- P7d: the grammar one token a pass ÷ as many tokens chosen freely from the vocabulary, 16 rows at once.

First all constrained sides must give the same spans.

Not covered: retrieval and prompts (see tagging.py), several adapters on one row, a GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from decoding import Decoded, Decoder, FreeLine, Job, PlainLine, TagLine, VocabularyScorer
from measuring import flags, parsed, print_profiles, result, take_turns, workspace_flags, write
from recording import Recorded, line_of, recorded

from retrieveall.engine.automaton import LabelGrammar, label_grammar
from retrieveall.engine.head import AllowedScorer
from retrieveall.engine.protocol import GuessedSpan, Row
from retrieveall.workspace import Workspace

_OURS, _FORCED, _PLAIN = "forced tokens and drafts", "forced tokens", "one token a pass"


def main() -> None:
    """Measures and writes P7, P7b and P7d."""
    parser = flags(__doc__, rounds=3)
    workspace_flags(parser)
    parser.add_argument("--limit", type=int, default=25, help="Test sentences per language.")
    parser.add_argument("--profile", action="store_true", help="Print where each side's time goes, too.")
    arguments = parsed(parser)
    sides = Sides(recorded(Workspace.open(arguments.workspace), arguments.corpus, arguments.limit))
    facts = {"corpus": arguments.corpus, **sides.facts}
    write(counted(sides, facts), arguments.results)
    for batch, goal in ((4, 1.6), (16, 1.25)):
        title = f"forced tokens and drafts ÷ one token a pass, same spans, batch {batch}"
        pair = {name: sides.run(name, batch) for name in (_OURS, _PLAIN)}
        write(timed(f"P7b-{batch}", title, goal, pair, facts, arguments), arguments.results)
    write(wrong(sides, facts, arguments), arguments.results)
    write(free(sides, facts, arguments), arguments.results)


class Sides:
    """The ways to decode the same rows.

    Args:
        found: The rows and the model's parts.
    """

    def __init__(self, found: Recorded) -> None:
        self._codec = found.base.codec
        self._model, self._switch, loras = found.attached()
        self._lora = {digest: ((lora, 1.0),) for digest, lora in loras.items()}
        self.rows = found.rows
        self.facts = {
            "rows": len(found.rows),
            "adapters": len(loras),
            "rank": max(lora.rank for lora in loras.values()),
            "prompt_tokens": sum(len(row.prompt_ids) for row in found.rows),
        }

    def run(self, name: str, batch: int, rows: Sequence[Row] | None = None) -> Callable[[], Decoded]:
        """Returns a side; every call starts with a fresh running batch, so that no pause lives on."""
        jobs = [self._job(row, name) for row in rows or self.rows]
        return lambda: self._decoder(AllowedScorer, batch).decode(jobs)

    def run_free(self, rows: Sequence[Row], lengths: Sequence[int], batch: int) -> Callable[[], Decoded]:
        """Returns the side that chooses so many tokens freely, behind the prompts of rows without a prior."""
        jobs = [
            Job(row=row, line=lambda length=length: FreeLine(length), lora=self._lora[row.adapters[0][0]])
            for row, length in zip(rows, lengths, strict=True)
        ]
        return lambda: self._decoder(VocabularyScorer, batch).decode(jobs)

    def line(self, row: Row, spans: Sequence[Any]) -> list[int]:
        """Returns the tokens of a row's line."""
        return line_of(self._codec, row, spans)

    def _decoder(self, scorer: type[AllowedScorer], batch: int) -> Decoder:
        return Decoder(self._model, self._switch, scorer=scorer, max_rows=batch)

    def _job(self, row: Row, name: str) -> Job:
        kind = PlainLine if name == _PLAIN else TagLine
        grammar, end_id = self._grammar(row), self._codec.end_id
        return Job(
            row=row if name == _OURS else replace(row, guess=()),
            line=lambda: kind(row.sentence, grammar, end_id),
            lora=self._lora[row.adapters[0][0]],
        )

    def _grammar(self, row: Row) -> LabelGrammar:
        return label_grammar(row.labels, tuple(map(self._codec.label, row.labels)))


def spans_of(decoded: Decoded) -> list[list[tuple[int, int, str]]]:
    """Returns every row's entities."""
    return [[(s.start_char, s.end_char, s.label) for s in line.spans()] for line in decoded.lines]


def counted(sides: Sides, facts: dict[str, Any]) -> dict[str, Any]:
    """P7, and the check that all sides agree."""
    found = {name: sides.run(name, 16)() for name in (_OURS, _FORCED, _PLAIN)}
    spans = {name: spans_of(decoded) for name, decoded in found.items()}
    differing = sum(len({str(spans[name][i]) for name in spans}) > 1 for i in range(len(sides.rows)))
    assert differing <= len(sides.rows) // 1000, f"{differing} rows have other spans with drafts than without"
    count = len(sides.rows)
    ours, plain = found[_OURS], found[_PLAIN]
    assert plain.row_passes == sum(line.steps for line in plain.lines)
    return result(
        "P7",
        "forward passes a sentence, one token a pass ÷ ours, same spans",
        [plain.row_passes / ours.row_passes],
        goal=2.0,
        sides={name: [decoded.row_passes / count] for name, decoded in found.items()},
        sides_unit="forward passes a sentence",
        drafts={"drafted_tokens": ours.drafted_tokens, "accepted_tokens": ours.accepted_tokens},
        checks={"rows_compared": count, "rows_differing": differing},
        setup=facts,
    )


def timed(
    name: str,
    title: str,
    goal: float,
    sides: dict[str, Callable[[], Decoded]],
    facts: dict[str, Any],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Times two sides, the first ÷ the second."""
    first, second = sides
    found = {side: call() for side, call in sides.items()}
    turns = take_turns(sides, arguments.rounds)
    if arguments.profile:
        print_profiles(sides)
    return result(
        name,
        title,
        turns.speed_ratios(first, second),
        goal=goal,
        sides=turns.wall_s,
        cpu=turns.cpu(first, second),
        parts={side: {"joining_s": d.joining_s, "stepping_s": d.stepping_s} for side, d in found.items()},
        drafts={side: [d.drafted_tokens, d.accepted_tokens] for side, d in found.items()},
        setup=facts,
    )


def wrong(sides: Sides, facts: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """P7b-wrong: guesses that never come true."""
    right = sides.run(_FORCED, 16)()
    rows = [wrong_guess(row, line.spans()) for row, line in zip(sides.rows, right.lines, strict=True)]
    guessing = sides.run(_OURS, 16, rows)
    assert spans_of(guessing()) == spans_of(right), "wrong guesses change spans"
    pair = {"wrong guesses": guessing, _FORCED: sides.run(_FORCED, 16)}
    title = "with guesses that are always wrong ÷ without guesses, batch 16"
    return timed("P7b-wrong", title, 0.98, pair, facts, arguments)


def wrong_guess(row: Row, spans: Sequence[Any]) -> Row:
    """Guesses every unit to be a mention that the answer does not have."""
    taken = {row.sentence.unit_range(span.start_char, span.end_char): span.label for span in spans}
    guess = tuple(
        GuessedSpan(
            first_unit=unit,
            end_unit=unit + 1,
            label=next(label for label in row.labels if label != taken.get((unit, unit + 1))),
        )
        for unit in range(len(row.sentence.units))
    )
    return replace(row, guess=guess)


def free(sides: Sides, facts: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """P7d: the price of the grammar, without the prior's."""
    rows = [replace(row, prior=None) for row in sides.rows]
    plain = sides.run(_PLAIN, 16, rows)
    lines = plain().lines
    for row, line in zip(rows, lines, strict=True):
        assert len(sides.line(row, line.spans())) == line.steps
    unconstrained = sides.run_free(rows, [line.steps for line in lines], 16)
    pair = {"constrained": plain, "unconstrained": unconstrained}
    title = "constrained ÷ unconstrained, one token a pass, same number of tokens, batch 16"
    return timed("P7d", title, 0.97, pair, facts, arguments)


if __name__ == "__main__":
    main()
