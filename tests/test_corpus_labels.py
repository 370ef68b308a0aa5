"""Label maps are read whole or refused, and what they leave out is counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from retrieveall.corpus.labels import map_labels, read_label_map
from retrieveall.errors import InputError, NotFoundError
from tests.corpora import mentions, sentence


def test_types_are_renamed_and_others_counted() -> None:
    unmapped: Counter[str] = Counter()
    row = sentence("Bob in Oslo today", (0, 1, "PERSON"), (2, 3, "GPE"), (3, 4, "DATE"))
    found = map_labels(row, {"PERSON": "PER", "GPE": "LOC"}, unmapped)
    assert mentions(found) == [("Bob", "PER"), ("Oslo", "LOC")] and unmapped == {"DATE": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSON"),
        ("[]", "must be an object"),
        ("{}", "names no type"),
        ('{"note": "only a remark"}', "names no type"),
        ('{"PER": "PERSON"}', "must name a list"),
        ('{"PER": [1]}', "must name a list"),
        ('{"P R": ["PERSON"]}', "'P R'"),
        ('{"PER": ["X"], "LOC": ["X"]}', "under both PER and LOC"),
    ],
)
def test_maps_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_label_map(path)


def test_a_map_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        read_label_map(tmp_path / "map.json")
