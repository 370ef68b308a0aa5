"""Takes evaluation reports into the repository: one JSON and one picture under benchmarks/results/.

    python scripts/publish_report.py panx-5000 WORKSPACE/reports/NAME/report.json [MORE/report.json …]

The first report is the one in question, the others stand beside it in the picture.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from retrieveall.evaluation.plots import plot_f1, save_png
from retrieveall.evaluation.report import read_report

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def main(name: str, paths: list[str]) -> None:
    """Writes ``<name>.json`` with the contract's object of every report, and ``<name>.png``."""
    reports = [read_report(Path(path)) for path in paths]
    bodies = {report.name: report.to_dict() for report in reports}
    (RESULTS / f"{name}.json").write_text(json.dumps(bodies, indent=1, ensure_ascii=False) + "\n")
    save_png(plot_f1(reports), RESULTS / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
