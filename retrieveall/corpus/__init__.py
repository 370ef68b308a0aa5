"""Corpora: reading them in any known format, keeping them in a workspace, auditing them."""

from retrieveall.corpus.audit import CorpusAudit, SplitAudit, audit_corpus, audit_splits
from retrieveall.corpus.conll import ConllFormat, read_conll
from retrieveall.corpus.detokenise import detokenise
from retrieveall.corpus.huggingface import HuggingFaceFormat, read_huggingface
from retrieveall.corpus.importing import FORMATS, Format, ImportOptions, import_corpus
from retrieveall.corpus.jsonl import read_jsonl
from retrieveall.corpus.labels import map_labels, read_label_map
from retrieveall.corpus.manifest import CorpusManifest
from retrieveall.corpus.parquet import read_parquet
from retrieveall.corpus.report import ImportLog, ImportReport, Problem
from retrieveall.corpus.store import CorpusKey, CorpusStore, Provenance
from retrieveall.corpus.table import Form
from retrieveall.corpus.tagged import TagReading

__all__ = [
    "FORMATS",
    "ConllFormat",
    "CorpusAudit",
    "CorpusKey",
    "CorpusManifest",
    "CorpusStore",
    "Form",
    "Format",
    "HuggingFaceFormat",
    "ImportLog",
    "ImportOptions",
    "ImportReport",
    "Problem",
    "Provenance",
    "SplitAudit",
    "TagReading",
    "audit_corpus",
    "audit_splits",
    "detokenise",
    "import_corpus",
    "map_labels",
    "read_conll",
    "read_huggingface",
    "read_jsonl",
    "read_label_map",
    "read_parquet",
]
