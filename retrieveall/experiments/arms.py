"""One arm with one seed: what is trained for it, how it is tested, and what is kept of it.

What is kept stands in ``runs/arm-<digest>/``: report.json, then manifest.json. The digest is of all that
decides the scores, so an arm that several plans share runs once, and a finished one never again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from retrieveall.digests import digest_json
from retrieveall.embedding import spec_for
from retrieveall.errors import IncompatibleArtefactError
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.run import EvalChoice, evaluate_tagger
from retrieveall.experiments.plan import Arm, Plan
from retrieveall.frozen import from_dict, to_dict
from retrieveall.lora.card import PRIOR_FORMAT
from retrieveall.opening import OpenOptions, open_tagger
from retrieveall.storage import Store
from retrieveall.training.inputs import RunSpec
from retrieveall.training.planning import TrainingChoice, plan_specs, training_config
from retrieveall.training.run import Device
from retrieveall.workspace import Workspace

ARM_FORMAT_VERSION = 1
_MANIFEST, _REPORT = "manifest.json", "report.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedRun:
    """A training run that an arm needed.

    Attributes:
        run: Its name.
        adapter: Digest of what it made.
        languages: Whose training splits it saw.
        tokens: Prompt and target tokens that it saw; None where that was not counted.
    """

    run: str
    adapter: str
    languages: tuple[str, ...]
    tokens: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmManifest:
    """What an arm with one seed was made of.

    Attributes:
        name: ``arm-<digest>``.
        adapters: Digest of the adapter that answered for each language.
        tokens: Training tokens of all its runs together; None where one was not counted.
    """

    name: str
    arm: Arm
    seed: int
    corpus: str
    adapters: Mapping[str, str]
    runs: tuple[TrainedRun, ...]
    tokens: int | None
    created_at: str
    format_version: int = ARM_FORMAT_VERSION


@dataclass(frozen=True, kw_only=True)
class PlannedArm:
    """One arm of a plan with one seed.

    Attributes:
        title: Name of the arm in its plan.
        stages: The training runs of each stage.
        settings: Of the workspace, as far as they decide how the test tags.
    """

    title: str
    arm: Arm
    seed: int
    plan: Plan
    stages: Sequence[Sequence[RunSpec]]
    settings: Mapping[str, Any]

    @cached_property
    def name(self) -> str:
        """``arm-<digest>``, of all that decides the scores."""
        made_of = {
            "format": ARM_FORMAT_VERSION,
            "runs": [[spec.run_name, list(spec.serves)] for stage in self.stages for spec in stage],
            "routing": self.arm.routing,
            "examples": self.arm.tests_with_examples,
            "languages": sorted(self.plan.languages),
            "split": self.plan.split,
            "limit": self.plan.test_limit,
            "settings": self.settings,
            **({"prior": PRIOR_FORMAT} if self.arm.prior else {}),
        }
        return f"arm-{digest_json(made_of)}"

    def adapters(self, made: Mapping[str, str]) -> dict[str, str]:
        """Returns who answers for each language.

        Args:
            made: Adapters by the names that runs were planned with.
        """
        return {
            language: made[spec.run_name]
            for stage in self.stages
            for spec in stage
            for language in spec.serves
        }

    def test(self, workspace: Workspace, adapters: Mapping[str, str], device: Device) -> EvalReport:
        """Tags and scores, as ``retrieveall eval`` does.

        Args:
            workspace: Where everything is.
            adapters: By language.
            device: Where the model is, and torch's threads.

        Raises:
            IncompatibleArtefactError: The priors are to speak, and learn from other indexes than the plan's,
                or otherwise than when their weights were found.
        """
        arm, plan = self.arm, self.plan
        if arm.prior:
            self._check_priors(workspace, adapters)
        options = OpenOptions(
            languages=tuple(sorted(plan.languages)),
            adapters=adapters,
            routing=arm.routing,
            examples=arm.tests_with_examples,
            untrained=True,
            prior=arm.prior,
            threads=device.threads,
            device=device.name,
        )
        choice = EvalChoice(
            corpus=plan.corpus,
            languages=tuple(sorted(plan.languages)),
            split=plan.split,
            limit=plan.test_limit,
            oracle=arm.routing == "oracle",
            detokenised=False,
            name=self.title,
            settings={"arm": to_dict(arm), "seed": self.seed, "adapters": dict(adapters)},
        )
        with open_tagger(workspace, options) as opened:
            return evaluate_tagger(workspace, opened.tagger, choice)

    def _check_priors(self, workspace: Workspace, adapters: Mapping[str, str]) -> None:
        for spec in (spec for stage in self.stages for spec in stage if spec.serves):
            card = workspace.pool.get(adapters[spec.serves[0]]).card
            if card.has_outdated_prior and "prior_weight" not in self.settings:
                raise IncompatibleArtefactError(
                    f"Adapter {adapters[spec.serves[0]]} of arm {self.title!r} was measured with a prior that"
                    " this version of retrieveall does not learn any more. To train it again, remove"
                    f" {workspace.run(spec.run_name).uri}."
                )
            if card.prior_weights and dict(card.prior_indexes) != dict(spec.prior_indexes):
                raise IncompatibleArtefactError(
                    f"Adapter {adapters[spec.serves[0]]} shares its prior with"
                    f" {', '.join(card.prior_indexes)}; arm {self.title!r} expects"
                    f" {', '.join(spec.prior_indexes)}. It was trained for another plan: run this one in a"
                    " workspace of its own."
                )

    def keep(
        self,
        workspace: Workspace,
        report: EvalReport,
        runs: Sequence[TrainedRun],
        adapters: Mapping[str, str],
        *,
        created_at: str,
    ) -> ArmManifest:
        """Writes the report, then the manifest; from then on the arm is finished."""
        counted = [run.tokens for run in runs if run.tokens is not None]
        manifest = ArmManifest(
            name=self.name,
            arm=self.arm,
            seed=self.seed,
            corpus=self.plan.corpus,
            adapters=dict(adapters),
            runs=tuple(runs),
            tokens=sum(counted) if len(counted) == len(runs) else None,
            created_at=created_at,
        )
        folder = workspace.run(self.name)
        folder.write_json(_REPORT, report.to_dict(full=True))
        folder.write_json(_MANIFEST, to_dict(manifest))
        return manifest

    def is_finished(self, workspace: Workspace) -> bool:
        """Whether manifest and report are there."""
        return workspace.run(self.name).exists(_MANIFEST)

    def kept(self, workspace: Workspace) -> tuple[ArmManifest, EvalReport]:
        """Reads what `keep` wrote, under the arm's name in this plan.

        Raises:
            NotFoundError: The arm is not finished.
        """
        folder: Store = workspace.run(self.name)
        manifest = from_dict(ArmManifest, folder.read_json(_MANIFEST), source=f"{folder.uri}/{_MANIFEST}")
        report = EvalReport.from_dict(folder.read_json(_REPORT))
        return manifest, replace(report, name=self.title)


def planned_arms(workspace: Workspace, plan: Plan, base: tuple[str, str]) -> list[PlannedArm]:
    """Returns every arm with every seed, seed by seed, so that an experiment that is cut short has them all.

    Args:
        workspace: Its indexes must be there already.
        plan: The plan.
        base: Name and digest of the workspace's base.

    Raises:
        NotFoundError: A corpus or index is missing.
        InputError: A strategy needs more languages.
        ConfigError: A field of a recipe is unknown or does not fit.
    """
    return [_planned(workspace, plan, name, seed, base) for seed in plan.seeds for name in plan.arms]


def _planned(workspace: Workspace, plan: Plan, title: str, seed: int, base: tuple[str, str]) -> PlannedArm:
    settings = workspace.settings()
    fixed = settings.retrieval.prior_weight
    arm = plan.arm(title)
    ranked = {} if arm.rank is None else {"rank": arm.rank, "alpha": 2 * arm.rank}
    recipe = {**ranked, **arm.recipe, "seed": seed}
    shown = {"entity_examples": arm.entity_examples, "context_examples": arm.context_examples}
    render = {**recipe.pop("render", {}), **{k: v for k, v in shown.items() if v is not None}}
    choice = TrainingChoice(
        base_model=base[0],
        base_digest=base[1],
        config=training_config(settings, recipe, render),
        corpus=plan.corpus,
        languages=plan.languages,
        strategy=arm.strategy,
        shots=arm.shots,
        examples=arm.trains_with_examples,
        embedder=spec_for(arm.embedder, base_model=base[0]).name,
        threshold_std=settings.prompt.threshold_std if arm.threshold_std is None else arm.threshold_std,
        train_limit=arm.train_limit,
        dev_limit=plan.dev_limit,
        shares_with_published=False,
    )
    return PlannedArm(
        title=title,
        arm=arm,
        seed=seed,
        plan=plan,
        stages=plan_specs(workspace, choice),
        settings={
            "budget_tokens": settings.prompt.budget_tokens,
            "routing_neighbours": settings.retrieval.routing_neighbours,
            "engine": dict(settings.engine),
            **({"prior_weight": fixed} if arm.prior and fixed is not None else {}),
        },
    )
