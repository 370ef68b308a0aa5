"""The same base with a token-classification head, all weights trained: no prompt, examples or generation.

A causal LM has not read what follows a token. So the sentence is read twice, and a token is judged at its
last piece of the second reading, where all of the sentence has been seen. The epoch with the best strict F1
on dev is kept.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from bio import Tagged, mentions_of, strict_f1, tags_of
from torch import Tensor, nn

from retrieveall.models.base import open_base
from retrieveall.text.units import unit_pieces
from retrieveall.types import Sentence

_TAG_ROWS = 32


class HeadRival:
    """A base and a linear layer over its last states.

    Args:
        base_model: Name of the base.
        seed: Of the head and the order.
        device: Where to compute.
        epochs: Most passes.
        patience: Passes without a better dev F1 after which training stops.
        batch_rows: Sentences of a step.
        learning_rate: Peak of a line that falls to zero, of AdamW; the head's is ten times as high.
    """

    def __init__(
        self,
        base_model: str,
        *,
        seed: int,
        device: str = "cpu",
        epochs: int = 10,
        patience: int = 2,
        batch_rows: int = 16,
        learning_rate: float = 3e-4,
    ) -> None:
        self._base = open_base(base_model, device=device)
        self._seed, self._device = seed, device
        self._epochs, self._patience, self._batch_rows = epochs, patience, batch_rows
        self._learning_rate = learning_rate
        self._tags: list[str] = ["O"]
        self._head = nn.Linear(self._base.model.config.hidden_size, 1)

    def train(self, train: Sequence[Sentence], dev: Sequence[Sentence]) -> None:
        """Trains base and head."""
        torch.manual_seed(self._seed)
        self._tags = sorted({tag for one in train for tag in tags_of(one)} | {"O"})
        model = self._base.model.requires_grad_(True)
        self._head = nn.Linear(model.config.hidden_size, len(self._tags)).to(self._device)
        optimiser = torch.optim.AdamW(
            [
                {"params": list(model.parameters()), "lr": self._learning_rate},
                {"params": list(self._head.parameters()), "lr": 10 * self._learning_rate},
            ],
            weight_decay=0.01,
        )
        steps = self._epochs * -(-len(train) // self._batch_rows)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _factor(step, steps))
        rng = random.Random(self._seed)
        best, best_f1, without_gain = self._state(), -1.0, 0
        for _ in range(self._epochs):
            model.train()
            for batch in _batches(train, self._batch_rows, rng):
                self._loss(batch).backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_([*model.parameters(), *self._head.parameters()], 1.0)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                schedule.step()
            model.eval()
            f1 = strict_f1(self, dev)
            if f1 > best_f1:
                best, best_f1, without_gain = self._state(), f1, 0
            else:
                without_gain += 1
            if without_gain >= self._patience:
                break
        model.load_state_dict(best["model"])
        self._head.load_state_dict(best["head"])

    @torch.inference_mode()
    def tag(self, sentences: Sequence[Sentence]) -> Tagged:
        """Tags in batches of near lengths, each token on its own."""
        order = sorted(range(len(sentences)), key=lambda place: len(sentences[place].tokens))
        found: Tagged = [[] for _ in sentences]
        for start in range(0, len(order), _TAG_ROWS):
            chosen = order[start : start + _TAG_ROWS]
            rows = [sentences[place] for place in chosen]
            tags = [self._tags[best] for best in self._logits(rows).argmax(-1).tolist()]
            for place, row in zip(chosen, rows, strict=True):
                found[place] = mentions_of(row, tags[: len(row.tokens)])
                tags = tags[len(row.tokens) :]
        return found

    def _state(self) -> dict[str, Any]:
        parts = {"model": self._base.model, "head": self._head}
        return {
            name: {key: value.detach().clone() for key, value in part.state_dict().items()}
            for name, part in parts.items()
        }

    def _loss(self, batch: Sequence[Sentence]) -> Tensor:
        numbers = {tag: number for number, tag in enumerate(self._tags)}
        gold = torch.tensor([numbers[tag] for one in batch for tag in tags_of(one)], device=self._device)
        return nn.functional.cross_entropy(self._logits(batch), gold)

    def _logits(self, batch: Sequence[Sentence]) -> Tensor:
        """Returns (tokens of the whole batch, tags)."""
        read = [self._read_twice(one) for one in batch]
        width = max(len(ids) for ids, _ in read)
        ids = torch.full((len(batch), width), self._base.pad_id)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, (tokens, _) in enumerate(read):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        places = torch.tensor([row * width + end for row, (_, ends) in enumerate(read) for end in ends])
        states = self._base.model.get_decoder()(
            input_ids=ids.to(self._device), attention_mask=mask.to(self._device), use_cache=False
        ).last_hidden_state
        logits: Tensor = self._head(states.flatten(0, 1)[places.to(self._device)].to(self._head.weight.dtype))
        return logits

    def _read_twice(self, sentence: Sentence) -> tuple[list[int], list[int]]:
        """Returns the ids, and where each token's last piece of the second reading stands."""
        pieces = self._base.codec.pieces(unit_pieces(sentence.text, sentence.tokens))
        once = [piece for token in pieces for piece in token]
        start = [*self._base.codec.start_ids, *once, self._base.codec.end_id]
        ends, place = [], len(start) - 1
        for token in pieces:
            place += len(token)
            ends.append(place)
        return [*start, *once], ends


def _batches(rows: Sequence[Sentence], size: int, rng: random.Random) -> list[list[Sentence]]:
    order = list(rows)
    rng.shuffle(order)
    return [order[start : start + size] for start in range(0, len(order), size)]


def _factor(step: int, steps: int) -> float:
    warmup = max(1, steps // 20)
    return (step + 1) / warmup if step < warmup else max(0.0, (steps - step) / max(1, steps - warmup))
