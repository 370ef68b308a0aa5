"""From a workspace to a tagger: reads a release and puts the tagger's parts together.

The command line, the service and the offline job all open their parts here, so that they tag alike.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from retrieveall.config import Settings, configured
from retrieveall.engine.transformers_engine import EngineConfig, TransformersEngine
from retrieveall.errors import ConfigError, InputError, NotFoundError
from retrieveall.generation import Generator
from retrieveall.languages import POLYGLOT
from retrieveall.lora.card import AdapterCard, check_compatible
from retrieveall.lora.release import Release, ReleaseEntry
from retrieveall.models.base import base_folder
from retrieveall.models.devices import device_at_hand
from retrieveall.models.digest import base_digest
from retrieveall.models.dtypes import default_dtype
from retrieveall.prior_weights import PriorChoice, open_priors
from retrieveall.release_retriever import ReleaseRetriever
from retrieveall.retrieval import Retriever
from retrieveall.route_settings import with_fitted_settings
from retrieveall.route_weights import kept_weights
from retrieveall.routing import ROUTERS, Routed, open_router
from retrieveall.tagger import SentenceRouter, ServedAdapter, Tagger
from retrieveall.taught.book import TaughtBook
from retrieveall.taught.layers import SeenTaught, TaughtLayers
from retrieveall.taught.view import TaughtView
from retrieveall.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenOptions:
    """What may be chosen when a release is opened.

    Attributes:
        release: Its number; None for the current one.
        languages: Only these; None for all of the release.
        adapters: Adapter digests that stand in for those of the release, by language; where every language
            has one, the release plays no part.
        routing: ``linear``, ``vote``, ``centroid``, ``langid``; ``oracle`` where every text names its
            language; None for the workspace's setting.
        examples: Show retrieved examples in the prompts of adapters that were trained with them.
        untrained: Show them to the other adapters, too.
        prior: Let the priors have their say.
        namespace: Also find the examples taught in it, and the shared ones; None for those of the release
            alone.
        threads: Threads of torch on a CPU.
        device: ``cpu`` or ``cuda``, for who was given GPUs or none; None takes a GPU where there is one. The
            workspace's ``engine.device`` goes before both.
    """

    release: int | None = None
    languages: tuple[str, ...] | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    routing: str | None = None
    examples: bool = True
    untrained: bool = False
    prior: bool = True
    namespace: str | None = None
    threads: int = 1
    device: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenRelease:
    """A release, read and checked, before anything heavy is opened.

    Attributes:
        cards: Card of each language's adapter.
    """

    release: Release
    cards: Mapping[str, AdapterCard]
    base_model: str

    @property
    def adapters(self) -> dict[str, ServedAdapter]:
        """What the tagger must know of the adapters."""
        return {
            language: ServedAdapter(
                language=language,
                digest=self.release.languages[language].adapter,
                labels=card.labels,
            )
            for language, card in self.cards.items()
        }

    @property
    def indexes(self) -> dict[str, str]:
        """Index digest by language, where the language has one."""
        return {code: e.index for code, e in self.release.languages.items() if e.index is not None}


def read_release(workspace: Workspace, options: OpenOptions) -> OpenRelease:
    """Reads a release and checks that its adapters fit its base.

    Raises:
        NotFoundError: There is no release, or it lacks a language that was asked for.
        InputError: An adapter was chosen for another language than its own.
        IncompatibleArtefactError: An adapter was made for another base, embedder or prompt format.
        ConfigError: The workspace has no base model yet.
    """
    releases = workspace.releases
    release = releases.current() if options.release is None else releases.load(options.release)
    release = _with_adapters(workspace, release, options)
    if not release.languages:
        raise NotFoundError(
            f"The workspace {workspace.uri!r} has no adapter that answers."
            " Train one: `retrieveall train`, or publish one: `retrieveall adapters publish`."
        )
    state = workspace.state()
    if state.base_model is None or state.base_digest is None:
        raise ConfigError(
            f"The workspace {workspace.uri!r} names no base model. Run `retrieveall train` first."
        )
    cards = {code: workspace.pool.get(entry.adapter).card for code, entry in release.languages.items()}
    for card in cards.values():
        check_compatible(card, base_digest=state.base_digest, embedder_digest=release.embedder_digest)
    return OpenRelease(release=release, cards=cards, base_model=state.base_model)


def _with_adapters(workspace: Workspace, release: Release, options: OpenOptions) -> Release:
    """Restricts a release to the languages asked for and puts the chosen adapters in."""
    languages: dict[str, ReleaseEntry] = dict(release.languages)
    for language, digest in options.adapters.items():
        card = workspace.pool.get(digest).card
        if card.language not in (language, POLYGLOT):
            raise InputError(
                f"Adapter {digest} is for {card.language!r}, it cannot answer for {language!r}."
                f" Name it as {card.language}@{digest}."
            )
        languages[language] = ReleaseEntry(adapter=digest, index=card.index_for(language))
    if options.languages is not None:
        missing = [code for code in options.languages if code not in languages]
        if missing:
            raise NotFoundError(
                f"Release {release.number} has no adapter for {', '.join(missing)}; it has"
                f" {', '.join(sorted(languages)) or 'none'}. Train or publish one."
            )
        languages = {code: languages[code] for code in options.languages}
    if languages and languages.keys() <= options.adapters.keys():
        return _of_adapters(workspace, languages)
    return replace(release, languages=languages)


def _of_adapters(workspace: Workspace, languages: Mapping[str, ReleaseEntry]) -> Release:
    """Returns chosen adapters alone: of no release, and so of any embedder that is the same for all."""
    cards = [workspace.pool.get(entry.adapter).card for entry in languages.values()]
    embedders = [card.embedder_digest for card in cards if card.embedder_digest is not None]
    return Release(
        number=0,
        languages=languages,
        base_digest=cards[0].base_digest,
        embedder_digest=next(iter(embedders), None),
        prompt_format=cards[0].prompt_format,
    )


class OracleRouter:
    """The router of evaluations that know each text's language; asked for any other text it refuses."""

    def route(self, texts: Sequence[str], *, documents: Sequence[int] | None = None) -> Routed:
        """Raises ConfigError, always."""
        raise ConfigError(
            "Routing `oracle` was chosen, but a text names no language. Pin its language, or choose"
            f" {', '.join(ROUTERS)}."
        )


