"""The card of an adapter: what it was made from, for what it may be used, how good it was on dev."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from retrieveall.errors import IncompatibleArtefactError, InputError
from retrieveall.frozen import from_dict, to_dict
from retrieveall.languages import check_language
from retrieveall.names import check_digest, check_label
from retrieveall.prompting.codec import PROMPT_FORMAT

CARD_FORMAT_VERSION = 1
PRIOR_FORMAT = 5
"""Version of what priors learn: raised where their files, features or learning change."""

StrategyName = Literal["monolingual", "polyglot", "polyglot_then_monolingual", "leave_language_out"]
Calibration = Literal["uncalibrated"] | tuple[tuple[float, float], ...]
"""``uncalibrated``, or points ``(score, share right on dev)`` to be joined by straight lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DevScores:
    """Strict span and type micro-F1 on the dev split, fractions, with its bootstrap interval.

    Attributes:
        sentences: Dev sentences that it was measured on.
    """

    f1: float
    f1_low: float
    f1_high: float
    sentences: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageData:
    """What one language brings to an adapter.

    Attributes:
        corpus: Name of its corpus.
        corpus_digest: Of the content.
        index: Digest of the index that its examples come from; None where there is none.
    """

    corpus: str
    corpus_digest: str
    index: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterCard:
    """What stands in ``card.json`` beside an adapter's weights.

    Attributes:
        language: BCP-47 code; ``mul`` for an adapter of several languages.
        base_model: Name of the base, for people; `base_digest` is what counts.
        labels: Entity types that the adapter may emit, at least one.
        corpus: Name of the corpus it was trained on; for ``mul`` of all, joined by ``+``.
        corpus_digest: Of its content; for ``mul`` of all digests.
        index_digest: The index its training prompts came from; None where there was none, and for ``mul``.
        prior_weights: By language, the power to which the prior's probabilities count with this adapter, by
            its dev F1; languages that are missing go without.
        prior_indexes: By language, the indexes whose languages share what their priors learn; the prior of a
            language that is not among them learns from its own index alone.
        prior_format: `PRIOR_FORMAT` when `prior_weights` were found; None where there are none, and on cards
            from before it was noted.
        trained_as: Digest of the adapter that training made, where this one is the same measured again.
        sources: For ``mul``: the data of each language, also of one that it was only measured on.
        embedder_digest: Digest of that index's embedder; None where there was none.
        prompt_format: `retrieveall.prompting.codec.PROMPT_FORMAT` at training time.
        entity_examples: n, most entity examples in a prompt.
        context_examples: m, most context examples in a prompt.
        threshold_std: λ of the dynamic threshold τ = mean + λ·std.
        examples_in_training: False when every training prompt was without examples.
        dev: Scores on dev; None where they were not measured.
        dev_by_language: For ``mul``: scores of single languages.
        calibration: Map from scores to probabilities, or ``uncalibrated``.
        created_at: ISO 8601 time, passed in by whoever makes the card; no part of the digest.
        synthetic: Trained on generated text: shown wherever its scores are.
        training: The training settings as JSON values; no times, because it is part of the digest.
        initial_adapter: Digest of the adapter that training went on from, if any.
        licence: What the training data's licence asks of whoever passes the adapter on.
    """

    language: str
    base_model: str
    base_digest: str
    labels: tuple[str, ...]
    corpus: str
    corpus_digest: str
    created_at: str
    strategy: StrategyName = "monolingual"
    index_digest: str | None = None
    embedder: str | None = None
    embedder_digest: str | None = None
    prompt_format: str = PROMPT_FORMAT
    entity_examples: int = 0
    context_examples: int = 0
    threshold_std: float = 0.0
    examples_in_training: bool = False
    dev: DevScores | None = None
    dev_by_language: Mapping[str, DevScores] = field(default_factory=dict)
    calibration: Calibration = "uncalibrated"
    synthetic: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)
    initial_adapter: str | None = None
    licence: str = ""
    sources: Mapping[str, LanguageData] = field(default_factory=dict)
    prior_weights: Mapping[str, float] = field(default_factory=dict)
    prior_indexes: Mapping[str, str] = field(default_factory=dict)
    prior_format: int | None = None
    trained_as: str | None = None
    format_version: int = CARD_FORMAT_VERSION

    @property
    def has_outdated_prior(self) -> bool:
        """Whether its weights and scores come from priors that this version does not learn any more."""
        return bool(self.prior_weights) and self.prior_format != PRIOR_FORMAT

    def dev_for(self, language: str) -> DevScores | None:
        """Returns the dev scores that count for a language; None where it was not measured on it."""
        return self.dev_by_language.get(language) if self.dev_by_language else self.dev

    def index_for(self, language: str) -> str | None:
        """Returns the index that a language's training prompts came from, None where there was none."""
        source = self.sources.get(language)
        return self.index_digest if source is None else source.index

    def to_dict(self) -> dict[str, Any]:
        """Returns the card as JSON values."""
        return to_dict(self)


