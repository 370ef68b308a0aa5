"""How many tokens of a prompt stand, in the same order, at the front of an earlier prompt of its adapter.

    python benchmarks/prefix.py --workspace W --corpus panx --limit 1000

A cache of prompt prefixes, keyed by the adapter, could save no more than these tokens. For every prompt of
the tagger the longest beginning that it shares with the prompt before it, and with any of the last 256, of
the same adapter is counted. Nothing is timed: the counts are the same on every machine.

Not covered: texts that come twice, word for word; they are counted as they are in the corpus.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from measuring import flags, parsed, result, workspace_flags, write
from recording import recorded

from retrieveall.engine.protocol import Row
from retrieveall.workspace import Workspace

_REMEMBERED = 256
_WORTH_IT = 0.05


def main() -> None:
    """Counts and writes the share."""
    parser = flags(__doc__, rounds=1)
    workspace_flags(parser)
    parser.add_argument("--limit", type=int, default=1000, help="Test sentences per language.")
    arguments = parsed(parser)
    found = recorded(Workspace.open(arguments.workspace), arguments.corpus, arguments.limit)
    last = shares(found.rows, 1)
    any_of = shares(found.rows, _REMEMBERED)
    languages = {language: any_of[digest] for digest, language in found.adapters.items()}
    total = total_share(found.rows, _REMEMBERED)
    record = result(
        "prefix-reuse",
        f"prompt tokens shared with the front of one of the last {_REMEMBERED} prompts of the adapter ÷ all",
        [total],
        goal=None,
        unit="share",
        sides={language: [share] for language, share in sorted(languages.items())},
        sides_unit="share of prompt tokens",
        with_the_prompt_before={found.adapters[digest]: share for digest, share in last.items()},
        setup={
            "corpus": arguments.corpus,
            "prompts": len(found.rows),
            "prompt_tokens": sum(len(row.prompt_ids) for row in found.rows),
            "remembered": _REMEMBERED,
            "a_cache_is_built_from": _WORTH_IT,
        },
    )
    write(record, arguments.results)


def shares(rows: Sequence[Row], remembered: int) -> dict[str, float]:
    """Returns the share of reusable prompt tokens by adapter."""
    by_adapter: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row, common in zip(rows, common_tokens(rows, remembered), strict=True):
        by_adapter[row.adapters[0][0]].append((common, len(row.prompt_ids)))
    return {
        digest: sum(c for c, _ in pairs) / sum(n for _, n in pairs) for digest, pairs in by_adapter.items()
    }


def total_share(rows: Sequence[Row], remembered: int) -> float:
    """Returns the share of reusable prompt tokens of all rows."""
    return sum(common_tokens(rows, remembered)) / sum(len(row.prompt_ids) for row in rows)


def common_tokens(rows: Iterable[Row], remembered: int) -> list[int]:
    """Returns for each prompt how many first tokens it shares with the best of those before it."""
    before: dict[object, deque[tuple[int, ...]]] = defaultdict(lambda: deque(maxlen=remembered))
    found = []
    for row in rows:
        earlier = before[row.adapters]
        # the last token of a prompt is always fed: the first choice stands behind it
        most = len(row.prompt_ids) - 1
        found.append(max((min(most, common(row.prompt_ids, other)) for other in earlier), default=0))
        earlier.append(row.prompt_ids)
    return found


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Returns the length of the longest common beginning."""
    for number, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return number
    return min(len(one), len(other))


if __name__ == "__main__":
    main()