def open_retriever(
    workspace: Workspace,
    opened: OpenRelease,
    last: ReleaseRetriever | None = None,
    *,
    retriever: Retriever | None = None,
    examples: bool = True,
    untrained: bool = False,
    prior: bool = True,
) -> ReleaseRetriever:
    """Opens the indexes of a release, unless they are given, and their priors.

    Those that the last one named too are kept open; the flags are those of `OpenOptions`.
    """
    if retriever is None:
        held = None if last is None else last.retriever
        retriever = Retriever.open(workspace.indexes, opened.indexes, held=held)
    fixed = workspace.settings().retrieval.prior_weight if prior else 0.0
    outdated = sorted(code for code, card in opened.cards.items() if card.has_outdated_prior)
    if outdated and fixed is None:
        log.warning(
            "The weights of the priors of %s were found with priors of an earlier version."
            " `retrieveall adapters remeasure` finds those of now.",
            ", ".join(outdated),
        )
    choices = {
        code: PriorChoice(
            index=index,
            weight=opened.cards[code].prior_weights.get(code, 0.0) if fixed is None else fixed,
            shared=opened.cards[code].prior_indexes,
        )
        for code, index in opened.indexes.items()
        if code in retriever.indexes
    }
    priors = open_priors(workspace, choices, held=None if last is None else last.priors)
    return ReleaseRetriever(retriever, opened.cards, priors=priors, examples=examples, untrained=untrained)


