"""The manifest of a corpus: what stands in its files, and what made them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from retrieveall.errors import IncompatibleArtefactError
from retrieveall.types import Split

FORMAT_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusManifest:
    """One corpus of one language.

    Attributes:
        digest: 16 hexadecimal digits of the content (digest.py).
        source: Where it came from, for people.
        sentences: Sentences of each split that is there.
        tokens: Tokens of each split.
        entities: Per split, mentions of each label.
        labels: All labels, sorted.
        label_map: Source type to label, empty where no map was given.
        unmapped: Source type to mentions that the map left out.
        skipped: Sentences left out as broken.
        detokenised: Whether the detokenised forms stand beside the tokenised ones.
        synthetic: Made by a generator; scores on it are always shown as such.
    """

    name: str
    language: str
    digest: str
    source: str
    sentences: Mapping[Split, int]
    tokens: Mapping[Split, int]
    entities: Mapping[Split, Mapping[str, int]]
    labels: tuple[str, ...]
    label_map: Mapping[str, str]
    unmapped: Mapping[str, int]
    skipped: int
    detokenised: bool
    synthetic: bool
    format_version: int = FORMAT_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Returns the manifest as plain JSON types."""
        return {**asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_json(cls, text: str | bytes, path: str) -> CorpusManifest:
        """Reads a manifest.

        Args:
            text: The file's content.
            path: What the error calls the file.

        Raises:
            IncompatibleArtefactError: It is damaged, or was written by another format version.
        """
        try:
            values = json.loads(text)
            version = values.get("format_version")
            if version == FORMAT_VERSION:
                return cls(**{**values, "labels": tuple(values["labels"])})
            found = f"has format version {version}, this program reads {FORMAT_VERSION}"
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            found = f"is damaged: {error}"
        raise IncompatibleArtefactError(f"{path} {found}. Import the corpus again with --force.")
