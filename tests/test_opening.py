"""From a workspace to a tagger, with a random base, random adapters and real indexes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from retrieveall import config
from retrieveall.cli import flags
from retrieveall.corpus.sample import sample_corpus
from retrieveall.errors import ConfigError, IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.experiments.plan import ArmRouting
from retrieveall.opening import (
    OpenOptions,
    OpenTagger,
    learn_release,
    open_release_router,
    open_retriever,
    open_tagger,
    read_release,
)
from retrieveall.routing import ROUTERS, RouterName, ScoringRouter
from retrieveall.tagger import TextInput
from retrieveall.types import Examples, TaggedSentence, UnitScores
from retrieveall.workspace import Workspace
from serve_apps.args import ServeArgs
from tests.models import LABELS, save_tiny_adapter, save_tiny_base, tiny_model
from tests.stores import card
from tests.workspaces import random_workspace

TEXT = "Anna Müller besuchte gestern Berlin. She flew back to London."


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return random_workspace(tmp_path_factory.mktemp("opening"), ("de", "en"))


@pytest.fixture(scope="module")
def opened(workspace: Workspace) -> Iterator[OpenTagger]:
    with open_tagger(workspace) as tagger:
        yield tagger


def first(opened: OpenTagger, text: str, language: str | None = None) -> TaggedSentence:
    (answer,) = opened.tagger.tag([TextInput(text=text, language=language)], explain=True, split=False)
    for entity in answer.entities:
        assert entity.text == text[entity.start_char : entity.end_char]
        assert entity.label in LABELS
    return answer.sentences[0]


def add_adapter(workspace: Workspace, folder: Path, language: str = "en", seed: int = 9) -> str:
    """Adds another random adapter for a language, of the same index as the one in use."""
    in_use = workspace.pool.get(workspace.releases.current().languages["en"].adapter).card
    files = save_tiny_adapter(folder / f"peft-{seed}", tiny_model(), seed=seed)
    return workspace.pool.add(files, replace(in_use, language=language))


def test_texts_are_split_routed_and_tagged_with_examples(opened: OpenTagger) -> None:
    (answer,) = opened.tagger.tag([TEXT], explain=True)

    assert opened.tagger.release == 1
    assert [TEXT[s.start_char : s.end_char] for s in answer.sentences] == [TEXT[:36], TEXT[37:]]
    for sentence in answer.sentences:
        assert sentence.adapter in {adapter.digest for adapter in opened.opened.adapters.values()}
        assert {language for language, _ in sentence.ranking} == {"de", "en"}
        assert sentence.examples is not None and len(sentence.examples.context) <= 1


def test_known_sentences_find_their_language(opened: OpenTagger) -> None:
    for language in ("de", "en"):
        text = sample_corpus(language, sizes={"train": 40, "dev": 0, "test": 0})[0].text
        assert first(opened, text).language == language


def test_weights_found_with_earlier_priors_are_told_of(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    release = read_release(workspace, OpenOptions())
    cards = {"de": replace(release.cards["de"], prior_weights={"de": 1.0}), "en": release.cards["en"]}
    open_retriever(workspace, replace(release, cards=cards))
    assert "the priors of de were found with priors of an earlier version" in caplog.text
    caplog.clear()
    open_retriever(workspace, release)
    open_retriever(workspace, replace(release, cards=cards), prior=False)
    assert "earlier version" not in caplog.text


@pytest.mark.parametrize("name", ROUTERS)
def test_every_router_can_be_chosen(workspace: Workspace, name: RouterName) -> None:
    opened = read_release(workspace, OpenOptions())
    router = open_release_router(workspace, opened, open_retriever(workspace, opened), name)
    assert isinstance(router, ScoringRouter) and router.scorer.name == name
    texts = [sample_corpus(code, sizes={"train": 40, "dev": 0, "test": 0})[0].text for code in ("de", "en")]
    assert [route.language for route in router.route(texts).routes] == ["de", "en"]


def test_what_the_default_router_learned_is_kept_and_learned_again_for_an_old_release(
    workspace: Workspace, opened: OpenTagger
) -> None:
    (name,) = (name for name in workspace.routers.list() if workspace.routers.is_folder(name))
    weights = workspace.routers.read_bytes(f"{name}/weights.safetensors")
    workspace.store.remove("routers")
    release = opened.opened
    router = open_release_router(workspace, release, open_retriever(workspace, release), None)
    assert isinstance(router, ScoringRouter) and router.scorer.name == "linear"
    assert workspace.routers.read_bytes(f"{name}/weights.safetensors") == weights


def test_the_same_routers_are_taken_everywhere() -> None:
    assert get_args(config.Routing) == get_args(flags.RoutingChoice) == get_args(RouterName) == ROUTERS
    assert {*get_args(flags.RoutingOrOracle)} == {*get_args(ArmRouting)} == {*ROUTERS, "oracle"}
    for name in ROUTERS:
        assert ServeArgs(workspace="w", routing=name).routing == name


def test_examples_come_from_the_index_and_can_be_left_away(workspace: Workspace, opened: OpenTagger) -> None:
    text = sample_corpus("en", sizes={"train": 40, "dev": 0, "test": 0})[0].text
    shown = first(opened, text, "en").examples
    with open_tagger(workspace, OpenOptions(examples=False)) as without:
        bare = first(without, text, "en")

    assert shown is not None and (shown.context or shown.entity)
    assert bare.examples is not None and not bare.examples.context and not bare.examples.entity


def test_an_adapter_that_never_saw_examples_is_shown_none(workspace: Workspace, tmp_path: Path) -> None:
    text = sample_corpus("en", sizes={"train": 40, "dev": 0, "test": 0})[0].text
    known = workspace.pool.get(workspace.releases.current().languages["en"].adapter)
    card = replace(known.card, examples_in_training=False)
    chosen = {"en": workspace.pool.add(workspace.pool.path(known.digest), card)}
    for untrained in (False, True):
        with open_tagger(workspace, OpenOptions(adapters=chosen, untrained=untrained)) as opened:
            found = first(opened, text, "en").examples
        assert found is not None and bool(found.context or found.entity) is untrained


def prior_of(workspace: Workspace, options: OpenOptions, digest: str) -> UnitScores | None:
    """What the prior says of a text where an English adapter is chosen."""
    chosen = replace(options, adapters={"en": digest})
    with open_tagger(workspace, chosen) as opened:
        examples = first(opened, "Anna flew to Oslo.", "en").examples
    assert examples is not None
    return examples.prior


def test_the_prior_counts_as_the_card_says_unless_it_is_told(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = add_adapter(workspace, tmp_path, seed=7)
    fitted = replace(workspace.pool.get(plain).card, prior_weights={"en": 2.0})
    weighted = workspace.pool.add(tmp_path / "peft-7", fitted)
    assert prior_of(workspace, OpenOptions(), plain) is None
    assert prior_of(workspace, OpenOptions(prior=False), weighted) is None
    said, alone = (prior_of(workspace, OpenOptions(examples=shown), weighted) for shown in (True, False))
    assert said is not None and alone is not None
    assert said.weight == 2.0 and said.labels and len(said.tags) == 5
    monkeypatch.setenv("RETRIEVEALL_RETRIEVAL_PRIOR_WEIGHT", "0.5")
    set_to = prior_of(workspace, OpenOptions(), plain)
    assert set_to is not None and set_to.weight == 0.5


def test_a_text_of_an_uncertain_language_has_the_priors_of_the_likely_ones(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVEALL_RETRIEVAL_PRIOR_WEIGHT", "1")
    opened = read_release(workspace, OpenOptions())
    retriever, text = open_retriever(workspace, opened), "Anna flew to Oslo."
    shares = [(("en", 1.0),), (("de", 1.0),), (("en", 0.6), ("de", 0.4))]
    english, german, both = (one.prior for one in retriever.with_priors([text] * 3, shares, [Examples()] * 3))
    assert english is not None and german is not None and both is not None
    assert retriever.with_priors([text], [(("xx", 0.9), ("en", 0.1))], [Examples()])[0].prior is None
    np.testing.assert_allclose(both.tags, 0.6 * english.tags + 0.4 * german.tags, rtol=1e-3, atol=1e-3)


def test_chosen_adapters_stand_in_for_those_of_the_release(workspace: Workspace, tmp_path: Path) -> None:
    digest = add_adapter(workspace, tmp_path)
    opened = read_release(workspace, OpenOptions(adapters={"en": digest}))

    assert opened.adapters["en"].digest == digest
    assert opened.adapters["de"].digest == workspace.releases.current().languages["de"].adapter
    assert opened.indexes == read_release(workspace, OpenOptions()).indexes


def test_an_adapter_of_another_language_is_refused(workspace: Workspace) -> None:
    german = workspace.releases.current().languages["de"].adapter
    with pytest.raises(InputError, match=f"is for 'de', it cannot answer for 'en'.*de@{german}"):
        read_release(workspace, OpenOptions(adapters={"en": german}))


def test_only_the_languages_asked_for_are_opened(workspace: Workspace) -> None:
    assert set(read_release(workspace, OpenOptions(languages=("en",))).cards) == {"en"}
    with pytest.raises(NotFoundError, match=r"no adapter for nl; it has de, en"):
        read_release(workspace, OpenOptions(languages=("en", "nl")))


def test_oracle_routing_takes_pinned_texts_and_refuses_others(workspace: Workspace) -> None:
    with open_tagger(workspace, OpenOptions(routing="oracle")) as oracle:
        assert first(oracle, "Anna flew.", "en").language == "en"
        with pytest.raises(ConfigError, match="a text names no language"):
            oracle.tagger.tag(["Anna flew."])


def test_unknown_routing_and_releases_are_refused(workspace: Workspace) -> None:
    with pytest.raises(
        ConfigError, match=r"'guess' was given; choose one of linear, vote, centroid, langid, oracle"
    ):
        open_tagger(workspace, OpenOptions(routing="guess"))
    with pytest.raises(NotFoundError, match="no release 99"):
        open_tagger(workspace, OpenOptions(release=99))


def test_a_workspace_without_adapters_says_how_to_get_one(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "empty", create=True)
    with pytest.raises(NotFoundError, match="retrieveall train"):
        open_tagger(workspace)


def test_a_base_that_changed_is_refused_with_both_digests(tmp_path: Path) -> None:
    workspace = random_workspace(tmp_path, ("en",))
    before = workspace.state().base_digest
    save_tiny_base(tmp_path / "base", seed=5)
    with pytest.raises(ConfigError, match=f"built on base {before}, .* is now [0-9a-f]+"):
        open_tagger(workspace)


def test_an_adapter_of_another_base_is_refused_with_both_digests(
    workspace: Workspace, tmp_path: Path
) -> None:
    files = save_tiny_adapter(tmp_path / "peft", tiny_model(), seed=3)
    digest = workspace.pool.add(files, card("en", base_digest="a" * 16, labels=LABELS))
    with pytest.raises(IncompatibleArtefactError, match=f"{'a' * 16}.*{workspace.state().base_digest}"):
        read_release(workspace, OpenOptions(adapters={"en": digest}))


def test_what_the_router_needs_is_learned_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = random_workspace(tmp_path, ("de", "en"))
    learn_release(workspace)

    def refuse(*_: object) -> None:
        raise AssertionError("it was learned again")

    monkeypatch.setattr("retrieveall.route_weights.learn_from_indexes", refuse)
    monkeypatch.setattr("retrieveall.route_settings._fit", refuse)
    with open_tagger(workspace) as opened:
        assert opened.tagger.tag(["Anna ging nach Hause."])
