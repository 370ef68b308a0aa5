"""What a run reads, and when its name, and so the run, is another one."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from retrieveall.corpus.sample import sample_corpus
from retrieveall.embedding.spec import EmbedderSpec, load_embedder
from retrieveall.errors import InputError
from retrieveall.retrieval import IndexOptions, IndexRequest, write_index
from retrieveall.training.adapter import AdapterTrainingConfig
from retrieveall.training.data import RenderConfig
from retrieveall.training.inputs import RunSpec, load_inputs
from retrieveall.training.planning import TrainingChoice, plan_specs
from retrieveall.types import Examples, Sentence
from retrieveall.workspace import Workspace
from tests.stores import BASE

NOW = "2025-01-01T00:00:00+00:00"
SIZES = {"train": 24, "dev": 12, "test": 0}


def make_workspace(folder: Path, *languages: str, indexed: bool = True) -> Workspace:
    workspace = Workspace.open(folder / "workspace", create=True)
    for language in languages:
        add_corpus(workspace, language, sample_corpus(language, sizes=SIZES))  # type: ignore[arg-type]
        if indexed:
            add_index(workspace, language)
    return workspace


def add_corpus(workspace: Workspace, language: str, rows: list[Sentence], **more: Any) -> None:
    workspace.corpora.import_sentences(rows, name="sample", language=language, **more)


def add_index(workspace: Workspace, language: str, **options: Any) -> str:
    store = workspace.corpora
    embedder = load_embedder(EmbedderSpec())
    request = IndexRequest(
        language=language,
        corpus="sample",
        corpus_digest=store.manifest("sample", language).digest,
        spec=EmbedderSpec(),
        embedder_digest=embedder.digest,
        options=IndexOptions(**options),
    )
    rows = store.load("sample", language, "train")
    return write_index(workspace.indexes, request, rows, embedder).digest


def choice(**changes: Any) -> TrainingChoice:
    values = {"base_model": "tiny", "base_digest": BASE, "config": AdapterTrainingConfig(), **changes}
    return TrainingChoice(**values)


def only(workspace: Workspace, **changes: Any) -> RunSpec:
    ((spec,),) = plan_specs(workspace, choice(**changes))
    return spec


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("inputs"), "en")


def test_the_same_choice_has_the_same_name_whatever_the_base_is_called(workspace: Workspace) -> None:
    assert only(workspace).run_name == only(workspace, base_model="/elsewhere/tiny").run_name


CHANGES: dict[str, Any] = {
    "base_digest": "c" * 16,
    "config": AdapterTrainingConfig(render=RenderConfig(drop_rate=0.5)),
    "examples": False,
    "threshold_std": 0.5,
    "train_limit": 5,
    "dev_limit": 7,
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_choice_has_another_name(workspace: Workspace, name: str) -> None:
    assert only(workspace, **{name: CHANGES[name]}).run_name != only(workspace).run_name


def test_every_field_but_the_name_of_the_base_counts(workspace: Workspace) -> None:
    spec = only(workspace, train_limit=9)
    for field in fields(RunSpec):
        value = getattr(spec, field.name)
        if field.name == "strategy" or isinstance(value, bool) or not isinstance(value, int | str | None):
            continue
        changed = replace(spec, **{field.name: value + 1 if isinstance(value, int) else "f" * 16})  # type: ignore[arg-type]
        assert (changed.run_name == spec.run_name) is (field.name == "base_model"), field.name


def test_other_data_and_another_index_have_other_names(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "en")
    first = only(workspace)
    rows = sample_corpus("en", sizes={"train": 25, "dev": 12})
    add_corpus(workspace, "en", rows, force=True)
    second = only(workspace, examples=False)
    add_index(workspace, "en")
    third = only(workspace)

    assert second.data["en"].index is None and third.data["en"].index != first.data["en"].index
    assert len({first.run_name, second.run_name, third.run_name}) == 3


def test_inputs_are_the_splits_in_both_forms_with_examples(workspace: Workspace) -> None:
    inputs = load_inputs(workspace, only(workspace, train_limit=20, dev_limit=5))
    rows = inputs.train.rows()

    assert len(rows) == 20
    assert (len(inputs.dev.sentences), len(inputs.measured["en"].sentences)) == (12, 5)
    assert inputs.measured["en"].examples == inputs.dev.examples[:5]
    assert {row.sentence.id for row in rows} == {row.detokenised.id for row in rows}
    assert any(row.examples.entity for row in rows) and any(row.examples.context for row in rows)


def test_a_training_sentence_is_never_its_own_example(workspace: Workspace) -> None:
    for row in load_inputs(workspace, only(workspace)).train.rows():
        assert row.sentence.text not in {example.text for example in row.examples.context}


def test_gold_labels_do_not_change_the_examples(tmp_path: Path, workspace: Workspace) -> None:
    """x's gold mentions are never looked up. Only x loses its own here."""
    whole = load_inputs(workspace, only(workspace)).train
    at = next(i for i, row in enumerate(whole.sentences) if row.entities)
    rows = workspace.corpora.load("sample", "en", "train")
    bare = [replace(row, entities=()) if row.id == whole.sentences[at].id else row for row in rows]
    other = Workspace.open(tmp_path / "other", create=True)
    add_corpus(other, "en", bare)
    add_index(other, "en")

    assert load_inputs(other, only(other)).train.examples[at] == whole.examples[at]


