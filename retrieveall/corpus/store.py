"""The corpora of a workspace: ``<base>/<name>/<language>/{train,dev,test}.parquet`` and a manifest.

``manifest.json`` is written last: without it a corpus does not exist. Files are written under a
temporary name and moved into place; each carries the corpus's digest, so that a half-replaced
corpus is noticed when it is read. Importing the same content again changes nothing. Any
``pyarrow.fs`` file system works. Names are checked before they touch a path. A corpus is held in
memory while it is written or read (about 1 GB for a million sentences).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from retrieveall.corpus.detokenise import detokenise as detokenise_sentence
from retrieveall.corpus.digest import content_digest
from retrieveall.corpus.manifest import CorpusManifest
from retrieveall.corpus.table import Form, from_table, to_table
from retrieveall.errors import ConflictError, IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.languages import POLYGLOT, check_language
from retrieveall.types import SPLITS, Sentence, Split

Manifests = list[CorpusManifest]  # inside the class, `list` is the method
Sentences = list[Sentence]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MANIFEST: Final = "manifest.json"
_DIGEST_KEY: Final = b"retrieveall.corpus_digest"


def check_corpus_name(name: str) -> str:
    """Returns a corpus name that is safe as a folder name.

    Raises:
        InputError: The name has other characters than small letters, digits, ``-`` and ``_``.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a corpus. Use 1 to 64 small letters, digits, - and _, such as panx."
        )
    return name


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class CorpusKey:
    """Which corpus of which language."""

    name: str
    language: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """What is told about a corpus beside its sentences.

    Attributes:
        source: Where it came from, for people.
        label_map: Source type to ours, empty where no map was given.
        unmapped: Source type to number of mentions that the map left out.
        synthetic: Made by a generator: its scores are always shown as such.
        skipped: Sentences left out as broken.
    """

    source: str = ""
    label_map: Mapping[str, str] = field(default_factory=dict)
    unmapped: Mapping[str, int] = field(default_factory=dict)
    synthetic: bool = False
    skipped: int = 0


Keys = list[CorpusKey]


