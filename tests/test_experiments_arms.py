"""Arms: what is trained for them, what decides their names, and how they are tested, without Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retrieveall.corpus.sample import sample_corpus
from retrieveall.errors import IncompatibleArtefactError, NotFoundError
from retrieveall.evaluation.report import EvalReport
from retrieveall.experiments.arms import PlannedArm, TrainedRun, planned_arms
from retrieveall.experiments.plan import Plan
from retrieveall.experiments.plots import experiment_figures
from retrieveall.experiments.summary import ExperimentReport, summarise
from retrieveall.experiments.tables import experiment_tables
from retrieveall.lora.card import PRIOR_FORMAT
from retrieveall.models.digest import base_digest
from retrieveall.opening import OpenOptions
from retrieveall.training.run import Device
from retrieveall.workspace import Workspace
from tests.models import LABELS, save_tiny_adapter, save_tiny_base, tiny_model
from tests.stores import card, peft_folder
from tests.test_evaluation_report import language_report
from tests.test_experiments_plan import plan
from tests.test_training_inputs import add_corpus, add_index

BASE = ("tiny", "b" * 16)
run_experiment = pytest.importorskip("train_jobs.run_experiment")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("arms") / "w", create=True)
    for language in ("de", "en"):
        add_corpus(workspace, language, sample_corpus(language, sizes={"train": 12, "dev": 4, "test": 4}))
        add_index(workspace, language)
    return workspace


def arms(workspace: Workspace, **changes: Any) -> list[PlannedArm]:
    return planned_arms(workspace, plan(**{"languages": ("de", "en"), **changes}), BASE)


def only(workspace: Workspace, **changes: Any) -> PlannedArm:
    (arm,) = arms(workspace, **{"arms": {"a": {}}, **changes})
    return arm


def test_a_plan_becomes_arms_seed_by_seed(workspace: Workspace) -> None:
    planned = arms(workspace, seeds=(3, 5))
    assert [(one.title, one.seed) for one in planned] == [("a", 3), ("b", 3), ("a", 5), ("b", 5)]
    assert len({one.name for one in planned}) == 4
    config = only(
        workspace,
        arms={"a": {"rank": 16, "entity_examples": 2, "threshold_std": 0.5, "recipe": {"epochs": 7}}},
    )
    (specs,) = config.stages
    assert (specs[0].config.rank, specs[0].config.alpha, specs[0].config.epochs) == (16, 32, 7)
    assert (specs[0].config.render.entity_examples, specs[0].threshold_std) == (2, 0.5)


def test_arms_that_differ_in_the_test_alone_share_their_training(workspace: Workspace) -> None:
    shown = {name: {"examples": name} for name in ("both", "neither", "train", "test")}
    by_title = {one.title: one for one in arms(workspace, arms=shown)}
    runs = {name: [spec.run_name for spec in one.stages[0]] for name, one in by_title.items()}
    assert runs["both"] == runs["train"] != runs["neither"] == runs["test"]
    assert len({one.name for one in by_title.values()}) == 4


CHANGES: dict[str, dict[str, Any]] = {
    "seed": {"seeds": (1,)},
    "routing": {"arms": {"a": {"routing": "vote"}}},
    "limit": {"test_limit": 3},
    "split": {"split": "dev"},
    "languages": {"languages": ("en",)},
    "strategy": {"arms": {"a": {"strategy": "polyglot"}}},
    "lambda": {"arms": {"a": {"threshold_std": 0.25}}},
    "prior": {"arms": {"a": {"prior": True}}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_decides_the_scores_decides_the_name(workspace: Workspace, change: str) -> None:
    assert only(workspace, **CHANGES[change]).name != only(workspace).name


def test_a_weight_that_the_workspace_sets_decides_the_name_of_arms_with_the_prior(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(prior: bool) -> str:
        return only(workspace, arms={"a": {"prior": prior}}).name

    plain, asked = names(False), names(True)
    monkeypatch.setenv("RETRIEVEALL_RETRIEVAL_PRIOR_WEIGHT", "0")
    assert names(False) == plain and names(True) != asked


def test_the_names_of_plan_and_arm_do_not_decide_it(workspace: Workspace) -> None:
    again = only(workspace, name="other", arms={"b": {}}, languages=("en", "de"))
    assert again.name == only(workspace).name


def test_embedders_without_an_index_are_named(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError, match="--embedder lm"):
        arms(workspace, arms={"a": {"embedder": "lm"}})


def test_groups_keep_the_cluster_busy_and_stages_are_trained_together(workspace: Workspace) -> None:
    planned = arms(
        workspace, arms={"a": {}, "p": {"strategy": "polyglot_then_monolingual"}, "b": {"rank": 8}}
    )
    sizes = [[one.title for one in group] for group in run_experiment.groups(planned, 3)]
    assert sizes == [["a", "p"], ["b"]]
    first, second = run_experiment.merged_stages(planned)
    assert [spec.language for spec in first] == ["de", "en", "mul", "de", "en"]
    assert [spec.continues for spec in second] == [first[2].run_name] * 2


def test_an_arm_is_tested_with_its_own_adapters_outside_any_release(tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "base")
    workspace = Workspace.open(tmp_path / "w", create=True)
    workspace.claim_base(str(base), base_digest(base))
    rows = sample_corpus("en", sizes={"train": 12, "dev": 4, "test": 4})
    add_corpus(workspace, "en", rows)
    index = add_index(workspace, "en")
    arm = only(workspace, languages=("en",), test_limit=2)
    files = save_tiny_adapter(tmp_path / "peft", tiny_model())
    made = card("en", base_digest=base_digest(base), labels=LABELS, index_digest=index)
    digest = workspace.pool.add(files, made)
    adapters = arm.adapters({arm.stages[0][0].run_name: digest})
    report = arm.test(workspace, adapters, Device())

    assert adapters == {"en": digest}
    assert report.release is None and report.languages[0].strict.sentences == 2
    assert not arm.is_finished(workspace)
    run = TrainedRun(run="en-run", adapter=digest, languages=("en",), tokens=70)
    arm.keep(workspace, report, [run], adapters, created_at="now")
    manifest, kept = arm.kept(workspace)
    assert arm.is_finished(workspace)
    assert (manifest.name, manifest.tokens, manifest.runs, kept.name) == (arm.name, 70, (run,), "a")


@pytest.mark.parametrize("prior", [False, True])
def test_priors_have_their_say_where_an_arm_asks_for_it(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prior: bool
) -> None:
    def opened(workspace: Workspace, options: OpenOptions) -> None:
        raise InterruptedError(options.prior)

    monkeypatch.setattr("retrieveall.experiments.arms.open_tagger", opened)
    arm = only(workspace, arms={"a": {"prior": prior}}, languages=("en",))
    shared = arm.stages[0][0].prior_indexes
    files = peft_folder(tmp_path / "peft")
    refused = IncompatibleArtefactError
    for indexes, prior_format, error in (
        (shared, PRIOR_FORMAT, pytest.raises(InterruptedError, match=str(prior))),
        ({**shared, "nl": "0" * 16}, PRIOR_FORMAT, pytest.raises(refused, match="another plan")),
        (shared, PRIOR_FORMAT - 1, pytest.raises(refused, match="does not learn any more")),
    ):
        made = card("en", prior_weights={"en": 1.0}, prior_indexes=indexes, prior_format=prior_format)
        with error if prior else pytest.raises(InterruptedError):
            arm.test(workspace, {"en": workspace.pool.add(files, made)}, Device())


def kept_report(workspace: Workspace, keep: dict[tuple[str, int], float]) -> ExperimentReport:
    """Keeps made-up reports of some arms and seeds and sums up the plan."""
    made: Plan = plan(languages=("de", "en"), seeds=(0, 1))
    planned = planned_arms(workspace, made, BASE)
    for arm in planned:
        if (arm.title, arm.seed) in keep:
            share = keep[arm.title, arm.seed]
            report = EvalReport.of([language_report(code, keep=share) for code in ("de", "en")], name="x")
            run = TrainedRun(run="r", adapter="a" * 16, languages=("en",), tokens=100 + arm.seed)
            arm.keep(workspace, replace(report, sentences_per_s=10.0), [run], {}, created_at="now")
    return summarise(workspace, made, planned)


def test_nothing_finished_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError, match="No arm of plan 'mini'"):
        kept_report(workspace, {})


def test_the_report_gives_means_over_seeds_and_paired_tests(workspace: Workspace) -> None:
    report = kept_report(workspace, {("a", 0): 0.9, ("a", 1): 0.8, ("b", 0): 0.4})
    a, b = report.arms

    assert (a.seeds, b.seeds, report.missing) == ((0, 1), (0,), ("b (seed 1)",))
    for view in ("strict", "unseen"):
        score = a.macro[view]
        assert score.low < score.f1 < score.high and score.sd is not None and score.sd > 0
    assert b.macro["strict"].sd is None
    assert a.macro["strict"].f1 == pytest.approx(sum(a.languages[c]["strict"].f1 for c in ("de", "en")) / 2)
    assert (a.tokens, a.sentences_per_s) == (100.5, 10.0)
    tested = {one.view: one.macro for one in report.comparisons}
    assert tested["strict"].difference == pytest.approx(a.macro["strict"].f1 - b.macro["strict"].f1)
    assert tested["strict"].p_value < 0.01 and tested["unseen"].low > 0

    text = experiment_tables(report)
    assert "Not finished: b (seed 1)" in text and "| a | b | strict F1 |" in text
    assert set(experiment_figures(report)) == {"macro-f1", "differences"}
    assert report.to_dict()["comparisons"][0]["a"] == "a"
