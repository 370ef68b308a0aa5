"""The digest that names a corpus's content, whatever wrote it.

SHA-256 over the rows in order, in a spelling of our own, so that neither the Arrow version nor the
source's path matters. The detokenised forms count too, because training sees them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import chain

from retrieveall.types import SPLITS, Sentence, Split

_HEX_DIGITS = 16  # 64 bits: short enough to read out, and no chance of a collision among corpora


def content_digest(
    splits: Mapping[Split, Sequence[Sentence]], twins: Mapping[Split, Sequence[Sentence] | None]
) -> str:
    """Returns 16 hexadecimal digits for the content of a corpus.

    Args:
        splits: The sentences of each split.
        twins: Their detokenised forms in the same order, None where there are none.
    """
    digest = hashlib.sha256()
    for split in SPLITS:
        for row in chain(splits.get(split) or (), twins.get(split) or ()):
            digest.update(_spelt(row))
    return digest.hexdigest()[:_HEX_DIGITS]


def _spelt(row: Sentence) -> bytes:
    edges = [edge for token in row.tokens for edge in (token.start_char, token.end_char)]
    entities = [(entity.start_char, entity.end_char, entity.label) for entity in row.entities]
    values = [row.split, row.id, row.language, row.text, edges, entities]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
