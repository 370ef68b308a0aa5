"""Tokens of gold tag lines: how unevenly long the outputs of real sentences are.

    python benchmarks/lengths.py --workspace W --corpus panx

writes `target_lengths.txt`, which benchmarks with random weights draw their output lengths from: the length
of the gold tag line, its end token counted, of test sentences of all languages of the corpus in turn, in
tokens of the workspace's base. Only the numbers are kept.
"""

from __future__ import annotations

from pathlib import Path

from measuring import flags, parsed, workspace_flags

from retrieveall.corpus.limits import limited
from retrieveall.models.base import open_tokenizer
from retrieveall.prompting.codec import PromptCodec
from retrieveall.workspace import Workspace

_LIST = Path(__file__).with_name("target_lengths.txt")


def target_lengths() -> list[int]:
    """Returns the committed lengths."""
    return [int(line) for line in _LIST.read_text(encoding="utf-8").split("\n") if line.isdigit()]


def corpus_lengths(workspace: Workspace, corpus: str, limit: int) -> list[int]:
    """Returns the lengths of so many test sentences of every language, languages in turn."""
    codec = PromptCodec(open_tokenizer(workspace.state().base_model or "tiny"))
    by_language = []
    for key in workspace.corpora.resolve(corpus):
        rows = workspace.corpora.load(corpus, key.language, "test")
        chosen = [rows[i] for i in limited(len(rows), limit)]
        by_language.append([len(codec.tags(codec.text(row.text), row.entities)) + 1 for row in chosen])
    return [length for turn in zip(*by_language, strict=True) for length in turn]


def main() -> None:
    """Writes the list."""
    parser = flags(__doc__, rounds=1)
    workspace_flags(parser)
    parser.add_argument("--limit", type=int, default=100, help="Sentences per language.")
    arguments = parsed(parser)
    lengths = corpus_lengths(Workspace.open(arguments.workspace), arguments.corpus, arguments.limit)
    head = f"# Tokens of gold tag lines, {len(lengths)} test sentences of {arguments.corpus}; see lengths.py"
    _LIST.write_text("\n".join([head, *map(str, lengths)]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
