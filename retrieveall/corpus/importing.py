"""Import: from files or data sets of any known format to a corpus in a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from retrieveall.corpus.conll import ConllFormat, read_conll
from retrieveall.corpus.huggingface import HuggingFaceFormat, read_huggingface
from retrieveall.corpus.jsonl import read_jsonl
from retrieveall.corpus.labels import LabelMap, map_labels, read_label_map
from retrieveall.corpus.manifest import CorpusManifest
from retrieveall.corpus.parquet import read_parquet
from retrieveall.corpus.report import ImportLog, ImportReport
from retrieveall.corpus.sample import sample_corpus
from retrieveall.corpus.sources import find_split_files
from retrieveall.corpus.store import CorpusStore, Provenance, check_corpus_name
from retrieveall.errors import IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.languages import check_language
from retrieveall.types import Sentence, Split

Format = Literal["conll", "jsonl", "parquet", "hf", "sample"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
SAMPLE: Final = "sample"
"""The only source of the format ``sample``: the corpus that ships with the package."""

Progress = Callable[[int], None]
"""Told now and then how many sentences have been read."""

_PROGRESS_SENTENCES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """How a corpus is read and kept.

    Attributes:
        split: The split of a single file; None means: its name tells, else train.
        label_map: A label map file, or None to keep the source's types.
        skip_bad: Leave out broken sentences and list them, instead of raising the first.
        force: Replace a different corpus of the same name and language.
        detokenise: Also keep the sentences as people write them.
        synthetic: Mark the corpus as made by a generator.
        conll: Columns and scheme of CoNLL files.
        huggingface: Configuration, columns and scheme of Hugging Face data sets.
    """

    split: Split | None = None
    label_map: Path | None = None
    skip_bad: bool = False
    force: bool = False
    detokenise: bool = True
    synthetic: bool = False
    conll: ConllFormat = field(default_factory=ConllFormat)
    huggingface: HuggingFaceFormat = field(default_factory=HuggingFaceFormat)


def import_corpus(
    store: CorpusStore,
    source: str,
    *,
    format: Format,
    language: str,
    name: str,
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Imports one language of a corpus.

    Args:
        store: Where it is kept.
        source: A file, a folder with train/dev/test files, (``hf``) a data set on the hub, or ``sample``.
        format: One of ``FORMATS``.
        language: BCP-47 code as in PAN-X.
        name: The corpus's name in the store.
        options: How it is read and kept.
        progress: Told now and then how many sentences have been read.

    Returns:
        What was imported, repaired, left aside and skipped.

    Raises:
        CorpusFormatError: Something in the source is broken and ``skip_bad`` is off.
        InputError: Format, language, name or label map cannot be used, or there is no sentence.
        NotFoundError: The source or the label map does not exist, or the sample has no such language.
        ConflictError: Another corpus of this name and language stands in the store.
    """
    options = options or ImportOptions()
    language, name = check_language(language), check_corpus_name(name)
    label_map = read_label_map(options.label_map) if options.label_map else {}
    log = ImportLog(skip_bad=options.skip_bad)
    found = _read(source, format, language, options, log)
    sentences = list(_counted(found, progress))
    if label_map:
        sentences = [map_labels(sentence, label_map, log.unmapped) for sentence in sentences]
    before = _digest_there(store, name, language)
    manifest = store.import_sentences(
        sentences,
        name=name,
        language=language,
        provenance=_provenance(source, format, label_map, options, log),
        detokenise=options.detokenise,
        force=options.force,
    )
    return _report(manifest, log, unchanged=before == manifest.digest)


def _read(
    source: str, format: Format, language: str, options: ImportOptions, log: ImportLog
) -> Iterator[Sentence]:
    if format not in FORMATS:
        raise InputError(f"{format!r} is not a corpus format. Expected one of {', '.join(FORMATS)}.")
    if format == "sample":
        if source != SAMPLE:
            raise InputError(f"{source!r} was given; the package ships one sample corpus: {SAMPLE!r}.")
        yield from sample_corpus(language)
        return
    if format == "hf":
        yield from read_huggingface(source, language=language, format=options.huggingface, log=log)
        return
    for split, paths in find_split_files(Path(source), format, options.split).items():
        for number, path in enumerate(paths):
            if format == "conll":
                yield from read_conll(path, language=language, split=split, format=options.conll, log=log)
            elif format == "jsonl":
                yield from read_jsonl(path, language=language, split=split, log=log)
            else:
                shard = number if len(paths) > 1 else None
                yield from read_parquet(path, language=language, split=split, shard=shard, log=log)


def _counted(sentences: Iterator[Sentence], progress: Progress | None) -> Iterator[Sentence]:
    number = 0
    for number, sentence in enumerate(sentences, start=1):
        yield sentence
        if progress and number % _PROGRESS_SENTENCES == 0:
            progress(number)
    if progress:
        progress(number)


def _digest_there(store: CorpusStore, name: str, language: str) -> str | None:
    try:
        return store.manifest(name, language).digest
    except (NotFoundError, IncompatibleArtefactError):
        return None


def _provenance(
    source: str, format: Format, label_map: LabelMap, options: ImportOptions, log: ImportLog
) -> Provenance:
    return Provenance(
        source=f"{format}:{source}",
        label_map=label_map,
        unmapped=_most_first(log.unmapped),
        synthetic=options.synthetic or format == "sample",
        skipped=len(log.problems),
    )


def _report(manifest: CorpusManifest, log: ImportLog, *, unchanged: bool) -> ImportReport:
    entities: Counter[str] = Counter()
    for counts in manifest.entities.values():
        entities.update(counts)
    return ImportReport(
        name=manifest.name,
        language=manifest.language,
        digest=manifest.digest,
        sentences=manifest.sentences,
        entities=_most_first(entities),
        unmapped=_most_first(log.unmapped),
        empty=log.empty,
        problems=tuple(log.problems),
        notes=_most_first(log.notes),
        unchanged=unchanged,
    )


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(counts).most_common())
