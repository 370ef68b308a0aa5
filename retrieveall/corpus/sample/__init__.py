"""The sample corpus: synthetic, CC0, in the package, for trying the machinery without a download.

Sentences are drawn from frames and names that we wrote ourselves (``data/<language>.yaml``). Scores
on it say that the machinery works, not what the product can do: call them synthetic wherever they
are shown.
"""

from retrieveall.corpus.sample.generator import LABELS, sample_corpus, sample_languages
from retrieveall.corpus.sample.loader import citation_forms, load_sample_data, read_sample_data

__all__ = [
    "LABELS",
    "citation_forms",
    "load_sample_data",
    "read_sample_data",
    "sample_corpus",
    "sample_languages",
]
