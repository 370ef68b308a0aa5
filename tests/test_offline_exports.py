"""A tagged corpus in the formats of other tools."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieveall.corpus.conll import read_conll
from retrieveall.errors import InputError, MissingDependencyError
from retrieveall.offline.exports import ExportFormat, check_exports, export_corpus
from retrieveall.offline.inputs import find_inputs
from retrieveall.offline.options import TagOptions
from retrieveall.storage import Store
from tests.offline import tagged, write

TEXTS = [
    "Anna met Bob. Carl\n left\t!",
    "",
    "👍 Мария-Анна <b>спит</b>…  ",
    "東京Tokyo-Xです",
    "# no\u202etag",
]


@pytest.fixture
def output(tmp_path: Path) -> Store:
    lines = [json.dumps({"text": text, "id": number}) for number, text in enumerate(TEXTS)]
    lines.insert(2, "{broken")
    write(tmp_path / "in", a_jsonl="\n".join(lines))
    write(tmp_path / "in" / "deep", b_txt="Zoë\n")
    return tagged(write(tmp_path / "in"), tmp_path / "out", TagOptions(rows_per_fragment=2))


def exported(output: Store, format: ExportFormat, file: str = "a.jsonl") -> bytes:
    outcomes = export_corpus(output, [format])
    (path,) = [one.path for one in outcomes if one.path.startswith(f"exports/{format}/{file}")]
    assert len(outcomes) == 2
    return output.read_bytes(path)


def test_jsonl_holds_every_row_in_order(output: Store) -> None:
    rows = [json.loads(line) for line in exported(output, "jsonl").decode().splitlines()]

    assert [row["row"] for row in rows] == list(range(6))
    assert [row["text"] for row in rows if row["status"] == "ok"] == TEXTS
    assert rows[0]["entities"][0] == {
        "start_char": 0,
        "end_char": 4,
        "text": "Anna",
        "label": "PER",
        "score": 0.5,
    }
    assert rows[2]["error"].startswith("no JSON")


def test_jsonl_has_null_where_json_has_no_number(tmp_path: Path) -> None:
    kind = pa.struct([("y", pa.list_(pa.float64())), ("z", pa.map_(pa.string(), pa.float32()))])
    nested = [{"y": [0.5, math.inf], "z": [("a", math.nan)]}, {"y": None, "z": [("a", 1.5)]}]
    table = pa.table(
        {"text": ["Anna", "Bob"], "x": [math.nan, 2.5], "nested": pa.array(nested, kind), "b": [b"\0", None]}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    output = tagged(find_inputs(str(tmp_path / "in.parquet")), tmp_path / "out")
    (outcome,) = export_corpus(output, ["jsonl"])

    rows = [strictly(line) for line in output.read_bytes(outcome.path).splitlines()]
    assert [row["x"] for row in rows] == [None, 2.5]
    assert [row["b"] for row in rows] == ["AA==", None]
    assert rows[0]["nested"] == {"y": [0.5, None], "z": [["a", None]]}
    assert rows[1]["nested"] == {"y": None, "z": [["a", 1.5]]}
    assert rows[0]["entities"][0]["text"] == "Anna"


def strictly(line: bytes) -> Any:
    """Reads a line as readers do that know JSON only."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(line, parse_constant=refuse)


def test_conll_is_read_back_with_the_same_names(output: Store, tmp_path: Path) -> None:
    path = tmp_path / "back.conll"
    path.write_bytes(exported(output, "conll"))
    names = [
        s.text[e.start_char : e.end_char]
        for s in read_conll(path, language="en", split="test")
        for e in s.entities
    ]

    assert (
        "# a.jsonl:0\nAnna\tB-PER\nmet\tO\nBob\tB-PER\n.\tO\n\n# a.jsonl:0\nCarl\tB-PER\n" in path.read_text()
    )
    assert names == ["Anna", "Bob", "Carl", "Мария", "Анна", "Tokyo", "X"]


def test_label_studio_gets_predictions_in_code_points(output: Store) -> None:
    tasks = json.loads(exported(output, "label-studio"))
    regions = tasks[2]["predictions"][0]["result"]

    assert [task["data"]["row"] for task in tasks] == [0, 1, 3, 4, 5]
    for region in regions:
        value = region["value"]
        assert TEXTS[2][value["start"] : value["end"]] == value["text"]
    assert [region["value"]["labels"] for region in regions] == [["PER"], ["PER"]]
    assert tasks[0]["predictions"][0]["model_version"] == "release 7"


def test_label_studio_of_no_rows_is_an_empty_list(tmp_path: Path) -> None:
    output = tagged(write(tmp_path / "in", a_txt=b"\xff\n"), tmp_path / "out")
    (outcome,) = export_corpus(output, ["label-studio"])
    assert json.loads(output.read_bytes(outcome.path)) == []


def test_displacy_marks_entities_and_escapes_the_text(output: Store) -> None:
    page = exported(output, "displacy").decode()

    assert page.count("<mark") == 7 and page.count('class="entities"') == 5
    assert "&lt;b&gt;спит&lt;/b&gt;" in page and "<b>" not in page
    assert "\u202e" not in page and "left" in page
    assert ".entity, .entity span { unicode-bidi: isolate; }" in page
    assert page.count('<div class="entities" dir="auto">') == 5


def test_files_of_folders_are_exported_to_folders(output: Store) -> None:
    assert b"Zo\xc3\xab" in exported(output, "jsonl", "deep/b.txt")


def test_exports_are_checked_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'xml' was given; choose from jsonl, conll"):
        check_exports(["conll", "xml"])
    monkeypatch.setitem(sys.modules, "spacy.tokens", None)
    with pytest.raises(MissingDependencyError, match="pip install spacy"):
        check_exports(["spacy"])
    assert check_exports(["conll", "jsonl", "conll"]) == ("jsonl", "conll")


def test_docbin_holds_texts_entities_and_sentences(output: Store) -> None:
    pytest.importorskip("spacy")
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    docs = list(DocBin().from_bytes(exported(output, "spacy")).get_docs(Vocab()))

    assert [doc.text for doc in docs] == TEXTS
    assert [(e.text, e.label_) for e in docs[0].ents] == [("Anna", "PER"), ("Bob", "PER"), ("Carl", "PER")]
    assert next(iter(docs[0].sents)).text.strip() == "Anna met Bob."
    assert docs[2].user_data == {"file": "a.jsonl", "row": 3}
