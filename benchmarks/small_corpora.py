"""Corpora with fewer training sentences, so that index, prior and adapters see no more than a rival does.

    python benchmarks/small_corpora.py --workspace workspace --corpus panx --sizes 100,1000 --into small
    retrieveall --workspace small index && retrieveall --workspace small train --corpus panx-1000 …

Writes the corpora CORPUS-SIZE into another workspace. The training sentences are those that
`retrieveall train --train-limit SIZE` and `ner_rivals.py --train-limit SIZE` draw; dev and test stay whole.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from measuring import workspace_flags

from retrieveall.corpus.limits import limited
from retrieveall.corpus.store import CorpusStore, Provenance
from retrieveall.types import Sentence
from retrieveall.workspace import Workspace


def main() -> None:
    """Writes the corpora."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    workspace_flags(parser)
    parser.add_argument(
        "--sizes", default="100,1000", help="Training sentences per language, comma-separated."
    )
    parser.add_argument("--into", required=True, help="The workspace that gets them; made where missing.")
    arguments = parser.parse_args()
    source = Workspace.open(arguments.workspace).corpora
    target = Workspace.open(arguments.into, create=True).corpora
    languages = [one.language for one in source.list() if one.name == arguments.corpus]
    for size in map(int, arguments.sizes.split(",")):
        for language in languages:
            name = f"{arguments.corpus}-{size}"
            made = target.import_sentences(
                drawn(source, arguments.corpus, language, size),
                name=name,
                language=language,
                provenance=Provenance(source=f"{size} training sentences of {arguments.corpus}"),
            )
            print(f"{name} {language}: {dict(made.sentences)}")


def drawn(store: CorpusStore, corpus: str, language: str, size: int) -> Iterator[Sentence]:
    """Yields so many training sentences, and all of dev and test."""
    train = store.load(corpus, language, "train")
    yield from (train[place] for place in limited(len(train), size))
    yield from store.load(corpus, language, "dev")
    yield from store.load(corpus, language, "test")


if __name__ == "__main__":
    main()
