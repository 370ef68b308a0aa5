"""The dashboard names only metrics that the service exports, and leaves none of them out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from serve_apps.metrics import CATALOGUE, Metric, timed

DASHBOARD = Path(__file__).parents[1] / "cluster" / "grafana" / "retrieveall.json"
_NAME = re.compile(r"ray_retrieveall_\w+")


def dashboard_metrics() -> set[str]:
    """Returns the names of all metrics in the dashboard's expressions."""
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return {name for panel in panels for target in panel["targets"] for name in _NAME.findall(target["expr"])}


def test_the_dashboard_and_the_catalogue_name_the_same_metrics() -> None:
    exported = {name for metric in CATALOGUE for name in metric.exported}
    named = dashboard_metrics()

    assert named <= exported
    assert [m.name for m in CATALOGUE if not named & set(m.exported)] == []
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)


def test_every_target_of_the_dashboard_can_be_read() -> None:
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        assert panel["title"] and panel["targets"]
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")
            for tag in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert tag in target["expr"], (panel["title"], tag)


def test_a_block_is_timed_also_where_it_fails() -> None:
    seen: list[tuple[str, dict[str, str]]] = []

    class Kept:
        def record(self, metric: Metric, value: float, **tags: str) -> None:
            assert value >= 0
            seen.append((metric.name, tags))

    with pytest.raises(KeyError), timed(Kept(), CATALOGUE[0], stage="route"):
        raise KeyError
    assert seen == [(CATALOGUE[0].name, {"stage": "route"})]
