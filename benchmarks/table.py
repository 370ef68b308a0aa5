"""Writes the table of goals and results in docs/performance.md from the files in benchmarks/results/.

    python benchmarks/table.py

The table stands between two comments, which stay. A result is missed where it does not reach its goal, and
disturbed where other processes used more than a tenth of its cores' time.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from measuring import RESULTS

_DOC = Path(__file__).parents[1] / "docs" / "performance.md"
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"
_UNDISTURBED = 0.9


def main() -> None:
    """Rewrites the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    text = _DOC.read_text(encoding="utf-8")
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    table = "\n".join(lines(records(arguments.results)))
    _DOC.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{after}", encoding="utf-8")


def records(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Returns the results that have an id, a value and a title, by file name."""
    found = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")]
    return sorted((name, record) for name, record in found if {"id", "value", "title"} <= record.keys())


def lines(found: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Returns the table's lines."""
    head = ["| | what | goal | result | lowest | commit |", "|---|---|---|---|---|---|"]
    return [*head, *(line(name, record) for name, record in found)]


def line(name: str, record: dict[str, Any]) -> str:
    """Returns the line of one result."""
    goal = (
        "" if record["goal"] is None else f"{'≥' if record['better'] == 'higher' else '≤'} {record['goal']:g}"
    )
    marks = [mark for mark, is_so in (("missed", missed(record)), ("disturbed", disturbed(record))) if is_so]
    value = ", ".join([f"{record['value']:.3g}", *marks])
    commit = record["setup"]["commit"]
    return f"| {name} | {record['title']} | {goal} | {value} | {record['minimum']:.3g} | {commit} |"


def missed(record: dict[str, Any]) -> bool:
    """Says whether a goal was not reached."""
    if record["goal"] is None:
        return False
    sign = 1 if record["better"] == "higher" else -1
    return bool(sign * record["value"] < sign * record["goal"])


def disturbed(record: dict[str, Any]) -> bool:
    """Says whether other processes took much of the cores' time."""
    share = record.get("cpu", {}).get("share_of_wall", 1.0)
    return bool(share < _UNDISTURBED * min(1, record["setup"]["threads"]))


if __name__ == "__main__":
    main()
