"""P7s: what the grammar itself costs, our automaton against llguidance's substring construct.

    pip install llguidance
    python benchmarks/substring.py --workspace W --corpus panx --limit 100

Both follow the gold tag lines of the same test sentences, token by token: the grammar of the sentence is
made, then what may come next is asked for and the line's token read, until its end. llguidance's grammar is
any number of substrings of the sentence's units, each with a label marker behind it. It has no way to say
that mentions come in the order of the sentence, so what it allows is counted, too, and how many lines of the
gold mentions in reverse it takes.

Not covered: what a model does with the masks. Ours are a few ids, whose logits alone are computed;
llguidance's a bit for each token of the vocabulary, so all logits are needed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer
from measuring import flags, parsed, result, take_turns, workspace_flags, write
from recording import test_sentences

from retrieveall.engine.automaton import LabelGrammar, TagLineAutomaton, label_grammar
from retrieveall.models.base import open_base
from retrieveall.prompting.codec import EncodedText, PromptCodec
from retrieveall.text.units import unit_pieces
from retrieveall.types import Sentence
from retrieveall.workspace import Workspace

_OURS, _SUBSTRING = "our automaton", "llguidance"


def main() -> None:
    """Measures and writes P7s."""
    parser = flags(__doc__, rounds=5)
    workspace_flags(parser)
    parser.add_argument("--limit", type=int, default=100, help="Test sentences per language.")
    arguments = parsed(parser)
    workspace = Workspace.open(arguments.workspace)
    languages = sorted(key.language for key in workspace.corpora.resolve(arguments.corpus, None))
    sides = Sides(test_sentences(workspace, arguments.corpus, languages, arguments.limit))
    counts = sides.counts()
    turns = take_turns(
        {_OURS: sides.follow_ours, _SUBSTRING: sides.follow_substring}, arguments.rounds, warm_up=False
    )
    record = result(
        "P7s",
        "following a tag line: our automaton ÷ llguidance's substrings",
        turns.speed_ratios(_OURS, _SUBSTRING),
        goal=1.0,
        sides=turns.wall_s,
        cpu=turns.cpu(_OURS, _SUBSTRING),
        counts=counts,
        setup={"corpus": arguments.corpus, "sentences": len(sides.rows), "tokens": counts["tokens"]},
    )
    write(record, arguments.results)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    text: str
    encoded: EncodedText
    ids: list[int]
    reverse: list[int]


class Sides:
    """The two ways to follow the same lines.

    Args:
        sentences: Their gold mentions make the lines.
    """

    def __init__(self, sentences: Sequence[Sentence]) -> None:
        base = open_base("tiny")
        self._codec = base.codec
        labels = tuple(sorted({entity.label for row in sentences for entity in row.entities}))
        self._grammar = _grammar(self._codec, labels)
        self._tokenizer = from_tokenizer(base.tokenizer)
        markers = [" ".join(f"<[{token}]>" for token in self._codec.label(label)) for label in labels]
        self._markers = " | ".join(markers)
        self.rows = [self._line(row) for row in sentences]

    def _line(self, row: Sentence) -> _Line:
        encoded, end = self._codec.text(row.text), [self._codec.end_id]
        return _Line(
            text=row.text,
            encoded=encoded,
            ids=self._codec.tags(encoded, row.entities) + end,
            reverse=self._codec.tags(encoded, row.entities[::-1]) + end,
        )

    def follow_ours(self) -> list[int]:
        """Returns how many tokens were allowed at each step."""
        allowed = []
        for row in self.rows:
            automaton = TagLineAutomaton(row.encoded, self._grammar, self._codec.end_id)
            for token in row.ids:
                allowed.append(len(automaton.allowed()))
                automaton.advance(token)
        return allowed

    def follow_substring(self) -> list[bytes]:
        """Returns the mask of each step."""
        masks = []
        for row in self.rows:
            matcher = self._matcher(row)
            for token in row.ids:
                masks.append(matcher.compute_bitmask())
                matcher.consume_token(token)
        return masks

    def counts(self) -> dict[str, Any]:
        """Returns what both allow; stops where llguidance refuses a gold line."""
        for row in self.rows:
            matcher = self._matcher(row)
            if not matcher.consume_tokens(row.ids):
                raise SystemExit(f"llguidance refuses {row.ids} of {row.text!r}: {matcher.get_error()}")
        bits = [int(np.unpackbits(np.frombuffer(mask, np.uint8)).sum()) for mask in self.follow_substring()]
        several = [row for row in self.rows if row.reverse != row.ids]
        taken = [self._matcher(row).validate_tokens(row.reverse) == len(row.reverse) for row in several]
        return {
            "tokens": len(bits),
            "allowed_ours": float(np.mean(self.follow_ours())),
            "allowed_llguidance": float(np.mean(bits)),
            "lines_in_another_order": len(several),
            "of_these_taken_by_llguidance": sum(taken),
        }

    def _matcher(self, row: _Line) -> Any:
        chunks = json.dumps(unit_pieces(row.text, row.encoded.units))
        rules = (
            "start: (MENTION label)*",
            f'MENTION: %regex {{"substring_chunks": {chunks}}}',
            f"label: {self._markers}",
        )
        return LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark("\n".join(rules)))


def _grammar(codec: PromptCodec, labels: tuple[str, ...]) -> LabelGrammar:
    return label_grammar(labels, tuple(codec.label(label) for label in labels))


if __name__ == "__main__":
    main()