def read_card(values: Any, *, source: str) -> AdapterCard:
    """Makes a card from what stands in ``card.json``, checked.

    Args:
        values: Parsed JSON.
        source: Where it was read, for messages.

    Raises:
        IncompatibleArtefactError: It has another format version.
        InputError: A field is missing, unknown, of the wrong type, or no name.
    """
    version = values.get("format_version") if isinstance(values, dict) else None
    if version is not None and version != CARD_FORMAT_VERSION:
        raise IncompatibleArtefactError(
            f"{source} has format_version {version!r}, this retrieveall reads {CARD_FORMAT_VERSION}."
            " Train the adapter again, or use the version that wrote it."
        )
    card = from_dict(AdapterCard, values, source=source, error=InputError)
    check_card(card)
    return card


def check_card(card: AdapterCard) -> None:
    """Checks what types alone do not say.

    Raises:
        InputError: A digest, label or language is no valid name; there is no label; scores are not
            ordered fractions.
    """
    if check_language(card.language) != card.language:
        raise InputError(f"The card's language is {card.language!r}; write it in lower case with hyphens.")
    if not card.labels or len(set(card.labels)) != len(card.labels):
        raise InputError(f"The card's labels are {list(card.labels)}; expected at least one, none twice.")
    for label in card.labels:
        check_label(label)
    digests = [card.base_digest, card.corpus_digest]
    optional = [card.index_digest, card.embedder_digest, card.initial_adapter, card.trained_as]
    for language, source in card.sources.items():
        check_language(language)
        digests.append(source.corpus_digest)
        optional.append(source.index)
    for language, index in card.prior_indexes.items():
        check_language(language)
        digests.append(index)
    for digest in (*digests, *(digest for digest in optional if digest is not None)):
        check_digest(digest)
    if card.prior_format is not None and card.prior_format < 1:
        raise InputError(f"The card's prior_format is {card.prior_format}; expected 1 or more, or none.")
    if any(weight < 0 for weight in card.prior_weights.values()):
        raise InputError(f"The card's prior weights are {dict(card.prior_weights)}; none may be below 0.")
    for dev in (card.dev, *card.dev_by_language.values()):
        if dev is not None and not (0 <= dev.f1_low <= dev.f1_high <= 1 and 0 <= dev.f1 <= 1):
            raise InputError(f"The card's dev scores are {dev}; expected fractions, f1_low <= f1_high.")


def prior_sources(language: str, index: str, shared: Mapping[str, str]) -> dict[str, str]:
    """Returns by language the indexes that the prior of a language learns from.

    Args:
        language: The language.
        index: Its own index.
        shared: What stands in its adapter's card, `AdapterCard.prior_indexes`.
    """
    return {**(shared if language in shared else {}), language: index}


def check_compatible(
    card: AdapterCard, *, base_digest: str, embedder_digest: str | None, prompt_format: str = PROMPT_FORMAT
) -> None:
    """Checks that an adapter may run with this base, embedder and prompt format.

    An adapter that was trained without an index fits every embedder, and one may run any adapter
    without an index (`embedder_digest` None).

    Raises:
        IncompatibleArtefactError: It may not; the message holds both sides.
    """
    pairs = (
        ("base model", card.base_digest, base_digest),
        ("embedder", card.embedder_digest, embedder_digest),
        ("prompt format", card.prompt_format, prompt_format),
    )
    for what, made_for, given in pairs:
        if made_for != given and not (what == "embedder" and None in (made_for, given)):
            raise IncompatibleArtefactError(
                f"The {card.language} adapter was made for {what} {made_for}, here it is {given}."
                " Train the adapter again with `retrieveall train`, or use the workspace it was made in."
            )
