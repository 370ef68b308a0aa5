"""Retrieval: the index of each language and the examples that prompts are made of."""

from retrieveall.retrieval.index import (
    LanguageIndex,
    corpus_indexes,
    list_indexes,
    open_contexts,
    read_manifest,
)
from retrieveall.retrieval.manifest import IndexManifest, IndexOptions, corpus_parts, index_digest
from retrieveall.retrieval.neighbourhood import DEFAULT_LAMBDA, DEFAULT_M, DEFAULT_N, M_MAX, N_MAX
from retrieveall.retrieval.neighbours import TrainingNeighbours
from retrieveall.retrieval.retriever import Retriever
from retrieveall.retrieval.rows import ContextRows
from retrieveall.retrieval.writing import IndexRequest, write_index

__all__ = [
    "DEFAULT_LAMBDA",
    "DEFAULT_M",
    "DEFAULT_N",
    "M_MAX",
    "N_MAX",
    "ContextRows",
    "IndexManifest",
    "IndexOptions",
    "IndexRequest",
    "LanguageIndex",
    "Retriever",
    "TrainingNeighbours",
    "corpus_indexes",
    "corpus_parts",
    "index_digest",
    "list_indexes",
    "open_contexts",
    "read_manifest",
    "write_index",
]
