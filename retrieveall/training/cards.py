"""The card that a trained adapter gets."""

from __future__ import annotations

from dataclasses import asdict

from retrieveall.digests import digest_json
from retrieveall.lora.card import AdapterCard
from retrieveall.prompting.codec import PROMPT_FORMAT
from retrieveall.training.inputs import RunSpec
from retrieveall.training.run import Measured


def adapter_card(spec: RunSpec, dev: Measured, *, created_at: str) -> AdapterCard:
    """Returns the card of a run's adapter.

    Args:
        spec: What the adapter is made of.
        dev: How good it is.
        created_at: ISO 8601 time.
    """
    render = spec.config.render
    trained = [spec.data[code] for code in spec.train_languages]
    alone = trained[0] if len(trained) == 1 else None
    return AdapterCard(
        language=spec.language,
        base_model=spec.base_model,
        base_digest=spec.base_digest,
        labels=spec.labels,
        corpus="+".join(sorted({data.corpus for data in trained})),
        corpus_digest=alone.corpus_digest if alone else digest_json([data.corpus_digest for data in trained]),
        created_at=created_at,
        strategy=spec.strategy,
        index_digest=alone.index if alone else None,
        embedder=spec.embedder,
        embedder_digest=spec.embedder_digest,
        prompt_format=PROMPT_FORMAT,
        entity_examples=render.entity_examples,
        context_examples=render.context_examples,
        threshold_std=spec.threshold_std,
        examples_in_training=spec.examples,
        dev=dev.overall,
        dev_by_language=dev.by_language,
        synthetic=spec.synthetic,
        training={
            **asdict(spec.config),
            "train_limit": spec.train_limit,
            **({} if alone else {"languages": spec.train_languages}),
        },
        initial_adapter=spec.initial_adapter,
        licence=spec.licence,
        prior_weights=dev.prior_weights,
        prior_indexes=spec.prior_indexes if dev.prior_weights else {},
        sources={} if alone else spec.data,
    )
