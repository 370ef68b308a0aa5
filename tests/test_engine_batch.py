"""Rows join in passes of near lengths, and drafts are judged as soon as a pass has answered."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from retrieveall.engine.automaton import TagLineAutomaton, label_grammar
from retrieveall.engine.batch import LiveRow, RunningBatch
from retrieveall.engine.head import AllowedScorer
from retrieveall.engine.masks import AttentionMasks
from retrieveall.engine.protocol import GuessedSpan, Row
from retrieveall.engine.waiting import Ticket
from retrieveall.prompting.codec import PromptCodec
from tests.models import LABELS, SENTENCES, tiny_model, tiny_tokenizer

CODEC = PromptCodec(tiny_tokenizer())


def live_row(prompt_tokens: int, guess: tuple[GuessedSpan, ...] = ()) -> LiveRow:
    sentence = CODEC.text(SENTENCES[0])
    row = Row(
        prompt_ids=(5,) * prompt_tokens,
        sentence=sentence,
        labels=LABELS,
        adapters=(("de", 1.0),),
        guess=guess,
    )
    grammar = label_grammar(LABELS, tuple(map(CODEC.label, LABELS)))
    automaton = TagLineAutomaton(sentence, grammar, CODEC.end_id)
    return LiveRow(Ticket(row, prompt_tokens + 100), automaton, max_positions=None)


def joined(rows: Sequence[LiveRow]) -> list[list[LiveRow]]:
    """The rows of every pass."""
    passes: list[list[LiveRow]] = []
    model = tiny_model()
    batch = RunningBatch(
        AllowedScorer(model),
        AttentionMasks(model.config, model.dtype),
        pad_id=0,
        device=model.device,
        kv_bytes=1 << 30,
        prompt_tokens=8192,
        follow=lambda together: passes.append(list(together)),
    )
    with torch.inference_mode():
        assert batch.join(rows) == len(passes)
    assert batch.rows == [row for together in passes for row in together]
    return passes


def test_long_and_short_prompts_join_in_passes_of_their_own() -> None:
    short, long, shorter, longer = (live_row(tokens) for tokens in (12, 300, 10, 310))
    assert joined([short, long, shorter, longer]) == [[long, longer], [short, shorter]]


def test_wrong_drafts_of_one_pass_pause_those_of_the_next() -> None:
    wrong = tuple(
        GuessedSpan(first_unit=unit, end_unit=unit + 1, label="PER")
        for unit in range(len(CODEC.text(SENTENCES[0]).units))
    )
    first = [live_row(300, wrong) for _ in range(16)]
    second = [live_row(10, wrong) for _ in range(2)]
    assert joined([*second, *first]) == [first, second]
    assert all(row.drafted_tokens for row in first)
    assert not any(row.drafted_tokens for row in second)