def test_without_examples_nothing_is_searched(workspace: Workspace) -> None:
    inputs = load_inputs(workspace, only(workspace, examples=False))
    assert set(inputs.train.examples) == set(inputs.dev.examples) == {Examples()}


@pytest.mark.parametrize("examples", [True, False])
def test_the_prior_has_its_say_in_the_dev_scores_of_every_adapter_with_an_index(
    workspace: Workspace, examples: bool
) -> None:
    measured = load_inputs(workspace, only(workspace, examples=examples, dev_limit=3)).measured["en"]
    assert len(measured.examples) == 3 and all(one.prior for one in measured.examples)
    assert any(one.context for one in measured.examples) is examples


def test_a_corpus_without_training_sentences_is_an_error(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    add_corpus(workspace, "en", sample_corpus("en", sizes={"test": 3}))
    with pytest.raises(InputError, match="no training sentences for 'en'"):
        load_inputs(workspace, only(workspace, examples=False))


def test_a_polyglot_run_takes_its_languages_in_turn(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "de", "en")
    ((shared,), own) = plan_specs(workspace, choice(strategy="polyglot_then_monolingual"))
    inputs = load_inputs(workspace, replace(shared, train_limit=5, dev_limit=3))

    assert shared.language == "mul" and shared.title == "mul (de en)"
    assert [sentence.language for sentence in inputs.train.sentences] == ["de", "en"] * 5
    assert [sentence.language for sentence in inputs.dev.sentences] == ["de", "en"] * 12
    assert {code: len(split.sentences) for code, split in inputs.measured.items()} == {"de": 3, "en": 3}
    assert any(row.examples.entity for row in inputs.train.rows() if row.sentence.language == "de")
    assert [spec.continues for spec in own] == [shared.run_name] * 2
    assert [spec.serves for spec in own] == [("de",), ("en",)] and shared.serves == ()


def test_a_language_left_out_is_measured_but_not_trained_on(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "de", "en", "es", indexed=False)
    shared, own = plan_specs(
        workspace, choice(strategy="leave_language_out", shots=7, examples=False, train_limit=20)
    )
    inputs = load_inputs(workspace, shared[0])

    assert shared[0].train_languages == ("en", "es") and set(inputs.measured) == {"de", "en", "es"}
    assert {sentence.language for sentence in inputs.train.sentences} == {"en", "es"}
    assert {sentence.language for sentence in inputs.dev.sentences} == {"en", "es"}
    assert [spec.train_limit for spec in (*shared, *own)] == [20] * 3 + [7] * 3


def test_whom_an_adapter_answers_for_does_not_change_it(workspace: Workspace) -> None:
    spec = only(workspace)
    assert replace(spec, serves=()).run_name == spec.run_name