class CorpusStore:
    """Corpora below one folder of one file system.

    Args:
        filesystem: Any ``pyarrow.fs`` file system.
        base_path: The folder, such as ``workspace/corpora``; made when first written.
    """

    def __init__(self, filesystem: fs.FileSystem, base_path: str) -> None:
        self._fs = filesystem
        self._base = base_path.rstrip("/")

    def import_sentences(
        self,
        sentences: Iterable[Sentence],
        *,
        name: str,
        language: str,
        provenance: Provenance | None = None,
        detokenise: bool = True,
        force: bool = False,
    ) -> CorpusManifest:
        """Writes a corpus of one language; the same content again changes nothing.

        Args:
            sentences: All splits in any order; ids unique.
            name: The corpus's name.
            language: The language of every sentence.
            provenance: What the manifest tells beside.
            detokenise: Also keep the sentences as people write them.
            force: Replace a different corpus of this name and language.

        Raises:
            InputError: No sentences, a sentence of another language, an id twice, or a bad name.
            ConflictError: A different corpus of this name and language stands here already.
        """
        key = _checked(name, language)
        splits = _by_split(sentences, key)
        twins = {
            split: [detokenise_sentence(row) for row in rows] if detokenise else None
            for split, rows in splits.items()
        }
        manifest = _manifest(key, splits, twins, provenance or Provenance())
        if not self._may_write(key, manifest.digest, force):
            return self.manifest(key.name, key.language)
        self._write(key, manifest, {split: to_table(rows, twins[split]) for split, rows in splits.items()})
        return manifest

    def list(self) -> Manifests:
        """Returns the manifests of all corpora, by name and language.

        Raises:
            IncompatibleArtefactError: One is damaged or was written by another format version.
        """
        return [self.manifest(key.name, key.language) for key in self._keys()]

    def manifest(self, name: str, language: str) -> CorpusManifest:
        """Returns what is known about one corpus.

        Raises:
            InputError: Name or language cannot be one.
            NotFoundError: There is no such corpus.
            IncompatibleArtefactError: It is damaged or was written by another format version.
        """
        key = _checked(name, language)
        path = f"{self._folder(key)}/{_MANIFEST}"
        try:
            with self._fs.open_input_stream(path) as stream:
                return CorpusManifest.from_json(stream.read(), path)
        except FileNotFoundError:
            there = ", ".join(f"{found.name}/{found.language}" for found in self._keys()) or "none at all"
            raise NotFoundError(
                f"There is no corpus {key.name!r} for {key.language!r} in {self._base}; there is {there}."
                " Import it first: retrieveall corpus import."
            ) from None

    def load(self, name: str, language: str, split: Split, form: Form = "tokenised") -> Sentences:
        """Returns the sentences of one split; none where the corpus lacks the split.

        Args:
            name: The corpus.
            language: Its language.
            split: One of ``SPLITS``.
            form: ``tokenised`` as the corpus holds them, ``detokenised`` as people write them. Where no
                detokenised form was kept, both are the same.

        Raises:
            InputError: Name, language or split cannot be one.
            NotFoundError: There is no such corpus.
            IncompatibleArtefactError: Its files do not belong to its manifest.
        """
        if split not in SPLITS:
            raise InputError(f"{split!r} is not a split: expected one of {', '.join(SPLITS)}.")
        manifest = self.manifest(name, language)
        if split not in manifest.sentences:
            return []
        path = f"{self._folder(_checked(name, language))}/{split}.parquet"
        table = pq.read_table(path, filesystem=self._fs)
        if table.schema.metadata.get(_DIGEST_KEY, b"").decode() != manifest.digest:
            raise IncompatibleArtefactError(
                f"{path} does not belong to the corpus {manifest.digest} of its manifest: an import was"
                " interrupted. Import the corpus again with --force."
            )
        return list(from_table(table, form if manifest.detokenised else "tokenised"))

    def resolve(
        self, corpus: str | None = None, languages: Sequence[str] | None = None
    ) -> tuple[CorpusKey, ...]:
        """Finds the one corpus of each language that is meant.

        Args:
            corpus: The corpus to use; None where each language has only one.
            languages: The languages; None means all that are there.

        Raises:
            NotFoundError: A language has no corpus (of that name), or there is none at all.
            InputError: A language has several corpora and none was named.
        """
        wanted = list(dict.fromkeys(map(check_language, languages or ())))
        names: dict[str, list[str]] = {}
        for manifest in self.list():
            if corpus is None or manifest.name == check_corpus_name(corpus):
                names.setdefault(manifest.language, []).append(manifest.name)
        if not names:
            raise NotFoundError(_none_there(corpus, self._base))
        return tuple(_only_one(code, names.get(code, []), corpus) for code in wanted or sorted(names))

    def _keys(self) -> Keys:
        selector = fs.FileSelector(self._base, allow_not_found=True, recursive=True)
        paths = (info.path.removeprefix(self._base) for info in self._fs.get_file_info(selector))
        parts = (path.strip("/").split("/") for path in paths)
        return sorted(CorpusKey(name=p[0], language=p[1]) for p in parts if p[2:] == [_MANIFEST])

    def _folder(self, key: CorpusKey) -> str:
        return f"{self._base}/{key.name}/{key.language}"

    def _may_write(self, key: CorpusKey, digest: str, force: bool) -> bool:
        try:
            there = self.manifest(key.name, key.language)
        except NotFoundError:
            return True
        except IncompatibleArtefactError:
            if force:
                return True
            raise
        if there.digest == digest and self._is_whole(key, there):
            return False
        if there.digest != digest and not force:
            raise ConflictError(
                f"The corpus {key.name!r} for {key.language!r} exists with other content ({there.digest},"
                f" given {digest}). Choose another --name, or replace it with --force."
            )
        return True

    def _is_whole(self, key: CorpusKey, manifest: CorpusManifest) -> bool:
        paths = [f"{self._folder(key)}/{split}.parquet" for split in manifest.sentences]
        return all(
            info.type == fs.FileType.File and self._digest_of(info.path) == manifest.digest
            for info in self._fs.get_file_info(paths)
        )

    def _digest_of(self, path: str) -> str:
        metadata = pq.read_schema(path, filesystem=self._fs).metadata or {}
        return str(metadata.get(_DIGEST_KEY, b"").decode())

    def _write(self, key: CorpusKey, manifest: CorpusManifest, tables: Mapping[Split, pa.Table]) -> None:
        folder = self._folder(key)
        self._fs.create_dir(folder, recursive=True)
        self._remove([f"{folder}/{_MANIFEST}"])
        self._remove([f"{folder}/{split}.parquet" for split in SPLITS if split not in tables])
        for split, table in tables.items():
            marked = table.replace_schema_metadata({_DIGEST_KEY: manifest.digest.encode()})
            self._put(f"{folder}/{split}.parquet", partial(pq.write_table, marked))
        text = json.dumps(manifest.to_dict(), ensure_ascii=False, indent=1)
        self._put(f"{folder}/{_MANIFEST}", lambda sink: sink.write(text.encode()))

    def _put(self, path: str, write: Callable[[Any], object]) -> None:
        temporary = f"{path}.{uuid4().hex}.tmp"  # two writers at once never share a file
        try:
            with self._fs.open_output_stream(temporary) as sink:
                write(sink)
            self._fs.move(temporary, path)
        except BaseException:
            self._remove([temporary])
            raise

    def _remove(self, paths: Iterable[str]) -> None:
        for info in self._fs.get_file_info(list(paths)):
            if info.type == fs.FileType.File:
                self._fs.delete_file(info.path)


