"""Hugging Face data sets with a token and a tag column, from the hub or from a local folder.

A local folder may be what ``save_to_disk`` wrote or hold Parquet files of that library, by itself or
in a folder for each configuration. Columns
are found by their feature types: tags are a list of ``ClassLabel`` (``ner_tags`` before others,
else the only one that has a class ``O`` and prefixed classes), tokens are a list of strings
(``tokens`` or ``words`` before others). On the hub the configuration named like the language is
taken where there is one, as ``unimelb-nlp/wikiann`` has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrieveall.corpus.report import ImportLog
from retrieveall.corpus.sources import find_split_files, split_of_name
from retrieveall.corpus.tagged import TaggedTokens, TagReading, tagged_sentences
from retrieveall.corpus.tags import is_tag
from retrieveall.errors import InputError, MissingDependencyError, NotFoundError
from retrieveall.languages import check_language
from retrieveall.types import SPLITS, Sentence, Split

_TAG_NAMES = ("ner_tags", "ner", "tags", "labels")
_TOKEN_NAMES = ("tokens", "words")


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceFormat:
    """What to take from a data set; None means: find it.

    Attributes:
        config: Configuration of the data set; by default the one named like the language.
        revision: Commit, tag or branch on the hub.
        token_column: Column of the tokens.
        tag_column: Column of the tags.
        reading: How the tags are read.
    """

    config: str | None = None
    revision: str | None = None
    token_column: str | None = None
    tag_column: str | None = None
    reading: TagReading = field(default_factory=TagReading)


def read_huggingface(
    name_or_path: str,
    *,
    language: str,
    format: HuggingFaceFormat | None = None,
    log: ImportLog | None = None,
) -> Iterator[Sentence]:
    """Yields the sentences of all splits that tell train, dev or test by their names.

    Args:
        name_or_path: A data set on the hub such as ``unimelb-nlp/wikiann``, or a local folder.
        language: BCP-47 code of its sentences, and the configuration to take.
        format: Configuration, columns and scheme.
        log: Collects what was found; None raises at the first problem.

    Raises:
        CorpusFormatError: A row is broken; the message names split and row.
        InputError: Columns or splits cannot be told.
        NotFoundError: The data set or its configuration cannot be had.
        MissingDependencyError: The library ``datasets`` is not installed.
    """
    log = log if log is not None else ImportLog()
    format = format or HuggingFaceFormat()
    language = check_language(language)
    for split, dataset in _splits(_load(name_or_path, language, format), name_or_path, log).items():
        source = f"{name_or_path}[{split}]"
        rows = _rows(dataset, format, source, log)
        yield from tagged_sentences(
            rows, source=source, language=language, split=split, reading=format.reading, log=log
        )


def _load(name_or_path: str, language: str, format: HuggingFaceFormat) -> Mapping[str, Any]:
    datasets = _library()
    path = _of_config(Path(name_or_path), format.config or language)
    if (path / "dataset_dict.json").is_file():
        return dict(datasets.load_from_disk(str(path)))
    if (path / "state.json").is_file():
        return {"train": datasets.load_from_disk(str(path))}
    if path.exists():
        files = {split: [str(f) for f in found] for split, found in find_split_files(path, "parquet").items()}
        return {split: datasets.Dataset.from_parquet(found) for split, found in files.items()}
    return _load_from_hub(datasets, name_or_path, language, format)


def _of_config(path: Path, config: str) -> Path:
    """Copies of hub repositories have a folder for each configuration."""
    return path / config if (path / config).is_dir() else path


def _load_from_hub(datasets: Any, name: str, language: str, format: HuggingFaceFormat) -> Mapping[str, Any]:
    try:
        config = format.config
        if config is None:
            configs = datasets.get_dataset_config_names(name, revision=format.revision)
            config = language if language in configs else None
        return dict(datasets.load_dataset(name, config, revision=format.revision))
    except (OSError, ValueError, RuntimeError) as error:
        raise NotFoundError(
            f"The data set {name!r} cannot be loaded: {error}. Give an existing local folder or a name on the"
            f" Hugging Face hub, and its configuration if it is not called {language!r}."
        ) from error


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError("Hugging Face data sets need `pip install datasets`.") from error
    return datasets


def _splits(found: Mapping[str, Any], name: str, log: ImportLog) -> dict[Split, Any]:
    splits: dict[Split, Any] = {}
    for split_name, dataset in found.items():
        split = split_of_name(split_name)
        if split is None:
            log.note(f"sentences of the split {split_name!r}, which is none of ours", len(dataset))
        elif split in splits:
            raise InputError(f"{name} has more than one {split} split. Save the one you mean by itself.")
        else:
            splits[split] = dataset
    if not splits:
        raise InputError(f"{name} has the splits {', '.join(found)}. Expected train, dev or test.")
    return {split: splits[split] for split in SPLITS if split in splits}


def _rows(dataset: Any, format: HuggingFaceFormat, source: str, log: ImportLog) -> list[TaggedTokens]:
    features: Mapping[str, Any] = dataset.features
    tag_column = format.tag_column or _tag_column(features, source)
    token_column = format.token_column or _token_column(features, source)
    for column in (tag_column, token_column):
        if column not in features:
            raise InputError(f"{source} has no column {column!r}; there is {', '.join(features)}.")
    names = getattr(_item(features[tag_column]), "names", None)
    table = dataset.select_columns([token_column, tag_column]).with_format(None)
    rows = []
    for number, row in enumerate(table, start=1):
        tagged = _row(row[token_column], row[tag_column], names, number, source, log)
        if tagged is not None:
            rows.append(tagged)
    return rows


def _row(
    tokens: Sequence[str] | None,
    tags: Sequence[Any] | None,
    names: Sequence[str] | None,
    number: int,
    source: str,
    log: ImportLog,
) -> TaggedTokens | None:
    tokens, tags = tokens or [], tags or []
    if len(tokens) != len(tags) or not all(isinstance(token, str) for token in tokens):
        message = f"{len(tokens)} tokens and {len(tags)} tags; every token needs a string and a tag."
        log.problem("bad record", source, number, message)
        return None
    if names is not None:
        outside = [tag for tag in tags if not (isinstance(tag, int) and 0 <= tag < len(names))]
        if outside:
            log.problem("bad tag", source, number, f"{outside[0]!r} is none of the {len(names)} classes.")
            return None
        tags = [names[tag] for tag in tags]
    return TaggedTokens(tokens=tokens, tags=[str(tag) for tag in tags], lines=[number] * len(tokens))


def _tag_column(features: Mapping[str, Any], source: str) -> str:
    classes = {name: getattr(_item(feature), "names", None) for name, feature in features.items()}
    classed = [name for name, names in classes.items() if names]
    if not classed:  # tags written as strings
        classed = [name for name in _TAG_NAMES if _is_string_list(features.get(name))]
    named = [name for name in _TAG_NAMES if name in classed]
    prefixed = [name for name in classed if classes[name] and all(map(is_tag, classes[name] or ()))]
    candidates = named[:1] or prefixed
    if len(candidates) != 1:
        raise InputError(
            f"{source}: cannot tell the tag column among {', '.join(features)}. Name it: --tag-column."
        )
    return candidates[0]


def _token_column(features: Mapping[str, Any], source: str) -> str:
    lists = [name for name, feature in features.items() if _is_string_list(feature)]
    candidates = [name for name in _TOKEN_NAMES if name in lists] or lists
    if not candidates or (len(candidates) > 1 and candidates[0] not in _TOKEN_NAMES):
        raise InputError(
            f"{source}: cannot tell the token column among {', '.join(features)}. Name it: --token-column."
        )
    return candidates[0]


def _is_string_list(feature: Any) -> bool:
    return getattr(_item(feature), "dtype", None) in ("string", "large_string")


def _item(feature: Any) -> Any:
    """Returns the feature of a list's items; None for what is no list."""
    return feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
