"""Embedders: texts and mentions to unit vectors, behind one protocol.

The LM and sentence-transformers embedders live in their own modules, which import torch.
"""

from retrieveall.embedding.ngram import NgramEmbedder
from retrieveall.embedding.protocol import Embedder, Vectors
from retrieveall.embedding.spec import EMBEDDERS, EmbedderName, EmbedderSpec, load_embedder, spec_for

__all__ = [
    "EMBEDDERS",
    "Embedder",
    "EmbedderName",
    "EmbedderSpec",
    "NgramEmbedder",
    "Vectors",
    "load_embedder",
    "spec_for",
]
