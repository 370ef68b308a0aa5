"""The numbers of docs/scale.md are those that the script prints."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("scale_model")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    names = ("panx-20000", "routing-panx", "P1", "P14", "scale-units")
    for name in names:
        shutil.copy(ROOT / "benchmarks" / "results" / f"{name}.json", tmp_path)
    return tmp_path


def test_the_page_shows_what_the_script_computes(model: Any, results: Path) -> None:
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    shown = page.split("<!-- tables -->")[1].split("<!-- end of tables -->")[0].strip()

    assert model.report(results) == shown
    kept = json.loads((ROOT / "benchmarks" / "results" / "scale.json").read_text())
    assert json.loads((results / "scale.json").read_text()) == kept


def test_more_languages_cost_a_vote_more_and_the_others_hardly(model: Any, results: Path) -> None:
    units = model.Units.read(results)
    six = units.tag_at(units.routed_languages, "vote")

    assert six == pytest.approx(units.rest_s + units.vote_s)
    assert units.tag_at(1000, "vote") - six == pytest.approx(
        (1000 - units.routed_languages) * units.vote_s / units.routed_languages
    )
    for router in ("linear", "centroid"):
        assert units.tag_at(6, router) < units.tag_at(1000, router) < 1.2 * six
    half = units.tag_at(units.vote_equals_the_rest_at(), "vote")
    assert half == pytest.approx(2 * units.rest_s, rel=0.01)


def test_flat_indexes_take_four_bytes_a_dimension_and_the_others_more(model: Any) -> None:
    flat, ivf, hnsw = (model.index_bytes_per_row(kind) for kind in ("flat", "ivf", "hnsw"))
    assert flat == pytest.approx(4 * 256, rel=0.01)
    assert flat < ivf < hnsw < 1.5 * flat


def test_sizes_read_as_people_write_them(model: Any) -> None:
    assert [model.size(n) for n in (12, 1500, 2.5e6, 3e9, 4.2e13)] == [
        "12 B",
        "1.5 kB",
        "2.5 MB",
        "3 GB",
        "42 TB",
    ]
