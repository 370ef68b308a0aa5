"""The card that a trained adapter gets, and the run that a card tells of."""

from __future__ import annotations

from dataclasses import asdict, fields

from retrieveall.digests import digest_json
from retrieveall.errors import IncompatibleArtefactError
from retrieveall.frozen import from_dict
from retrieveall.lora.card import PRIOR_FORMAT, AdapterCard, LanguageData
from retrieveall.lora.pool import PoolAdapter
from retrieveall.prompting.codec import PROMPT_FORMAT
from retrieveall.training.adapter import AdapterTrainingConfig
from retrieveall.training.inputs import RunSpec
from retrieveall.training.run import Measured
from retrieveall.workspace import Workspace


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
        prior_format=PRIOR_FORMAT if dev.prior_weights else None,
        sources={} if alone else spec.data,
    )


def run_of(workspace: Workspace, adapter: PoolAdapter, *, dev_limit: int) -> RunSpec:
    """Returns a run that reads what the adapter's own read, so that it can be measured on the same sentences.

    Args:
        workspace: Where the corpora are.
        adapter: The adapter.
        dev_limit: Dev sentences per language.

    Raises:
        NotFoundError: A corpus is gone.
        IncompatibleArtefactError: A corpus has changed since the training, or this product did not train the
            adapter.
    """
    card, recipe = adapter.card, {field.name for field in fields(AdapterTrainingConfig)}
    if not recipe <= card.training.keys():
        raise IncompatibleArtefactError(
            f"The card of adapter {adapter.digest} does not say how it was trained; expected one that"
            " `retrieveall train` made."
        )
    alone = LanguageData(corpus=card.corpus, corpus_digest=card.corpus_digest, index=card.index_digest)
    data = card.sources or {card.language: alone}
    for code, one in data.items():
        found = workspace.corpora.manifest(one.corpus, code).digest
        if found != one.corpus_digest:
            raise IncompatibleArtefactError(
                f"Corpus {one.corpus!r} of {code!r} is {found} now, the adapter was trained on"
                f" {one.corpus_digest}. Import the old one again, or train again."
            )
    values = {name: value for name, value in card.training.items() if name in recipe}
    return RunSpec(
        language=card.language,
        data=data,
        train_languages=tuple(card.training.get("languages", data)),
        strategy=card.strategy,
        labels=card.labels,
        base_model=card.base_model,
        base_digest=card.base_digest,
        config=from_dict(AdapterTrainingConfig, values, source=f"card of {adapter.digest}: training"),
        examples=card.examples_in_training,
        embedder=card.embedder,
        embedder_digest=card.embedder_digest,
        threshold_std=card.threshold_std,
        train_limit=None,
        dev_limit=dev_limit,
        synthetic=card.synthetic,
    )
