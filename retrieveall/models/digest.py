"""The digest of a base model: what an adapter was trained on, wherever the folder stands.

It covers the configuration, the weights and the tokenizer, byte by byte; file times, other files
and the folder's name do not count. Hashing gigabytes takes seconds, so digests of files are kept, by
path, size and time of change, in memory and in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Final

from retrieveall.digests import digest_bytes, digest_file, digest_parts
from retrieveall.errors import NotFoundError
from retrieveall.folders import cache_folder
from retrieveall.storage import Store, json_bytes

_CONFIG: Final = "config.json"
_TOKENIZER: Final = frozenset(
    (
        "added_tokens.json",
        "merges.txt",
        "sentencepiece.bpe.model",
        "special_tokens_map.json",
        "spiece.model",
        "tekken.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    )
)
_known: dict[str, str] = {}


def base_digest(folder: Path) -> str:
    """Returns the short digest of a base model's folder.

    Args:
        folder: In Hugging Face format, with safetensors weights.

    Raises:
        NotFoundError: There is no configuration or no safetensors file.
    """
    names = sorted(path.name for path in folder.glob("*") if path.is_file())
    weights = [name for name in names if name.endswith((".safetensors", ".safetensors.index.json"))]
    if _CONFIG not in names or not weights:
        raise NotFoundError(
            f"{folder} is no base model: expected {_CONFIG} and *.safetensors, there is"
            f" {', '.join(names[:10]) or 'nothing'}. Pickle weights are never read; save it as safetensors."
        )
    counted = [_CONFIG, *weights, *(name for name in names if name in _TOKENIZER)]
    return digest_parts({name: _cached_digest(folder / name) for name in counted})


def _cached_digest(path: Path) -> str:
    found = os.stat(path)
    key = digest_bytes(f"{path.resolve()}\0{found.st_size}\0{found.st_mtime_ns}".encode())
    if key not in _known:
        _known[key] = _kept_digest(key, path)
    return _known[key]


def _kept_digest(key: str, path: Path) -> str:
    """Looks into the cache folder; a cache that cannot be read or written is done without."""
    record = cache_folder() / "file-digests" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(record.read_text("utf-8"))["sha256"]
        if isinstance(kept, str) and len(kept) == 64:
            return kept
    digest = digest_file(path)
    with contextlib.suppress(OSError):
        store = Store.open(record.parent, create=True)
        store.write_bytes(record.name, json_bytes({"sha256": digest}))
    return digest