def open_engine(
    workspace: Workspace, opened: OpenRelease, settings: Settings, *, threads: int, device: str | None = None
) -> TransformersEngine:
    """Opens the base of a release with an engine that loads its adapters as they are asked for.

    Args:
        workspace: Whose release it is.
        opened: The release.
        settings: The workspace's.
        threads: As in `OpenOptions`.
        device: As in `OpenOptions`.

    Raises:
        ConfigError: The base is not the one that the workspace was built on.
    """
    folder = base_folder(opened.base_model)
    expected, found = workspace.state().base_digest, base_digest(folder)
    if found != expected:
        raise ConfigError(
            f"The workspace was built on base {expected}, {opened.base_model!r} is now {found}."
            " Put the old base back, or train again in a new workspace."
        )
    device = str(settings.engine.get("device") or device or device_at_hand())
    config = configured(
        EngineConfig,
        {"dtype": default_dtype(device), **settings.engine},
        source="engine settings",
        base_model=folder,
        device=device,
        threads=threads,
    )
    return TransformersEngine(config, workspace.pool.path)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenTagger:
    """A tagger with the engine that must be closed after use; a context manager."""

    tagger: Tagger
    engine: TransformersEngine
    opened: OpenRelease

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the engine."""
        self.engine.close()


def open_tagger(workspace: Workspace, options: OpenOptions | None = None) -> OpenTagger:
    """Opens everything that tags in this process.

    Raises:
        NotFoundError: There is no release, or it lacks a language that was asked for.
        IncompatibleArtefactError: An adapter was made for another base, embedder or prompt format.
        ConfigError: The workspace has no base model, or the settings contradict each other.
    """
    options = options or OpenOptions()
    opened = read_release(workspace, options)
    settings = workspace.settings()
    retriever = open_retriever(
        workspace,
        opened,
        examples=options.examples,
        untrained=options.untrained,
        prior=options.prior,
    )
    router = open_release_router(workspace, opened, retriever, options.routing)
    engine = open_engine(workspace, opened, settings, threads=options.threads, device=options.device)
    generator = Generator(engine, engine.codec, budget_tokens=settings.prompt.budget_tokens)
    if options.namespace is not None:
        view = TaughtView(namespace=options.namespace)
        layers = TaughtLayers(TaughtBook(workspace.taught))
        retriever = retriever.seeing(SeenTaught(layers=layers, view=view))
    tagger = Tagger(
        release=opened.release.number,
        adapters=opened.adapters,
        router=router,
        retriever=retriever,
        generator=generator,
    )
    return OpenTagger(tagger=tagger, engine=engine, opened=opened)


def learn_release(workspace: Workspace) -> None:
    """Learns what the current release's router and priors need, so that whoever opens the release reads it.

    Raises:
        RetrieveAllError: As `open_tagger`.
    """
    opened = read_release(workspace, OpenOptions())
    open_release_router(workspace, opened, open_retriever(workspace, opened), None)


def open_release_router(
    workspace: Workspace, opened: OpenRelease, retriever: ReleaseRetriever, routing: str | None
) -> SentenceRouter:
    """Opens the router of a release over the languages that have adapters, fitted on their dev sentences.

    Args:
        workspace: Whose release it is.
        opened: The release.
        retriever: Its opened indexes.
        routing: As in `OpenOptions`; None for the workspace's setting.

    Raises:
        ConfigError: There is no router of that name.
    """
    settings = workspace.settings().retrieval
    routing = routing or settings.routing
    if routing == "oracle":
        return OracleRouter()
    if routing not in ROUTERS:
        raise ConfigError(f"Routing {routing!r} was given; choose one of {', '.join(ROUTERS)}, oracle.")
    k = settings.routing_neighbours
    indexes, languages = retriever.indexes, tuple(opened.cards)
    learned = routing == "linear" and indexes.keys() >= opened.cards.keys()
    weights = kept_weights(workspace, opened.indexes, indexes) if learned else None
    router = open_router(routing, indexes, languages=languages, neighbours=k, weights=weights)
    return with_fitted_settings(workspace, opened.indexes, router, neighbours=k)
