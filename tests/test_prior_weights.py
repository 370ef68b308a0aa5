"""What a prior learned is kept by its index, read again, and goes when no release needs its index."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

import retrieveall.prior_weights
from retrieveall.lora.card import PRIOR_FORMAT
from retrieveall.lora.gc import collect_garbage
from retrieveall.prior import PriorWeights, learn_prior
from retrieveall.prior_weights import OpenPrior, PriorChoice, open_priors
from retrieveall.retrieval import write_index
from retrieveall.types import Sentence
from retrieveall.workspace import Workspace
from tests.indexes import SMALL, request, training
from tests.stores import add_adapter, workspace_of

TEXTS = {
    "en": ("[Anna](PER) is in [Oslo](LOC) .", "the house of [Boris](PER) ."),
    "es": ("[Ana](PER) está en [Lima](LOC) .", "la casa de [Luis](PER) ."),
    "nl": ("de kat zit op de mat", "dit is het huis"),
}
NOW = "2025-01-01T00:00:00+00:00"


@pytest.fixture(params=["local", "remote"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    return workspace_of(request.param, tmp_path)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first sentence of each time that something was learned."""
    times: list[str] = []

    def counted(sentences: list[Sentence], start: PriorWeights | None = None) -> PriorWeights:
        times.append(sentences[0].text)
        return learn_prior(sentences, start=start)

    monkeypatch.setattr(retrieveall.prior_weights, "learn_prior", counted)
    return times


def build(workspace: Workspace, *languages: str) -> dict[str, str]:
    digests = {}
    for code in languages:
        sentences = training(*TEXTS[code], language=code)
        digests[code] = write_index(workspace.indexes, request(sentences), sentences, SMALL).digest
    return digests


def opened(
    workspace: Workspace,
    digests: dict[str, str],
    weights: dict[str, float],
    held: dict[str, OpenPrior] | None = None,
    shared: Mapping[str, str] | None = None,
) -> dict[str, OpenPrior]:
    choices = {
        code: PriorChoice(index=digest, weight=weights.get(code, 0.0), shared=shared or {})
        for code, digest in digests.items()
    }
    return open_priors(workspace, choices, held=held)


def names(workspace: Workspace) -> list[str]:
    return [name for name in workspace.priors.list() if workspace.priors.is_folder(name)]


def test_it_is_learned_once_and_then_read(workspace: Workspace, learned: list[str]) -> None:
    digests = build(workspace, "en", "es")
    first = opened(workspace, digests, {"en": 1.0, "es": 2.0})
    again = opened(workspace, digests, {"en": 0.5, "es": 2.0})
    assert len(learned) == len(names(workspace)) == 2
    assert (again["en"].prior.weight, again["es"].prior.weight) == (0.5, 2.0)
    assert again["en"].prior.weights.labels == ("LOC", "PER")
    for name in ("table", "transitions"):
        one, other = (getattr(some["en"].prior.weights, name) for some in (first, again))
        assert torch.equal(one, other)


def test_languages_without_weight_learn_nothing(workspace: Workspace, learned: list[str]) -> None:
    digests = build(workspace, "en", "es")
    assert list(opened(workspace, digests, {"en": 0.0, "es": 1.0})) == ["es"]
    assert opened(workspace, digests, {}) == {} and len(learned) == 1


def test_what_is_held_is_taken_over(workspace: Workspace, learned: list[str]) -> None:
    digests = build(workspace, "en")
    first = opened(workspace, digests, {"en": 1.0})
    assert opened(workspace, digests, {"en": 1.0}, first)["en"] is first["en"]
    assert opened(workspace, digests, {"en": 2.0}, first)["en"] is not first["en"]


def test_languages_share_what_they_learn_and_go_on_alone(workspace: Workspace, learned: list[str]) -> None:
    digests = build(workspace, "en", "es")
    alone = opened(workspace, digests, {"en": 1.0, "es": 1.0})
    shared = opened(workspace, digests, {"en": 1.0, "es": 1.0}, shared=digests)
    first = ["Anna is in Oslo .", "Ana está en Lima ."]
    assert learned == [*first, first[0], *first]  # each alone, then both at once, then each again
    assert opened(workspace, digests, {"en": 2.0}, shared=digests)["en"].prior.weight == 2.0
    assert len(learned) == len(names(workspace)) == 5
    for code in digests:
        one, other = (some[code].prior.weights.table for some in (alone, shared))
        assert one.shape != other.shape or not torch.equal(one, other)


def test_a_language_that_is_not_among_those_that_share_learns_alone(
    workspace: Workspace, learned: list[str]
) -> None:
    digests = build(workspace, "en", "es")
    opened(workspace, digests, {"es": 1.0}, shared={"en": digests["en"]})
    assert learned == ["Ana está en Lima ."]


