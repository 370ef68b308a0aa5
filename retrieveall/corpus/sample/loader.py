"""Reading and checking the sample corpus's data files, one YAML file per language.

    language: en
    names: {PER: [...], LOC: [...], ORG: [...]}   # a string, or a mapping case -> form
    frames: ["{PER} moved to {LOC}.", ...]
    fillers: {day: [Monday, ...]}                 # optional: ordinary words for {day}
    contractions:                                 # optional: sound rules before a slot
      - {before: "de ", becomes: "d'", initials: [a, e, i, o, u]}

A slot with a case takes only names that have this case or never change, so cases also serve as
kinds: ``{LOC:city}`` never takes a river. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from retrieveall.corpus.sample.frames import LABELS, Contraction, Frame, Name, SampleData, parse_frame
from retrieveall.errors import CorpusFormatError, NotFoundError

_SUFFIX = ".yaml"


class _ContractionRow(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    before: str
    becomes: str
    initials: list[str]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    language: str
    names: dict[str, list[str | dict[str, str]]]
    frames: list[str]
    fillers: dict[str, list[str | dict[str, str]]] = {}
    contractions: list[_ContractionRow] = []


def sample_languages() -> tuple[str, ...]:
    """Returns the languages that a data file ships for, sorted."""
    stems = (path.name.removesuffix(_SUFFIX) for path in _folder().iterdir() if path.name.endswith(_SUFFIX))
    return tuple(sorted(stems))


@lru_cache(maxsize=16)
def load_sample_data(language: str) -> SampleData:
    """Reads the data file that ships for ``language``.

    Raises:
        NotFoundError: When none ships for it.
        CorpusFormatError: When the file is broken.
    """
    if language not in sample_languages():
        known = ", ".join(sample_languages())
        raise NotFoundError(f"no sample data for language {language!r}; choose one of: {known}")
    return read_sample_data(_folder() / f"{language}{_SUFFIX}")


def citation_forms(language: str) -> dict[str, str]:
    """Returns surface → citation form of every shipped name, to fold case forms of one name together.

    Raises:
        NotFoundError: When no data file ships for ``language``.
    """
    names = (name for group in load_sample_data(language).names.values() for name in group)
    return {form: name.citation for name in names for _, form in name.forms}


def read_sample_data(path: Path | Traversable) -> SampleData:
    """Reads and checks one data file.

    Raises:
        CorpusFormatError: When it is not YAML, misses or misspells a key, repeats a name or frame, or
            has a frame that no name can fill; the message starts with ``file:line:``.
    """
    text = path.read_text(encoding="utf-8")
    try:
        tree = yaml.compose(text, Loader=yaml.CSafeLoader)
        file = _File.model_validate(yaml.load(text, Loader=yaml.CSafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise CorpusFormatError(f"{path}:{line}: not valid YAML ({error}); quote the string") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorpusFormatError(
            f"{path}:{_line(tree, first['loc'])}: {where or 'file'}: {first['msg']}; "
            "expected language, names, frames as the README.md beside the shipped data files shows"
        ) from error
    return _checked(path, tree, file)


def _checked(path: Path | Traversable, tree: yaml.Node | None, file: _File) -> SampleData:
    data = _converted(path, tree, file)
    for place, problem in _problems(data):
        raise CorpusFormatError(f"{path}:{_line(tree, place)}: {problem}")
    return data


def _converted(path: Path | Traversable, tree: yaml.Node | None, file: _File) -> SampleData:
    frames: list[Frame] = []
    for index, source in enumerate(file.frames):
        try:
            frames.append(parse_frame(source))
        except ValueError as error:
            raise CorpusFormatError(f"{path}:{_line(tree, ('frames', index))}: {error}") from error
    return SampleData(
        language=file.language,
        names={label: _names(label, rows) for label, rows in file.names.items()},
        frames=tuple(frames),
        fillers={kind: _names(kind, rows) for kind, rows in file.fillers.items()},
        contractions=tuple(
            Contraction(before=row.before, becomes=row.becomes, initials=tuple(row.initials))
            for row in file.contractions
        ),
    )


def _names(label: str, rows: Iterable[str | dict[str, str]]) -> tuple[Name, ...]:
    forms = ((("", row),) if isinstance(row, str) else tuple(row.items()) for row in rows)
    return tuple(Name(label=label, forms=pairs) for pairs in forms)


def _problems(data: SampleData) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yields ``(place in the file, what is wrong and what to do)``."""
    if set(data.names) != set(LABELS):
        yield ("names",), f"names has the types {sorted(data.names)}; expected exactly {sorted(LABELS)}"
    for label, names in data.names.items():
        yield from _name_problems(("names", label), names)
    for kind, words in data.fillers.items():
        if kind != kind.lower():
            yield ("fillers", kind), f"filler list {kind!r} must be in lower case, capitals are entity types"
        yield from _name_problems(("fillers", kind), words)
    seen: set[str] = set()
    for index, frame in enumerate(data.frames):
        if frame.source in seen:
            yield ("frames", index), f"frame {frame.source!r} stands there twice; keep one"
        seen.add(frame.source)
        yield from _slot_problems(("frames", index), frame, data)


def _name_problems(
    place: tuple[str | int, ...], names: tuple[Name, ...]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        here = (*place, index)
        if not name.forms or any(not form or form != form.strip() for _, form in name.forms):
            yield here, f"name {name.forms} has no form, an empty form or outer spaces; write plain text"
            continue
        if name.citation in seen:
            yield here, f"name {name.citation!r} stands there twice; keep one"
        seen.add(name.citation)


def _slot_problems(
    place: tuple[str | int, ...], frame: Frame, data: SampleData
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if not frame.source.strip() or frame.source != frame.source.strip():
        yield place, f"frame {frame.source!r} is empty or has outer spaces; write one sentence"
    lists: Mapping[str, tuple[Name, ...]] = {**data.names, **data.fillers}
    for slot in frame.slots:
        if slot.kind not in lists:
            yield place, f"slot {slot.kind!r} in {frame.source!r} is neither of {LABELS} nor a filler list"
        elif not any(name.fits(slot.case) for name in lists[slot.kind]):
            yield place, f"no name of {slot.kind!r} has the case {slot.case!r} that {frame.source!r} asks for"


def _line(tree: yaml.Node | None, place: tuple[str | int, ...]) -> int:
    """Returns the line, counted from 1, of the deepest part of ``place`` that the file has."""
    node = tree
    for part in place:
        child = _child(node, part)
        if child is None:
            break
        node = child
    return node.start_mark.line + 1 if node is not None else 1


def _child(node: yaml.Node | None, part: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found: yaml.Node = node.value[part]
        return found
    return None


def _folder() -> Traversable:
    return resources.files("retrieveall.corpus.sample") / "data"
