"""A saved base with adapters, an engine on it, and the answers of PEFT's own models to compare with."""

from __future__ import annotations

import math
import threading
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from retrieveall.engine.automaton import TagLineAutomaton, label_grammar
from retrieveall.engine.protocol import Decoded, Row
from retrieveall.engine.transformers_engine import EngineConfig, TransformersEngine
from retrieveall.errors import NotFoundError
from retrieveall.models.base import base_folder
from retrieveall.prompting.codec import PromptCodec
from retrieveall.prompting.hierarchical import build_prompt
from retrieveall.types import Composition, EntityExample, Examples
from tests.models import LABELS, Architecture, save_tiny_adapter, save_tiny_base

TIMEOUT_S = 60.0
ADAPTERS: dict[str, dict[str, Any]] = {  # ranks, scales and layers all differ
    "en": {"rank": 8, "alpha": 16.0, "seed": 1},
    "de": {"rank": 16, "alpha": 8.0, "seed": 2},
    "ru": {"rank": 4, "alpha": 12.0, "seed": 3, "use_rslora": True},
    "sw": {"rank": 8, "alpha": 24.0, "seed": 4, "targets": ("q_proj", "v_proj", "down_proj")},
}


class World:
    """A saved base with adapters, an engine on it, and the reference.

    Args:
        folder: For base and adapters.
        architecture: Of a random base; None is the embedded one.
        adapters: How each is made, by digest.
        dtype: Of engine and reference.
        settings: Of the engine.

    Attributes:
        gates: By digest what an adapter's load waits for.
        loads: By digest how often it was asked for.
    """

    def __init__(
        self,
        folder: Path,
        architecture: Architecture | None,
        *,
        adapters: Mapping[str, Mapping[str, Any]] = ADAPTERS,
        dtype: str = "float64",
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.base_dir = save_tiny_base(folder / "base", architecture) if architecture else base_folder("tiny")
        for name, recipe in adapters.items():
            save_tiny_adapter(folder / name, self.base(), **recipe)
        self.gates: dict[str, threading.Event] = {}
        self.loads: Counter[str] = Counter()
        config = EngineConfig(base_model=self.base_dir, dtype=dtype, threads=1, **settings)
        self.engine = TransformersEngine(config, self.resolve)
        self.codec = self.engine.codec
        self._models: dict[str | None, Any] = {}
        self._expected: dict[Any, list[tuple[int, int, str, Any]]] = {}

    def resolve(self, digest: str) -> Path:
        self.loads[digest] += 1
        if digest in self.gates:
            assert self.gates[digest].wait(TIMEOUT_S)
        if not (self.folder / digest).exists():
            raise NotFoundError(f"There is no adapter {digest}.")
        return self.folder / digest

    def row(
        self,
        text: str,
        adapters: tuple[tuple[str, float], ...] = (),
        composition: Composition = "selection",
        examples: int = 0,
        deadline_s: float | None = None,
    ) -> Row:
        encoded = self.codec.text(text)
        shown = tuple(EntityExample(mention="Den Haag", label="LOC") for _ in range(examples))
        prompt = build_prompt(self.codec, encoded, Examples(entity=shown))
        return Row(
            prompt_ids=prompt.ids,
            sentence=encoded,
            labels=LABELS,
            adapters=adapters,
            composition=composition,
            deadline_s=deadline_s,
        )

    def decode(self, rows: list[Row]) -> list[Decoded]:
        futures = [self.engine.submit(row) for row in rows]
        return [future.result(TIMEOUT_S) for future in futures]

    def base(self) -> Any:
        auto: Any = AutoModelForCausalLM
        return auto.from_pretrained(self.base_dir, dtype=self.dtype).eval()

    def peft_model(self, digest: str) -> Any:
        """The numerical reference: PEFT with this adapter alone."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return peft.PeftModel.from_pretrained(self.base(), str(self.folder / digest)).eval()

    def merged_model(self, row: Row) -> Any:
        """The base with a row's composition written into its weights, from the formulas of docs/method.md."""
        model = self.base()
        linears = dict(model.named_modules())
        for name, delta in self.deltas(row).items():
            linears[name].weight.data += delta
        return model

    def expected(self, row: Row) -> list[tuple[int, int, str, Any]]:
        """What PEFT's model with the row's one adapter answers; computed once for each kind of row."""
        key = (row.prompt_ids, row.adapters)
        if key not in self._expected:
            digest = row.adapters[0][0] if row.adapters else None
            if digest not in self._models:
                self._models[digest] = self.peft_model(digest) if digest else self.base()
            self._expected[key] = reference(self._models[digest], self.codec, row)
        return self._expected[key]

    def deltas(self, row: Row) -> dict[str, torch.Tensor]:
        sums: dict[str, list[Any]] = {}
        for digest, weight in row.adapters:
            for name, layer in self.peft_model(digest).base_model.model.named_modules():
                if hasattr(layer, "lora_A"):
                    a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
                    b = b * layer.scaling["default"]
                    rank = 16 - a.shape[0]  # padded to the largest
                    pads = functional.pad(a, (0, 0, 0, rank)), functional.pad(b, (0, rank))
                    sums.setdefault(name, []).append((weight * pads[0], weight * pads[1], weight * b @ a))
        if row.composition == "fusion":
            return {
                name: sum(b for _, b, _ in parts) @ sum(a for a, _, _ in parts)
                for name, parts in sums.items()
            }
        return {name: sum(delta for _, _, delta in parts) for name, parts in sums.items()}


def reference(model: Any, codec: PromptCodec, row: Row) -> list[tuple[int, int, str, Any]]:
    """Greedy decoding without batch, cache, drafts or gathered logits."""
    return spans_of(greedy(model, codec, row)[0])


def greedy(model: Any, codec: PromptCodec, row: Row) -> tuple[TagLineAutomaton, float]:
    """The finished line, and by how much the best token led in the closest of its choices."""
    automaton = TagLineAutomaton(
        row.sentence, label_grammar(row.labels, tuple(map(codec.label, row.labels))), codec.end_id
    )
    ids, gap = list(row.prompt_ids), math.inf
    while not automaton.finished:
        allowed = list(automaton.allowed())
        best, logprob = 0, 0.0
        if len(allowed) > 1:
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1][allowed]
            first, second = logits.topk(2).values.tolist()
            best, gap = int(logits.argmax()), min(gap, first - second)
            logprob = float(logits.log_softmax(-1)[best])
        automaton.advance(allowed[best], logprob)
        ids.append(allowed[best])
    return automaton, gap


def spans_of(answer: Any) -> list[tuple[int, int, str, Any]]:
    spans = answer.spans() if callable(answer.spans) else answer.spans
    return [(span.start_char, span.end_char, span.label, Close(span.logprob)) for span in spans]


class Close(float):
    """A number that equals its neighbours: norms run in float32, and batches round differently."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(float(self) - float(other)) < 1e-5
