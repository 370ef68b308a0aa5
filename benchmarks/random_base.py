"""A base of a given shape with random weights, random adapters of it in PEFT's files, and random rows.

Weights are larger than a fresh model's, so that the most probable token stands out and two orders of adding
the same numbers seldom choose differently.
"""

from __future__ import annotations

import argparse
import copy
import random
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import peft
import torch
from decoding import Decoder, FreeLine, Job
from lengths import corpus_lengths, target_lengths

from retrieveall.engine.protocol import Row
from retrieveall.lora.layers import LoraSwitch, attach_lora
from retrieveall.lora.weights import LoraWeights, load_lora
from retrieveall.prompting.codec import EncodedText
from retrieveall.workspace import Workspace
from tests.models import save_tiny_adapter, tiny_model

LANGUAGES = 8
RANK = 16
_FIRST_ID = 16
_NO_TEXT = EncodedText(units=(), unit_ids=())
_LLAMA = {"vocab_size": 8192, "num_hidden_layers": 8, "head_dim": 64}
_S = {"hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8, "num_key_value_heads": 4}
_L = {"hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16, "num_key_value_heads": 8}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A shape of the goals: the base's data type, its configuration, and the range of prompt lengths."""

    name: str
    dtype: torch.dtype
    config: dict[str, Any]
    prompts: tuple[int, int] = (48, 256)


SHAPES = {
    "S": Shape(name="S", dtype=torch.float32, config={**_LLAMA, **_S, "initializer_range": 0.05}),
    "L": Shape(name="L", dtype=torch.bfloat16, config={**_LLAMA, **_L, "initializer_range": 0.04}),
    "tiny": Shape(name="tiny", dtype=torch.float32, config={}, prompts=(8, 24)),
}


def shape_flags(parser: argparse.ArgumentParser, *, rows: int) -> None:
    """Adds the flags of benchmarks with random weights."""
    parser.add_argument(
        "--shape",
        choices=sorted(SHAPES),
        default="S",
        help="S: float32, width 512. L: bfloat16, width 1024. Both 8 layers. tiny: to see that all works.",
    )
    parser.add_argument("--rows", type=int, default=rows)
    parser.add_argument("--profile", action="store_true", help="Print where each side's time goes, too.")
    parser.add_argument("--workspace", help="With --corpus: take the output lengths from its test sentences.")
    parser.add_argument("--corpus")


@dataclass(frozen=True, kw_only=True)
class FreeRow:
    """A prompt, its adapter's number, and how many tokens to decode behind it."""

    prompt_ids: tuple[int, ...]
    adapter: int
    new_tokens: int


class RandomBase:
    """A base and its adapters.

    Args:
        shape: Of the base.
        adapters: How many.
    """

    def __init__(self, shape: Shape, adapters: int) -> None:
        self.shape, self.adapters = shape, adapters
        self._known: dict[tuple[FreeRow, bool], list[int]] = {}
        self._model = tiny_model("llama", dtype=shape.dtype, **shape.config)
        self._model.config.eos_token_id = self._model.generation_config.eos_token_id = None
        self._folder = tempfile.TemporaryDirectory(prefix="benchmark-adapters-")
        self._folders = [Path(self._folder.name) / f"a{number}" for number in range(adapters)]
        for number, folder in enumerate(self._folders):
            save_tiny_adapter(folder, copy.deepcopy(self._model), rank=RANK, alpha=0.05 * RANK, seed=number)

    def plain(self) -> Any:
        """Returns a copy of the base, as it is."""
        return copy.deepcopy(self._model)

    def merged(self, number: int) -> Any:
        """Returns a copy of the base with one adapter written into its weights: W + s · B A."""
        model = self.plain()
        for name, pair in self.loras[number].pairs.items():
            weight_OI = model.get_submodule(name).weight
            weight_OI.data += (pair.a @ pair.b).T
        return model

    def attached(self) -> tuple[Any, LoraSwitch]:
        """Returns a copy of the base with the engine's LoRA layers, and their switch."""
        model = self.plain()
        switch, _ = attach_lora(model, skip=model.get_output_embeddings())
        return model, switch

    def with_peft(self) -> Any:
        """Returns a copy of the base with all adapters in PEFT; number n is called ``an``."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            model = peft.PeftModel.from_pretrained(
                self.plain(), str(self._folders[0]), adapter_name=self._folders[0].name
            )
            for folder in self._folders[1:]:
                model.load_adapter(str(folder), adapter_name=folder.name)
        return model.eval()

    @cached_property
    def loras(self) -> list[LoraWeights]:
        """The adapters as the engine reads them."""
        model = self.plain()
        _, shapes = attach_lora(model, skip=model.get_output_embeddings())
        return [
            load_lora(folder, shapes, dtype=self.shape.dtype, device=torch.device("cpu"))
            for folder in self._folders
        ]

    def rows(self, count: int, lengths: Sequence[int], *, seed: int = 0) -> list[FreeRow]:
        """Makes rows whose adapters come in turn, with prompts of random lengths."""
        rng = random.Random(seed)
        vocabulary = self._model.config.vocab_size
        return [
            FreeRow(
                prompt_ids=tuple(
                    rng.randrange(_FIRST_ID, vocabulary) for _ in range(rng.randint(*self.shape.prompts))
                ),
                adapter=number % self.adapters,
                new_tokens=lengths[number % len(lengths)],
            )
            for number in range(count)
        ]

    def jobs(self, rows: Sequence[FreeRow], *, adapters: bool) -> list[Job]:
        """Makes the jobs of rows, with their adapters or, for a model of its own, without."""
        return [
            Job(
                row=Row(
                    prompt_ids=row.prompt_ids,
                    sentence=_NO_TEXT,
                    labels=(),
                    adapters=((str(row.adapter), 1.0),),  # the queue takes adapters in turn
                ),
                line=lambda row=row: FreeLine(row.new_tokens),
                lora=((self.loras[row.adapter], 1.0),) if adapters else (),
            )
            for row in rows
        ]

    def expected(self, rows: Sequence[FreeRow], *, adapters: bool = True) -> list[list[int]]:
        """Returns each row's tokens by its adapter's merged model, or by the base, each decoded once."""
        for number in sorted({row.adapter for row in rows}) if adapters else [None]:
            own = [
                row for row in rows if number in (None, row.adapter) and (row, adapters) not in self._known
            ]
            if own:
                model = self.plain() if number is None else self.merged(number)
                lines = Decoder(model, max_rows=1).decode(self.jobs(own, adapters=False)).lines
                for row, line in zip(own, lines, strict=True):
                    self._known[row, adapters] = line.tokens
        return [self._known[row, adapters] for row in rows]

    def facts(self, rows: Sequence[FreeRow]) -> dict[str, Any]:
        """Returns what a result says of shape and rows."""
        return {
            "shape": self.shape.name,
            "dtype": str(self.shape.dtype).removeprefix("torch."),
            "config": self.shape.config,
            "parameters": sum(parameter.numel() for parameter in self._model.parameters()),
            "rank": RANK,
            "adapters": self.adapters,
            "rows": len(rows),
            "prompt_tokens": sum(len(row.prompt_ids) for row in rows),
            "new_tokens": sum(row.new_tokens for row in rows),
            "longest_line": max(row.new_tokens for row in rows),
        }


def lengths_for(arguments: argparse.Namespace) -> list[int]:
    """Returns output lengths: of the corpus named on the command line, else the committed ones."""
    if arguments.workspace is None or arguments.corpus is None:
        return target_lengths()
    return corpus_lengths(Workspace.open(arguments.workspace), arguments.corpus, limit=100)


def assert_right(base: RandomBase, rows: Sequence[FreeRow], found: Sequence[Sequence[int]]) -> dict[str, int]:
    """Compares every row's tokens with those of the merged model of its own adapter, decoded alone.

    Returns:
        How many rows were compared, and how many differ where two tokens were nearly as probable.

    Raises:
        AssertionError: A row differs where the model's choice is clear, or the adapters change nothing.
    """
    near = 0
    expected = base.expected(rows)
    for row, tokens, right in zip(rows, found, expected, strict=True):
        if list(tokens) != right:
            gap = gap_at_first_difference(base.merged(row.adapter), row, right, tokens)
            assert gap < tolerance(base.shape.dtype), f"{tokens} were decoded, {right} expected, gap {gap}"
            near += 1
    changed = sum(a != b for a, b in zip(expected, base.expected(rows, adapters=False), strict=True))
    assert changed > len(rows) // 2, f"the adapters change only {changed} of {len(rows)} rows"
    return {"rows_compared": len(rows), "rows_nearly_tied": near}


def tolerance(dtype: torch.dtype) -> float:
    """Returns the gap between two logits below which rounding may choose either."""
    return 0.3 if dtype == torch.bfloat16 else 1e-3


@torch.inference_mode()
def gap_at_first_difference(model: Any, row: FreeRow, expected: Sequence[int], found: Sequence[int]) -> float:
    """Returns how far apart the model's two best logits are where two lines part; infinity at the end."""
    same = next((i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), None)
    if same is None:
        return float("inf")
    ids = torch.tensor([[*row.prompt_ids, *expected[:same]]])
    best = model(input_ids=ids, use_cache=False).logits[0, -1].float().topk(2).values
    return float(best[0] - best[1])
