"""Label maps: how a corpus's own types reduce to the types that a tagger knows.

A map is a JSON file ``{"PER": ["PER", "PERSON"], …}``, our type to the source's types. A string
under ``note`` is a remark. Types that no list names become plain text and are counted by the
caller; they never vanish silently.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from retrieveall.corpus.spans import label_problem
from retrieveall.errors import InputError, NotFoundError
from retrieveall.types import Sentence

LabelMap = Mapping[str, str]
"""Source type to our type."""

_REMARK = "note"


def read_label_map(path: Path | str) -> dict[str, str]:
    """Reads a label map file.

    Returns:
        Source type to our type.

    Raises:
        NotFoundError: There is no such file.
        InputError: The file is not a map of types to lists of types, or names a source type twice.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise NotFoundError(f"The label map {path} does not exist. Give a JSON file.") from None
    except ValueError as error:
        raise InputError(f"{path}: a label map must be a JSON file in UTF-8: {error}.") from error
    if not isinstance(found, dict):
        raise InputError(f'{path}: a label map must be an object such as {{"PER": ["PER", "PERSON"]}}.')
    label_map: dict[str, str] = {}
    for label, sources in found.items():
        if label == _REMARK and isinstance(sources, str):
            continue
        _add(label_map, label, sources, path)
    if not label_map:
        raise InputError(f"{path}: the label map names no type at all.")
    return label_map


def map_labels(sentence: Sentence, label_map: LabelMap, unmapped: Counter[str]) -> Sentence:
    """Returns the sentence with our types; mentions of other types are counted and become text."""
    entities = []
    for entity in sentence.entities:
        label = label_map.get(entity.label)
        if label is None:
            unmapped[entity.label] += 1
        else:
            entities.append(replace(entity, label=label))
    return replace(sentence, entities=tuple(entities))


def _add(label_map: dict[str, str], label: str, sources: object, path: Path | str) -> None:
    wrong = label_problem(label)
    if wrong:
        raise InputError(f"{path}: {wrong}")
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise InputError(f"{path}: {label} must name a list of the corpus's types, found {sources!r}.")
    for source in sources:
        if label_map.setdefault(source, label) != label:
            raise InputError(f"{path}: the type {source} stands under both {label_map[source]} and {label}.")
