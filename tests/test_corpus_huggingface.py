"""Hugging Face data sets, saved locally in that library's own formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from retrieveall.corpus.huggingface import HuggingFaceFormat, read_huggingface
from retrieveall.corpus.report import ImportLog
from retrieveall.corpus.tagged import TagReading
from retrieveall.errors import CorpusFormatError, InputError, NotFoundError
from tests.corpora import mentions

datasets = pytest.importorskip("datasets")

NER = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
ROWS: Mapping[str, list[Any]] = {
    "tokens": [["Bob", "Ray", "sings"], ["In", "Oslo", "."]],
    "ner_tags": [[1, 2, 0], [0, 3, 0]],
}


def wikiann(rows: Mapping[str, list[Any]] = ROWS) -> Any:
    """Makes a data set with the features of ``unimelb-nlp/wikiann``."""
    strings = datasets.Sequence(datasets.Value("string"))
    features = datasets.Features(
        {
            "tokens": strings,
            "ner_tags": datasets.Sequence(datasets.ClassLabel(names=NER)),
            "langs": strings,
            "spans": strings,
        }
    )
    others = {"langs": [["en"] * len(t) for t in rows["tokens"]], "spans": [[] for _ in rows["tokens"]]}
    return datasets.Dataset.from_dict({**rows, **others}, features=features)


def test_wikiann_saved_to_disk(tmp_path: Path) -> None:
    splits = {"train": wikiann(), "validation": wikiann(), "test": wikiann(), "extra": wikiann()}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    log = ImportLog()
    found = list(read_huggingface(str(tmp_path / "saved"), language="en", log=log))
    assert [row.id for row in found] == [f"{split}-{n}" for split in ("train", "dev", "test") for n in (0, 1)]
    assert [mentions(row) for row in found[:2]] == [[("Bob Ray", "PER")], [("Oslo", "LOC")]]
    assert log.notes == {"sentences of the split 'extra', which is none of ours": 2}


def test_a_single_data_set_is_train(tmp_path: Path) -> None:
    wikiann().save_to_disk(str(tmp_path / "saved"))
    assert {row.split for row in read_huggingface(str(tmp_path / "saved"), language="en")} == {"train"}


def test_parquet_shards_as_on_the_hub(tmp_path: Path) -> None:
    wikiann().to_parquet(str(tmp_path / "train-00000-of-00002.parquet"))
    wikiann().to_parquet(str(tmp_path / "train-00001-of-00002.parquet"))
    wikiann().to_parquet(str(tmp_path / "validation-00000-of-00001.parquet"))
    found = list(read_huggingface(str(tmp_path), language="en"))
    assert [row.split for row in found] == ["train"] * 4 + ["dev"] * 2
    assert mentions(found[3]) == [("Oslo", "LOC")]


def test_a_copy_of_a_hub_repository_has_a_folder_for_each_configuration(tmp_path: Path) -> None:
    for config in ("nl", "de"):
        (tmp_path / config).mkdir()
        wikiann().to_parquet(str(tmp_path / config / "test-00000-of-00001.parquet"))
    assert {row.split for row in read_huggingface(str(tmp_path), language="nl")} == {"test"}
    file = str(tmp_path / "de/test-00000-of-00001.parquet")
    assert len(list(read_huggingface(file, language="de"))) == 2


def columns(**features: tuple[list[list[Any]], Any]) -> Any:
    rows = {name: values for name, (values, _) in features.items()}
    kinds = {name: datasets.Sequence(kind) for name, (_, kind) in features.items()}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))


def save(dataset: Any, folder: Path) -> str:
    dataset.save_to_disk(str(folder / "saved"))
    return str(folder / "saved")


def test_the_tag_column_is_found_among_several(tmp_path: Path) -> None:
    dataset = columns(
        words=([["Oslo"]], datasets.Value("string")),
        pos=([[0]], datasets.ClassLabel(names=["NOUN", "VERB"])),
        entities=([[3]], datasets.ClassLabel(names=NER)),
    )
    (found,) = read_huggingface(save(dataset, tmp_path), language="en")
    assert mentions(found) == [("Oslo", "LOC")]


def test_tags_written_as_strings(tmp_path: Path) -> None:
    text = datasets.Value("string")
    dataset = columns(tokens=([["Oslo"]], text), tags=([["B-LOC"]], text))
    (found,) = read_huggingface(save(dataset, tmp_path), language="en")
    assert mentions(found) == [("Oslo", "LOC")]


def test_bare_classes_need_to_be_told(tmp_path: Path) -> None:
    dataset = columns(
        tokens=([["Oslo", "Fjord", "is"]], datasets.Value("string")),
        ner_tags=([[1, 1, 0]], datasets.ClassLabel(names=["O", "location"])),
    )
    path = save(dataset, tmp_path)
    with pytest.raises(CorpusFormatError, match=r"\[train\]:1: bad tag: 'location'"):
        list(read_huggingface(path, language="en"))
    format = HuggingFaceFormat(reading=TagReading(scheme="io"))
    (found,) = read_huggingface(path, language="en", format=format)
    assert mentions(found) == [("Oslo Fjord", "location")]


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ({"tokens": [["a"], ["b", "c"]], "ner_tags": [[0], [0]]}, "bad record"),
        ({"tokens": [["a"], ["b", None]], "ner_tags": [[0], [0, 0]]}, "bad record"),
        ({"tokens": [["a"], ["b"]], "ner_tags": [[0], [-1]]}, "bad tag"),
        ({"tokens": [["a"], ["b"]], "ner_tags": [[0], [None]]}, "bad tag"),
        ({"tokens": [["a"], ["b"]], "ner_tags": [[1], [2]]}, "bad tag"),
    ],
)
def test_broken_rows_are_named_or_listed(tmp_path: Path, rows: dict[str, list[Any]], kind: str) -> None:
    path = save(wikiann(rows), tmp_path)
    with pytest.raises(CorpusFormatError) as error:
        list(read_huggingface(path, language="en"))
    assert str(error.value).startswith(f"{path}[train]:2: {kind}: ")
    log = ImportLog(skip_bad=True)
    assert len(list(read_huggingface(path, language="en", log=log))) == 1
    assert [(problem.line, problem.kind) for problem in log.problems] == [(2, kind)]


def test_empty_rows_are_counted(tmp_path: Path) -> None:
    log = ImportLog()
    path = save(wikiann({"tokens": [[], ["a"]], "ner_tags": [[], [0]]}), tmp_path)
    assert len(list(read_huggingface(path, language="en", log=log))) == 1 and log.empty == 1


def test_columns_that_cannot_be_told(tmp_path: Path) -> None:
    text = datasets.Value("string")
    path = save(columns(a=([["x"]], text), b=([["O"]], text)), tmp_path)
    with pytest.raises(InputError, match="cannot tell the tag column among a, b"):
        list(read_huggingface(path, language="en"))
    format = HuggingFaceFormat(token_column="a", tag_column="b")
    assert len(list(read_huggingface(path, language="en", format=format))) == 1
    format = HuggingFaceFormat(token_column="a", tag_column="c")
    with pytest.raises(InputError, match="no column 'c'"):
        list(read_huggingface(path, language="en", format=format))


class FakeHub:
    """Stands in for the library where the network would be needed."""

    def __init__(self, configs: list[str]) -> None:
        self.configs = configs
        self.asked: list[tuple[str, str | None]] = []

    def get_dataset_config_names(self, name: str, revision: str | None) -> list[str]:
        return self.configs

    def load_dataset(self, name: str, config: str | None, revision: str | None) -> Any:
        self.asked.append((name, config))
        if config == "gone":
            raise ValueError("BuilderConfig 'gone' not found")
        return datasets.DatasetDict({"train": wikiann()})


def test_the_configuration_of_the_language_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub(["en", "nl"])
    monkeypatch.setattr("retrieveall.corpus.huggingface._library", lambda: hub)
    assert len(list(read_huggingface("unimelb-nlp/wikiann", language="nl"))) == 2
    hub.configs = ["default"]
    list(read_huggingface("someone/ner", language="nl"))
    assert hub.asked == [("unimelb-nlp/wikiann", "nl"), ("someone/ner", None)]
    with pytest.raises(NotFoundError, match="'gone' not found"):
        list(read_huggingface("someone/ner", language="nl", format=HuggingFaceFormat(config="gone")))
