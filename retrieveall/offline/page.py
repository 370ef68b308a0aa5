"""The summary of a job as one self-contained HTML page: no scripts, nothing loaded from anywhere.

Everything that comes from an input passes through Jinja's autoescaping.
"""

from __future__ import annotations

import json

import jinja2

from retrieveall.evaluation.marking import visible
from retrieveall.offline.progress import duration
from retrieveall.offline.statistics import MOST_SHOWN
from retrieveall.offline.summary import TagSummary
from retrieveall.storage import Store


def render_summary(summary: TagSummary) -> str:
    """Returns the page."""
    counts = summary.statistics
    template = _environment().get_template("summary.html.j2")
    return template.render(
        summary=summary,
        counts=counts,
        sentences=sum(counts.sentences.values()),
        entities=sum(counts.labels.values()),
        job=json.dumps(dict(summary.job), indent=2, ensure_ascii=False),
        most=MOST_SHOWN,
        visible=visible,
        duration=duration,
    )


def write_summary(output: Store, summary: TagSummary) -> None:
    """Writes ``summary.json`` and ``summary.html``."""
    output.write_json("summary.json", summary.to_dict())
    output.write_bytes("summary.html", render_summary(summary).encode("utf-8", "replace"))


def _environment() -> jinja2.Environment:
    """Templates of this package, and the style that all our pages share."""
    packages = ("retrieveall.offline", "retrieveall.evaluation")
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package, "templates") for package in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
