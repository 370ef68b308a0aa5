"""Other ways to decode rows of many adapters: what users of PEFT and transformers have, and an operation.

`generate` decodes a batch to its longest line; only the tokens that a row wants are kept and counted. Its
batches are rows of near prompt lengths, as the engine's are, so that little is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from random_base import FreeRow
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from retrieveall.lora.layers import AdapterStacks
from retrieveall.lora.weights import LoraWeights

_GATHERED_TOKENS = 512  # at once, so that memory stays small
_PAGE_TOKENS = 256  # transformers' default
_PATIENCE_S = 300.0


class GatherPlan:
    """LoRA by gathering A and B of its adapter for every single token, the operation of some CPU kernels.

    Takes the place of `LoraPlan`. Weights other than 1 are not needed here.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[tuple[LoraWeights, float]]],
        device: torch.device,
        stacks: AdapterStacks,
    ) -> None:
        adapters = sorted({id(lora): lora for entries in rows for lora, _ in entries}.items())
        places = {key: place for place, (key, _) in enumerate(adapters)}
        self._stacks = stacks.of([lora for _, lora in adapters])
        self._adapters = [lora for _, lora in adapters]
        self._of_row_N = torch.tensor([places[id(entries[0][0])] for entries in rows], device=device)
        self.is_empty = False

    def add(self, layer: str, x_NLI: torch.Tensor, y_NLO: torch.Tensor) -> torch.Tensor:
        """Adds every row's LoRA of one layer in place."""
        if layer not in self._stacks:
            pairs = [lora.pairs[layer] for lora in self._adapters]
            self._stacks[layer] = torch.stack([p.a for p in pairs]), torch.stack([p.b for p in pairs])
        a_PIR, b_PRO = self._stacks[layer]
        of_token_T = self._of_row_N.repeat_interleave(x_NLI.shape[1])
        x_TI, y_TO = x_NLI.flatten(0, 1), y_NLO.view(-1, y_NLO.shape[-1])
        for start in range(0, len(of_token_T), _GATHERED_TOKENS):
            part = slice(start, start + _GATHERED_TOKENS)
            low_T1R = torch.bmm(x_TI[part, None], a_PIR.index_select(0, of_token_T[part]))
            y_TO[part] += torch.bmm(low_T1R, b_PRO.index_select(0, of_token_T[part]))[:, 0]
        return y_NLO


def generate(model: Any, rows: Sequence[FreeRow], *, batch: int, with_names: bool = False) -> list[list[int]]:
    """Decodes rows with `generate`, so many at a time.

    Args:
        model: A causal LM, or PEFT's of many adapters.
        rows: What to decode.
        batch: Rows at a time.
        with_names: Name each row's adapter by PEFT's `adapter_names`.
    """

    def decode(part: Sequence[FreeRow]) -> list[list[int]]:
        names = {"adapter_names": [f"a{row.adapter}" for row in part]} if with_names else {}
        return _generated(model, part, **names)

    return _in_batches(rows, batch, decode)


def generate_by_language(model: Any, rows: Sequence[FreeRow], *, batch: int) -> list[list[int]]:
    """Decodes every batch language by language, switching PEFT's active adapter before each."""

    def decode(part: Sequence[FreeRow]) -> list[list[int]]:
        found: list[list[int]] = [[]] * len(part)
        for number in sorted({row.adapter for row in part}):
            places = [place for place, row in enumerate(part) if row.adapter == number]
            model.set_adapter(f"a{number}")
            for place, tokens in zip(places, _generated(model, [part[i] for i in places]), strict=True):
                found[place] = tokens
        return found

    return _in_batches(rows, batch, decode)


def generate_batch(model: Any, rows: Sequence[FreeRow], *, batch: int) -> list[list[int]]:
    """Decodes rows of one merged model with transformers' continuous batching, each to its own length.

    The manager is what `generate_batch` opens; that function itself knows one length for all rows. Neither
    has adapters: `adapter_names` would be taken and the active adapter used for every row.
    """
    longest = max(len(row.prompt_ids) + row.new_tokens for row in rows)
    settings = ContinuousBatchingConfig(
        num_blocks=batch * -(-longest // _PAGE_TOKENS),
        max_batch_tokens=512,  # of 512, 2560 and its own choice the fastest on a CPU
        max_requests_per_batch=batch,
        page_size=_PAGE_TOKENS,
    )
    with model.continuous_batching_context_manager(
        _greedy(1), continuous_batching_config=settings
    ) as manager:
        for place, row in enumerate(rows):
            manager.add_request(list(row.prompt_ids), str(place), max_new_tokens=row.new_tokens)
        found: dict[int, list[int]] = {}
        while len(found) < len(rows):
            answer = manager.get_result(timeout=_PATIENCE_S)
            assert answer is not None and answer.error is None, "generate_batch stopped without an answer"
            if answer.is_finished():
                found[int(answer.request_id)] = list(answer.generated_tokens)
    return [found[place] for place in range(len(rows))]


def _in_batches(
    rows: Sequence[FreeRow], batch: int, decode: Callable[[Sequence[FreeRow]], list[list[int]]]
) -> list[list[int]]:
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].prompt_ids))
    found: list[list[int]] = [[]] * len(rows)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        for place, tokens in zip(part, decode([rows[i] for i in part]), strict=True):
            found[place] = tokens[: rows[place].new_tokens]
    return found


def _generated(model: Any, rows: Sequence[FreeRow], **names: Any) -> list[list[int]]:
    width = max(len(row.prompt_ids) for row in rows)
    holes = [width - len(row.prompt_ids) for row in rows]
    ids = torch.tensor([[0] * n + list(row.prompt_ids) for n, row in zip(holes, rows, strict=True)])
    mask = torch.tensor([[0] * n + [1] * (width - n) for n in holes])
    with torch.inference_mode():
        found = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=_greedy(max(row.new_tokens for row in rows)),
            **names,
        )
    tokens: list[list[int]] = found[:, width:].tolist()
    return tokens


def _greedy(new_tokens: int) -> GenerationConfig:
    return GenerationConfig(max_new_tokens=new_tokens, do_sample=False, pad_token_id=0)
