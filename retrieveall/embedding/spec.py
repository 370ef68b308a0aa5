"""An embedder as data: what a manifest names and what is sent to another process to build one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from retrieveall.embedding.ngram import DEFAULT_DIMENSIONS, DEFAULT_LENGTHS, NgramEmbedder
from retrieveall.embedding.protocol import Embedder
from retrieveall.errors import ConfigError, IncompatibleArtefactError

EmbedderName = Literal["ngram", "lm", "sentence-transformers"]
DEFAULT_SENTENCE_MODEL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
EMBEDDERS: tuple[EmbedderName, ...] = ("ngram", "lm", "sentence-transformers")


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedderSpec:
    """Which embedder.

    Attributes:
        name: ``ngram``, ``lm`` or ``sentence-transformers``.
        dimensions: Of ``ngram``.
        lengths: Lengths of the n-grams of ``ngram``.
        model: Folder or Hugging Face id of the other two.
        base_digest: Of ``lm``: digest of the base model; None takes the model as it is.
        centre: Of ``lm``: the vector to subtract, None without centring.
    """

    name: EmbedderName = "ngram"
    dimensions: int = DEFAULT_DIMENSIONS
    lengths: tuple[int, ...] = DEFAULT_LENGTHS
    model: str | None = None
    base_digest: str | None = None
    centre: tuple[float, ...] | None = None

    @property
    def has_weights(self) -> bool:
        """Whether a model must be loaded to embed."""
        return self.name != "ngram"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields that this embedder uses, as plain JSON types."""
        fields = ("dimensions", "lengths") if self.name == "ngram" else ("model", "base_digest", "centre")
        values = asdict(self)
        return {"name": self.name, **{f: _plain(values[f]) for f in fields if values[f] is not None}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EmbedderSpec:
        """Reads a spec from JSON."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)


def spec_for(embedder: str, *, base_model: str | None = None) -> EmbedderSpec:
    """Returns the spec of an embedder as users name it.

    Args:
        embedder: ``ngram``, ``lm``, ``sentence-transformers``, or the name of a sentence-transformers model.
        base_model: The workspace's base, for ``lm``.

    Raises:
        ConfigError: ``lm`` without a base.
    """
    if embedder == "ngram":
        return EmbedderSpec()
    if embedder == "lm":
        if base_model is None:
            raise ConfigError("The embedder 'lm' needs a base model. Name one with --base-model.")
        return EmbedderSpec(name="lm", model=base_model)
    model = DEFAULT_SENTENCE_MODEL if embedder == "sentence-transformers" else embedder
    return EmbedderSpec(name="sentence-transformers", model=model)


def load_embedder(spec: EmbedderSpec, *, device: str | None = None) -> Embedder:
    """Builds the embedder that a spec names.

    Args:
        spec: Which embedder.
        device: Where a model runs, as torch spells it; None is a GPU where torch sees one. N-grams have no
            model and are counted on CPUs.

    Raises:
        ConfigError: The name is unknown, or a model is needed and none was named.
        IncompatibleArtefactError: The base model is not the one that the spec was made with.
        MissingDependencyError: An optional package is needed.
    """
    if spec.name == "ngram":
        return NgramEmbedder(dimensions=spec.dimensions, lengths=spec.lengths)
    if spec.name not in EMBEDDERS:
        raise ConfigError(f"There is no embedder {spec.name!r}. Known: {', '.join(EMBEDDERS)}.")
    if spec.model is None:
        raise ConfigError(f"The embedder {spec.name!r} needs a model: a folder or a Hugging Face id.")
    from retrieveall.models.devices import device_at_hand

    device = device or device_at_hand()
    if spec.name == "sentence-transformers":
        from retrieveall.embedding.sentence_model import SentenceTransformerEmbedder

        return SentenceTransformerEmbedder(spec.model, device=device)
    return _load_lm(spec, spec.model, device)


def _load_lm(spec: EmbedderSpec, model: str, device: str) -> Embedder:
    from retrieveall.embedding.lm import LmEmbedder
    from retrieveall.models.base import open_base
    from retrieveall.models.digest import base_digest

    base = open_base(model, device=device)
    digest = base_digest(base.folder)
    if spec.base_digest not in (None, digest):
        raise IncompatibleArtefactError(
            f"The embedder was made with base {spec.base_digest}, {model!r} is {digest}."
            " Open it with the base it was made with, or build the index again."
        )
    centre = None if spec.centre is None else np.array(spec.centre, np.float32)
    return LmEmbedder(base.model, base.codec, base_digest=digest, centre=centre)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
