"""Takes reports into the repository: JSON and pictures under benchmarks/results/.

    python scripts/publish_report.py panx-5000 WORKSPACE/reports/NAME/report.json [MORE/report.json …]
    python scripts/publish_report.py experiment-panx-1000 WORKSPACE/reports/experiment-panx-1000

Of evaluations the first report is the one in question, the others stand beside it in the picture, and paired
tests say whether it beats them. Of an experiment everything in its folder is taken: tables, JSON, pictures.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from retrieveall.errors import InputError
from retrieveall.evaluation.comparison import compare
from retrieveall.evaluation.plots import plot_f1, plot_reliability, save_png
from retrieveall.evaluation.report import read_report
from retrieveall.evaluation.views import View

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def main(name: str, paths: list[Path]) -> None:
    """Writes ``<name>.json``, and pictures and tables whose names begin so."""
    if paths[0].is_dir():
        publish_experiment(name, paths[0])
    else:
        publish_evaluations(name, paths)


def publish_evaluations(name: str, paths: list[Path]) -> None:
    """Writes ``<name>.json`` with the contract's object of every report, and pictures of F1 and scores.

    Of several reports also ``<name>-paired.json``: the first against each other one, by the score's views.
    """
    reports = [read_report(path) for path in paths]
    bodies = {report.name: report.to_dict() for report in reports}
    (RESULTS / f"{name}.json").write_text(json.dumps(bodies, indent=1, ensure_ascii=False) + "\n")
    save_png(plot_f1(reports), RESULTS / f"{name}.png")
    first, *others = reports
    views: tuple[View, ...] = ("strict", "unseen", "unseen_names")
    paired = RESULTS / f"{name}-paired.json"
    paired.unlink(missing_ok=True)
    try:
        tests = [asdict(compare(first, other, view=view)) for other in others for view in views]
    except InputError as error:  # reports on other sentences may still stand in one picture
        sys.stderr.write(f"no paired tests: {error}\n")
        tests = []
    if tests:
        paired.write_text(json.dumps({"paired": tests}, indent=1) + "\n")
    if (scores := plot_reliability(reports[0])) is not None:
        save_png(scores, RESULTS / f"{name}-reliability.png")


def publish_experiment(name: str, folder: Path) -> None:
    """Writes ``<name>.json``, ``<name>.md`` and ``<name>-<picture>.png``."""
    for file in sorted(folder.iterdir()):
        target = f"{name}{file.suffix}" if file.stem == "report" else f"{name}-{file.name}"
        shutil.copyfile(file, RESULTS / target)


if __name__ == "__main__":
    main(sys.argv[1], [Path(path) for path in sys.argv[2:]])
