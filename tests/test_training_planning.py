"""What a user chose becomes runs: one or several, with the right data, or an error that helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from retrieveall.corpus.sample import sample_corpus
from retrieveall.errors import ConfigError, NotFoundError
from retrieveall.training.planning import plan_specs
from tests.stores import add_adapter
from tests.test_training_inputs import (
    NOW,
    SIZES,
    add_corpus,
    add_index,
    choice,
    make_workspace,
    only,
)


def test_a_choice_becomes_one_run_per_language(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "de", "en", indexed=False)
    (stage,) = plan_specs(workspace, choice(examples=False))
    ((one,),) = plan_specs(workspace, choice(examples=False, languages=("en",)))

    assert [spec.language for spec in stage] == ["de", "en"]
    assert one == stage[1]
    assert one.labels == ("LOC", "ORG", "PER")
    assert one.run_name.startswith("en-")


def test_a_missing_index_is_an_error_that_says_how_to_build_it(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "en", indexed=False)
    with pytest.raises(NotFoundError, match=r"retrieveall index --corpus sample --languages en"):
        plan_specs(workspace, choice())
    assert only(workspace, examples=False).data["en"].index is None


def test_an_adapter_without_examples_is_published_with_the_index_that_is_there(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "en")
    assert only(workspace, examples=False).data == only(workspace).data
    assert only(workspace).data["en"].index is not None


def test_missing_corpora_and_strategies_are_errors(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "en")
    with pytest.raises(NotFoundError, match="'nl'"):
        plan_specs(workspace, choice(languages=("nl",)))
    with pytest.raises(ConfigError, match="known are"):
        plan_specs(workspace, choice(strategy="best"))


def test_priors_share_with_languages_of_the_same_labels(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "de", "en")
    rows = sample_corpus("es", sizes=SIZES)  # type: ignore[arg-type]
    add_corpus(workspace, "es", [replace(row, entities=row.entities[:0]) for row in rows])
    add_index(workspace, "es")
    (stage,) = plan_specs(workspace, choice())
    german, english, spanish = ({spec.language: spec.data[spec.language].index} for spec in stage)

    assert [spec.prior_indexes for spec in stage] == [german | english, german | english, spanish]


def test_what_published_languages_have_lost_hinders_no_training(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "de", "en", "es")
    for seed, code in enumerate(("en", "es")):
        adapter = add_adapter(workspace, tmp_path, seed=seed, language=code)
        index = only(workspace, languages=(code,)).data[code].index
        workspace.releases.publish(code, adapter, index, created_at=NOW)
    add_corpus(
        workspace, "es", sample_corpus("es", sizes={"train": 9}), force=True
    )  # not the index's any more
    workspace.indexes.remove(
        f"en/{workspace.releases.current().languages['en'].index}", marker="manifest.json"
    )
    assert list(only(workspace, languages=("de",)).prior_indexes) == ["de"]


def test_priors_share_with_published_languages_and_runs_keep_their_names(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "de", "en")
    before = only(workspace, languages=("en",))
    index = before.data["en"].index
    adapter = add_adapter(workspace, tmp_path, language="en", labels=before.labels)
    other = add_adapter(workspace, tmp_path, seed=1, language="ru", labels=("DATE",))
    workspace.releases.publish("en", adapter, index, created_at=NOW)
    workspace.releases.publish("ru", other, None, created_at=NOW)
    german = only(workspace, languages=("de",))

    assert german.prior_indexes == {"de": german.data["de"].index, "en": index}
    assert before.prior_indexes == {"en": index}
    alone = only(workspace, languages=("de",), shares_with_published=False)
    assert list(alone.prior_indexes) == ["de"]
    assert replace(german, prior_indexes={}).run_name == german.run_name