def test_an_index_that_is_gone_is_learned_without(
    workspace: Workspace, learned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    digests = build(workspace, "en", "es")
    with caplog.at_level(logging.WARNING):
        found = opened(workspace, digests, {"en": 1.0}, shared={**digests, "fr": "0123456789abcdef"})
    assert list(found) == ["en"] and len(learned) == 2
    assert "The prior of en learns without fr" in caplog.text


def test_what_is_kept_is_read_without_the_others(workspace: Workspace, learned: list[str]) -> None:
    digests = build(workspace, "en", "es")
    opened(workspace, digests, {"en": 1.0}, shared=digests)
    workspace.indexes.remove(f"es/{digests['es']}", marker="manifest.json")
    assert list(opened(workspace, {"en": digests["en"]}, {"en": 1.0}, shared=digests)) == ["en"]
    assert len(learned) == 2


def test_a_broken_index_costs_its_language_the_prior_and_no_other(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    digests = build(workspace, "en", "es")
    workspace.indexes.remove(f"es/{digests['es']}", marker="manifest.json")
    with caplog.at_level(logging.WARNING):
        assert list(opened(workspace, digests, {"en": 1.0, "es": 1.0})) == ["en"]
    assert "es goes without a prior" in caplog.text


def test_of_each_language_as_many_sentences_are_shared(
    workspace: Workspace, learned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = build(workspace, "en", "es")
    counts: list[int] = []

    def counted(sentences: list[Sentence], start: PriorWeights | None = None) -> PriorWeights:
        counts.append(len(sentences))
        return learn_prior(sentences, start=start)

    monkeypatch.setattr(retrieveall.prior_weights, "learn_prior", counted)
    monkeypatch.setattr(retrieveall.prior_weights, "MOST_SHARED", 3)
    opened(workspace, digests, {"en": 1.0}, shared=digests)
    assert counts == [2, 2]  # one of each, then both of en


def test_a_language_without_mentions_goes_without(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    digests = build(workspace, "nl")
    with caplog.at_level(logging.WARNING):
        assert opened(workspace, digests, {"nl": 1.0}) == {}
    assert "nl goes without a prior" in caplog.text and names(workspace) == []


def test_what_is_broken_is_learned_again(
    workspace: Workspace, learned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    digests = build(workspace, "en")
    opened(workspace, digests, {"en": 1.0})
    (name,) = names(workspace)
    workspace.priors.write_text(f"{name}/weights.safetensors", "no weights")
    with caplog.at_level(logging.WARNING):
        opened(workspace, digests, {"en": 1.0})
    assert f"The prior {name}" in caplog.text and len(learned) == 2


def test_garbage_is_what_no_kept_release_needs(
    workspace: Workspace, learned: list[str], tmp_path: Path
) -> None:
    digests = build(workspace, "en", "es")
    for seed, code in enumerate(digests):
        adapter = add_adapter(workspace, tmp_path, seed=seed, language=code)
        workspace.releases.publish(code, adapter, digests[code], created_at=NOW)
    opened(workspace, digests, {"en": 1.0, "es": 1.0})
    assert collect_garbage(workspace, now_s=4e9, min_age_s=3600, keep_releases=1).removed == ()
    workspace.releases.remove("es", created_at=NOW)
    removed = collect_garbage(workspace, now_s=4e9, min_age_s=3600, keep_releases=1).removed
    assert [garbage.kind for garbage in removed if garbage.path.startswith("priors/")] == ["prior"]
    assert len(names(workspace)) == 1


def test_priors_of_an_earlier_format_go(
    workspace: Workspace, learned: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = build(workspace, "en")
    workspace.releases.publish(
        "en", add_adapter(workspace, tmp_path, language="en"), digests["en"], created_at=NOW
    )
    monkeypatch.setattr("retrieveall.prior_weights.PRIOR_FORMAT", PRIOR_FORMAT - 1)
    opened(workspace, digests, {"en": 1.0})
    (old,) = names(workspace)
    monkeypatch.undo()
    opened(workspace, digests, {"en": 1.0})
    removed = collect_garbage(workspace, now_s=4e9, min_age_s=3600, keep_releases=1).removed
    assert [garbage.digest for garbage in removed] == [old] and len(names(workspace)) == 1


def test_what_priors_share_stays_with_them(workspace: Workspace, learned: list[str], tmp_path: Path) -> None:
    digests = build(workspace, "en", "es")
    adapter = add_adapter(workspace, tmp_path, language="en", prior_indexes=digests)
    workspace.releases.publish("en", adapter, digests["en"], created_at=NOW)
    opened(workspace, digests, {"en": 1.0}, shared=digests)
    opened(workspace, digests, {"es": 1.0})
    removed = collect_garbage(workspace, now_s=4e9, min_age_s=3600, keep_releases=1).removed
    assert [garbage.kind for garbage in removed] == ["prior"]  # that of es alone
    assert len(names(workspace)) == 2 and workspace.indexes.exists(f"es/{digests['es']}/manifest.json")
