"""The audit counts right, on sentences small enough to count by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyarrow import fs

from retrieveall.corpus.audit import audit_corpus, audit_splits
from retrieveall.corpus.store import CorpusStore
from retrieveall.types import GoldEntity, Sentence, Span
from tests.corpora import sentence

TRAIN = [
    sentence("Caf\u00e9 Oslo", (1, 2, "LOC"), id="a"),
    sentence("the Bonn city of Bonn is nice", (4, 5, "LOC"), id="b"),  # the first Bonn is no mention
    sentence("Bob", (0, 1, "PER"), id="c"),
    sentence("Bob", (0, 1, "PER"), id="d"),
]
TEST = [
    sentence("Cafe\u0301 Oslo", (1, 2, "LOC"), id="e", split="test"),  # the same after NFC
    sentence("nothing at all", id="f", split="test"),
    sentence("Bob today", (1, 2, "DATE"), id="g", split="test"),
]


def test_counts_by_hand() -> None:
    splits = audit_splits({"train": TRAIN, "dev": [], "test": TEST}, count_tokens=len)
    assert list(splits) == ["train", "test"]
    train, test = splits["train"], splits["test"]
    assert (train.sentences, train.entities, train.labels) == (4, 4, {"LOC": 2, "PER": 2})
    assert train.in_train == 0.5 and test.in_train == pytest.approx(1 / 3)
    assert train.short == 0.75 and test.without_entities == pytest.approx(1 / 3)
    assert (train.tokens.mean, train.tokens.median, train.tokens.longest) == (2.75, 1.5, 7)
    assert train.characters.longest == 29
    assert (train.inexpressible_mentions, train.inexpressible, train.inside_units) == (1, 0.25, 0)
    assert train.inexpressible_examples == ("b: Bonn",)
    assert train.fertility is not None and train.fertility.per_character == 1.0
    assert test.fertility is not None and test.fertility.per_token == pytest.approx((10 + 14 + 9) / 7)


def test_mentions_inside_a_unit_are_told_apart() -> None:
    row = Sentence(
        id="a",
        language="en",
        text="Parisian",
        tokens=(Span(start_char=0, end_char=5), Span(start_char=5, end_char=8)),
        entities=(GoldEntity(start_char=0, end_char=5, label="LOC"),),
        split="dev",
    )
    audit = audit_splits({"dev": [row]})["dev"]
    assert (audit.inexpressible, audit.inside_units, audit.fertility) == (1.0, 1, None)


def test_a_corpus_of_a_store(tmp_path: Path) -> None:
    store = CorpusStore(fs.LocalFileSystem(), str(tmp_path))
    store.import_sentences([*TRAIN, *TEST], name="news", language="en")
    audit = audit_corpus(store, "news", "en", form="detokenised")
    assert audit.digest == store.manifest("news", "en").digest and audit.form == "detokenised"
    assert audit.missing_labels == {"test": ("PER",)} and audit.novel_labels == {"test": ("DATE",)}
    assert json.loads(json.dumps(audit.to_dict()))["splits"]["train"]["entities"] == 4