def _checked(name: str, language: str) -> CorpusKey:
    key = CorpusKey(name=check_corpus_name(name), language=check_language(language))
    if key.language == POLYGLOT:
        raise InputError(f"{POLYGLOT!r} stands for several languages. Import each of them by itself.")
    return key


def _by_split(sentences: Iterable[Sentence], key: CorpusKey) -> dict[Split, list[Sentence]]:
    splits: dict[Split, list[Sentence]] = {split: [] for split in SPLITS}
    ids: set[str] = set()
    for sentence in sentences:
        if sentence.language != key.language:
            raise InputError(
                f"Sentence {sentence.id!r} is in {sentence.language!r}, the corpus in {key.language!r}."
                " Import each language by itself."
            )
        if sentence.id in ids:
            raise InputError(f"Two sentences have the id {sentence.id!r}. Ids must be unique in a corpus.")
        ids.add(sentence.id)
        splits[sentence.split].append(sentence)
    if not ids:
        raise InputError(f"No sentence for {key.name!r} in {key.language!r}. Look at the source files.")
    return {split: rows for split, rows in splits.items() if rows}


def _manifest(
    key: CorpusKey,
    splits: Mapping[Split, list[Sentence]],
    twins: Mapping[Split, list[Sentence] | None],
    provenance: Provenance,
) -> CorpusManifest:
    labels = {
        split: dict(sorted(Counter(entity.label for row in rows for entity in row.entities).items()))
        for split, rows in splits.items()
    }
    return CorpusManifest(
        name=key.name,
        language=key.language,
        digest=content_digest(splits, twins),
        source=provenance.source,
        sentences={split: len(rows) for split, rows in splits.items()},
        tokens={split: sum(len(row.tokens) for row in rows) for split, rows in splits.items()},
        entities=labels,
        labels=tuple(sorted({label for counts in labels.values() for label in counts})),
        label_map=dict(provenance.label_map),
        unmapped=dict(provenance.unmapped),
        skipped=provenance.skipped,
        detokenised=all(rows is not None for rows in twins.values()),
        synthetic=provenance.synthetic,
    )


def _none_there(corpus: str | None, base: str) -> str:
    what = "no corpus" if corpus is None else f"no corpus {corpus!r}"
    return f"There is {what} in {base}. Import one first: retrieveall corpus import."


def _only_one(language: str, names: Sequence[str], corpus: str | None) -> CorpusKey:
    if not names:
        named = f" named {corpus!r}" if corpus else ""
        raise NotFoundError(f"No corpus{named} for {language!r}. Import one: retrieveall corpus import.")
    if len(names) > 1:
        raise InputError(
            f"{language!r} has more than one corpus: {', '.join(sorted(names))}. Say which one with --corpus."
        )
    return CorpusKey(name=names[0], language=language)
