"""Published adapters measured again: priors learn anew, also from languages that came since; weights stay.

An adapter with a new card is one of its own in the pool, as the digest counts the card; `trained_as` names
the one that training made. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from retrieveall.errors import NotFoundError, RetrieveAllError
from retrieveall.lora.card import PRIOR_FORMAT, AdapterCard, DevScores
from retrieveall.lora.pool import PoolAdapter
from retrieveall.lora.release import Release
from retrieveall.lora.releases import Publication
from retrieveall.opening import OpenOptions, read_release
from retrieveall.training.cards import run_of
from retrieveall.training.inputs import RunSpec, load_measured
from retrieveall.training.run import Candidate, Device, Measured, measure_dev
from retrieveall.training.sharing import published_indexes
from retrieveall.workspace import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class Remeasured:
    """What became of one published adapter.

    Attributes:
        languages: Those that it answers for.
        before: Its digest.
        after: Digest of the adapter with its new card; None where it stays as it is.
        dev_before: Scores on its card.
        dev: Scores with the priors of now; None where it was not measured.
        reason: Why it stays as it is.
    """

    languages: tuple[str, ...]
    before: str
    after: str | None = None
    dev_before: DevScores | None = None
    dev: DevScores | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RemeasureReport:
    """What became of all.

    Attributes:
        adapters: Every adapter that was asked for.
        release: The new release; None where nothing changed.
        refused: Language to the reason why its adapter was not published all the same.
    """

    adapters: tuple[Remeasured, ...]
    release: int | None
    refused: Mapping[str, str]


def remeasure(
    workspace: Workspace,
    device: Device,
    *,
    created_at: str,
    languages: Collection[str] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> RemeasureReport:
    """Measures published adapters again whose priors would learn otherwise now, or with other languages.

    Each is measured on the dev sentences of its card, and stays as it is where one of the languages that it
    answers for is worse there; not where the card tells of a prior that this version does not learn any more.
    The others are published in one release, unless another adapter has been published for the language
    meanwhile.

    Args:
        workspace: Where everything is.
        device: Where to compute.
        created_at: ISO 8601 time.
        languages: Only the adapters of these; None for all of the release.
        on_progress: Called after every adapter.

    Raises:
        NotFoundError: There is no release, or it lacks a language.
        IncompatibleArtefactError: An adapter of the release was made for another base or prompt format.
        ConflictError: Another process publishes at this moment (the pool keeps the new cards).
    """
    release = read_release(workspace, OpenOptions()).release
    for language in languages or ():
        release.entry(language)
    answering: dict[str, list[str]] = {}
    for language, entry in release.languages.items():
        answering.setdefault(entry.adapter, []).append(language)
    chosen = {
        digest: tuple(of) for digest, of in answering.items() if languages is None or set(of) & set(languages)
    }
    measurement = _Measurement(workspace, release, device, created_at)
    done = []
    for number, (digest, of) in enumerate(chosen.items()):
        done.append(measurement.of(digest, of))
        on_progress(number + 1, len(chosen))
    return _published(workspace, done, created_at)


def _published(workspace: Workspace, done: Collection[Remeasured], created_at: str) -> RemeasureReport:
    """Publishes new cards for the languages that still have the old ones."""
    now = workspace.releases.current()
    refused: dict[str, str] = {}
    wishes = []
    for one in done:
        for language in one.languages if one.after is not None else ():
            entry = now.languages.get(language)
            if entry is None or entry.adapter != one.before:
                refused[language] = f"{language}: another release was made meanwhile. Measure again."
            elif one.after is not None:
                wishes.append(Publication(language=language, adapter=one.after, index=entry.index))
    number = None
    if wishes:
        published = workspace.releases.publish_many(wishes, created_at=created_at)
        refused |= published.refused
        number = published.release.number if published.release.number != now.number else None
    return RemeasureReport(adapters=tuple(done), release=number, refused=refused)


class _Measurement:
    """Measures the adapters of a release, one after the other."""

    def __init__(self, workspace: Workspace, release: Release, device: Device, created_at: str) -> None:
        self._workspace, self._release = workspace, release
        self._device, self._created_at = device, created_at
        self._indexes = published_indexes(workspace)

    def of(self, digest: str, languages: tuple[str, ...]) -> Remeasured:
        """Returns what becomes of an adapter that answers for some languages."""
        adapter = self._workspace.pool.get(digest)
        one = Remeasured(languages=languages, before=digest, dev_before=adapter.card.dev)
        reason = self._reason(adapter, languages)
        if reason is not None:
            return replace(one, reason=reason)
        try:
            spec = self._spec(adapter)
            return self._ended(one, adapter, spec, self._scores(adapter, spec))
        except (RetrieveAllError, OSError, pa.ArrowException) as error:  # such as a corpus that has changed
            return replace(one, reason=f"it could not be measured: {error}")

    def _shared(self, card: AdapterCard) -> dict[str, str]:
        return {code: one.digest for code, one in self._indexes.items() if one.labels == card.labels}

    def _reason(self, adapter: PoolAdapter, languages: Collection[str]) -> str | None:
        """Returns why an adapter is not measured."""
        if adapter.card.dev is None:
            return "it was never measured; train it with a dev split"
        if any(self._release.languages[code].pinned for code in languages):
            return "it is pinned"
        shares = dict(adapter.card.prior_indexes)
        if self._shared(adapter.card) == shares and not adapter.card.has_outdated_prior:
            return "its prior shares with the same languages as before"
        return None

    def _spec(self, adapter: PoolAdapter) -> RunSpec:
        card = adapter.card
        assert card.dev is not None  # or there is a reason not to measure
        each = [one.sentences for one in card.dev_by_language.values()]
        most = max(each, default=card.dev.sentences)
        return replace(run_of(self._workspace, adapter, dev_limit=most), prior_indexes=self._shared(card))

    def _scores(self, adapter: PoolAdapter, spec: RunSpec) -> Measured:
        digest = adapter.digest
        dev = load_measured(self._workspace, spec)
        for language in adapter.card.prior_weights:  # or the card would lose what is only out of reach
            if not any(examples.prior for examples in dev[language].examples):
                raise NotFoundError(f"the prior of {language} could not be learned, see the log")
        candidate = Candidate(
            adapter=self._workspace.pool.path(digest),
            dev=dev,
            labels=spec.labels,
        )
        base_model = self._workspace.state().base_model or spec.base_model
        budget = spec.config.render.budget_tokens
        scores = measure_dev(base_model, {digest: candidate}, device=self._device, budget_tokens=budget)
        measured = scores[digest]
        if not isinstance(measured, Measured):
            raise measured
        return measured

    def _ended(self, one: Remeasured, adapter: PoolAdapter, spec: RunSpec, scores: Measured) -> Remeasured:
        one, card = replace(one, dev=scores.overall), adapter.card
        weights = scores.prior_weights
        if not weights and not card.has_outdated_prior:
            return replace(one, reason="its prior brings nothing")
        made = replace(
            card,
            dev=scores.overall,
            dev_by_language=scores.by_language,
            prior_weights=weights,
            prior_indexes=spec.prior_indexes if weights else {},
            prior_format=PRIOR_FORMAT if weights else None,
            trained_as=adapter.trained_as,
            created_at=self._created_at,
        )
        worse = [code for code in one.languages if _f1(made, code) < _f1(card, code)]
        if worse and not card.has_outdated_prior:
            return replace(one, reason=f"it would be worse on dev in {', '.join(worse)}")
        pool = self._workspace.pool
        return replace(one, after=pool.add(pool.path(one.before), made))


def _f1(card: AdapterCard, language: str) -> float:
    dev = card.dev_for(language)
    return 0.0 if dev is None else dev.f1


def as_published(workspace: Workspace, release: Release, language: str, adapter: str) -> str:
    """Returns an adapter, or the same measured again where that is what answers for the language.

    Args:
        workspace: Where the pool is.
        release: The current one.
        language: For which an adapter is to be published.
        adapter: Its digest.
    """
    entry = release.languages.get(language)
    if entry is None:
        return adapter
    try:
        same = workspace.pool.get(entry.adapter).trained_as == adapter
    except NotFoundError:
        return adapter
    return entry.adapter if same else adapter
