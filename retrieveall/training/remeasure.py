"""Published adapters measured again: priors learn from languages that came since, weights stay as they are.

An adapter with a new card is one of its own in the pool, as the digest counts the card; `trained_as` names
the one that training made. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from retrieveall.errors import NotFoundError, RetrieveAllError
from retrieveall.lora.card import AdapterCard, DevScores
from retrieveall.lora.pool import PoolAdapter
from retrieveall.lora.release import Release
from retrieveall.lora.releases import Publication
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
        release: The new release; None where nothing changed.
        refused: Language to the reason why its adapter was not published, such as a pin.
    """

    adapters: tuple[Remeasured, ...]
    release: int | None = None
    refused: Mapping[str, str]


def remeasure(
    workspace: Workspace, device: Device, *, created_at: str, languages: Collection[str] | None = None
) -> RemeasureReport:
    """Measures published adapters again whose priors would share with other languages now.

    Each is measured on the dev sentences of its card, and stays as it is where it is worse there. The others
    are published in one release.

    Args:
        workspace: Where everything is.
        device: Where to compute.
        created_at: ISO 8601 time.
        languages: Only the adapters of these; None for all of the release.

    Raises:
        NotFoundError: The release lacks a language.
        ConflictError: Another process published at the same time (the pool keeps the new cards).
    """
    release = workspace.releases.current()
    for language in languages or ():
        release.entry(language)
    answering: dict[str, list[str]] = {}
    for language, entry in release.languages.items():
        answering.setdefault(entry.adapter, []).append(language)
    chosen = {
        digest: tuple(of) for digest, of in answering.items() if languages is None or set(of) & set(languages)
    }
    done = _Measurement(workspace, device).of(chosen, created_at)
    wishes = [
        Publication(language=language, adapter=one.after, index=release.languages[language].index)
        for one in done
        if one.after is not None
        for language in one.languages
    ]
    if not wishes:
        return RemeasureReport(adapters=done, refused={})
    published = workspace.releases.publish_many(wishes, created_at=created_at)
    number = published.release.number if len(published.refused) < len(wishes) else None
    return RemeasureReport(adapters=done, release=number, refused=published.refused)


class _Measurement:
    """Plans and measures the adapters of a release."""

    def __init__(self, workspace: Workspace, device: Device) -> None:
        self._workspace, self._device = workspace, device
        self._indexes = published_indexes(workspace)

    def of(self, chosen: Mapping[str, tuple[str, ...]], created_at: str) -> tuple[Remeasured, ...]:
        """Returns what becomes of adapters, by digest the languages that they answer for."""
        done: dict[str, Remeasured] = {}
        specs: dict[str, RunSpec] = {}
        candidates: dict[str, Candidate] = {}
        for digest, languages in chosen.items():
            adapter = self._workspace.pool.get(digest)
            one = Remeasured(languages=languages, before=digest, dev_before=adapter.card.dev)
            reason = self._reason(adapter)
            if reason is None:
                try:
                    specs[digest] = self._spec(adapter)
                    candidates[digest] = self._candidate(digest, specs[digest])
                except RetrieveAllError as error:  # such as a corpus that has changed
                    reason = str(error)
            done[digest] = replace(one, reason=reason)
        for digest, scores in self._scores(specs, candidates).items():
            done[digest] = self._ended(done[digest], specs[digest], scores, created_at)
        return tuple(done.values())

    def _shared(self, card: AdapterCard) -> dict[str, str]:
        return {code: one.digest for code, one in self._indexes.items() if one.labels == card.labels}

    def _reason(self, adapter: PoolAdapter) -> str | None:
        """Returns why an adapter is not measured."""
        if adapter.card.dev is None:
            return "it was never measured; train it with a dev split"
        if self._shared(adapter.card) == dict(adapter.card.prior_indexes):
            return "its prior shares with the same languages as before"
        return None

    def _spec(self, adapter: PoolAdapter) -> RunSpec:
        card = adapter.card
        assert card.dev is not None  # or there is a reason not to measure
        each = [one.sentences for one in card.dev_by_language.values()]
        most = max(each, default=card.dev.sentences)
        return replace(run_of(self._workspace, adapter, dev_limit=most), prior_indexes=self._shared(card))

    def _candidate(self, digest: str, spec: RunSpec) -> Candidate:
        dev = load_measured(self._workspace, spec)
        return Candidate(adapter=self._workspace.pool.path(digest), dev=dev, labels=spec.labels)

    def _scores(
        self, specs: Mapping[str, RunSpec], candidates: Mapping[str, Candidate]
    ) -> dict[str, Measured | Exception]:
        if not candidates:
            return {}
        spec = specs[next(iter(candidates))]
        budget = spec.config.render.budget_tokens
        return measure_dev(spec.base_model, candidates, device=self._device, budget_tokens=budget)

    def _ended(
        self, one: Remeasured, spec: RunSpec, scores: Measured | Exception, created_at: str
    ) -> Remeasured:
        if isinstance(scores, Exception):
            return replace(one, reason=f"it could not be measured: {scores}")
        one = replace(one, dev=scores.overall)
        if scores.overall is None or one.dev_before is None or scores.overall.f1 < one.dev_before.f1:
            return replace(one, reason="it would be worse on dev")
        pool = self._workspace.pool
        card = pool.get(one.before).card
        card = replace(
            card,
            dev=scores.overall,
            dev_by_language=scores.by_language,
            prior_weights=scores.prior_weights,
            prior_indexes=spec.prior_indexes if scores.prior_weights else {},
            trained_as=card.trained_as or one.before,
            created_at=created_at,
        )
        return replace(one, after=pool.add(pool.path(one.before), card))


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
        same = workspace.pool.get(entry.adapter).card.trained_as == adapter
    except NotFoundError:
        return adapter
    return entry.adapter if same else adapter
