"""A corpus in a folder, tagged without a model: what the tests of offline tagging share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retrieveall.offline.fragments import FilePlan, Fragment
from retrieveall.offline.inputs import Inputs, find_inputs
from retrieveall.offline.job import FragmentTagger, TagJob, job_schema
from retrieveall.offline.options import TagOptions
from retrieveall.offline.planning import plan_file
from retrieveall.offline.reading import FragmentReader, InputRows
from retrieveall.storage import Store
from retrieveall.tagger import ServedAdapter, TextInput
from retrieveall.text.sentences import split_sentences
from retrieveall.text.units import split_units
from retrieveall.types import Entity, TaggedSentence, TaggedText


class WordTagger:
    """Every capitalised word is a person; Cyrillic letters make a sentence Russian.

    Args:
        poison: A text that holds it makes the whole call fail.
        broken: Fails for every text.
    """

    release = 7

    def __init__(self, *, poison: str = "\0", broken: bool = False) -> None:
        self.adapters = {
            language: ServedAdapter(language=language, digest=f"{number:016x}", labels=("PER",))
            for number, language in enumerate(("en", "ru"))
        }
        self.poison, self.broken = poison, broken
        self.calls: list[list[str]] = []

    def tag(self, inputs: Sequence[str | TextInput]) -> list[TaggedText]:
        documents = [item if isinstance(item, TextInput) else TextInput(text=item) for item in inputs]
        self.calls.append([document.text for document in documents])
        if self.broken or any(self.poison in document.text for document in documents):
            raise RuntimeError("the engine choked")
        return [self._tagged(document) for document in documents]

    def _tagged(self, document: TextInput) -> TaggedText:
        text = document.text
        spans = split_sentences(text)
        words = [(u.start_char, u.end_char, text[u.start_char : u.end_char]) for u in split_units(text)]
        entities = tuple(
            Entity(start_char=start, end_char=end, label="PER", text=word, score=0.5)
            for start, end, word in words
            if word[0].isupper()
        )
        sentences = tuple(self._sentence(document, span.start_char, span.end_char) for span in spans)
        return TaggedText(entities=entities, sentences=sentences, id=document.id)

    def _sentence(self, document: TextInput, start: int, end: int) -> TaggedSentence:
        is_russian = any("а" <= letter <= "я" for letter in document.text[start:end].lower())
        language = document.language or ("ru" if is_russian else "en")
        return TaggedSentence(
            start_char=start,
            end_char=end,
            language=language,
            adapter=self.adapters[language].digest,
            composition="selection",
            ranking=((language, 1.0),),
            margin=1.0,
            examples_dropped=0,
            tokens=end - start,
        )


def write(folder: Path, **files: str | bytes) -> Inputs:
    """Writes files (``a_jsonl`` is ``a.jsonl``) and returns them as an input."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / ".".join(name.rsplit("_", 1))).write_bytes(data)
    return find_inputs(str(folder))


def plans_of(inputs: Inputs, options: TagOptions) -> list[FilePlan]:
    """Plans all files."""
    return [plan_file(inputs.store, file, options) for file in inputs.files]


def fragments_of(plans: Sequence[FilePlan]) -> list[Fragment]:
    """All fragments, in order."""
    return [fragment for plan in plans for fragment in plan.fragments]


def read_all(inputs: Inputs, options: TagOptions | None = None) -> list[InputRows]:
    """Reads every fragment of an input."""
    options = options or TagOptions()
    plans = plans_of(inputs, options)
    reader = FragmentReader(inputs.store, job_schema(plans), options)
    return [reader.read(fragment) for fragment in fragments_of(plans)]


def job_of(inputs: Inputs, output: Path, options: TagOptions | None = None) -> tuple[TagJob, list[Fragment]]:
    """A job over an input, and its fragments."""
    options = options or TagOptions()
    plans = plans_of(inputs, options)
    job = TagJob(
        inputs=inputs.store,
        output=Store.open(output, create=True),
        options=options,
        release=WordTagger.release,
        pinned={},
        schema=job_schema(plans),
    )
    return job, fragments_of(plans)


def tagged(inputs: Inputs, output: Path, options: TagOptions | None = None) -> Store:
    """Tags a whole input and returns the output."""
    job, fragments = job_of(inputs, output, options)
    tagger = FragmentTagger(job, WordTagger())
    for fragment in fragments:
        tagger.run(fragment)
    return job.output
