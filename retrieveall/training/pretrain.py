"""Pretraining of the embedded base on raw text: Llama-shaped, from scratch, on whatever is at hand.

With the defaults a third of the documents, which make about 60 % of the tokens, are look-up lessons
(`retrieveall.training.lookup`), the rest plain sentences.
Every batch is drawn from (seed, step) alone, so a run that is killed and started again sees the
batches of an uninterrupted run. Needs torch and transformers, neither ray nor faiss.
Source: own choice; Muon for the matrices (Jordan et al. 2024), AdamW for the rest.

Axes: B rows, T tokens of a row.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from retrieveall.errors import InputError
from retrieveall.models.digest import base_digest
from retrieveall.models.tokenizer import train_tokenizer
from retrieveall.prompting.codec import PromptCodec
from retrieveall.training.lookup import LookupConfig, LookupLessons
from retrieveall.training.muon import Muon
from retrieveall.training.raw_text import hold_out, language_weights, tokenizer_sample


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """Everything that decides the weights.

    Attributes:
        hidden_size: Width d of the model.
        intermediate_size: Width of the gated feed-forward layers.
        row_tokens: Length T of a packed row.
        micro_rows: Rows of one forward pass.
        accumulate: Forward passes of one optimiser step.
        tokens: Length of the run.
        warmup_steps: Steps of linear warm-up.
        decay_share: Share of the run, at its end, over which the learning rates fall to zero.
        lesson_share: Share of the documents that are look-up lessons.
        language_exponent: A language of s bytes is drawn in proportion to s to this power.
        sampled_classes: Tokens that stand for the rest of the vocabulary in the loss until the decay
            begins, which spends most of the head's arithmetic; the decay runs on the whole vocabulary.
        continues: Digest of the finished model whose tokenizer and weights the run begins with.
    """

    vocabulary_size: int = 16_384
    hidden_size: int = 192
    intermediate_size: int = 512
    layers: int = 6
    heads: int = 3
    key_value_heads: int = 3
    row_tokens: int = 384
    micro_rows: int = 6
    accumulate: int = 4
    tokens: int = 25_000_000
    matrix_lr: float = 3e-3
    other_lr: float = 3e-3
    weight_decay: float = 0.05
    warmup_steps: int = 15
    decay_share: float = 0.3
    lesson_share: float = 0.35
    language_exponent: float = 0.7
    sampled_classes: int = 3_072
    heldout_lines: int = 100
    seed: int = 0
    checkpoint_steps: int = 40
    continues: str | None = None
    lookup: LookupConfig = field(default_factory=LookupConfig)

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimiser step."""
        return self.row_tokens * self.micro_rows * self.accumulate

    @property
    def steps(self) -> int:
        """Optimiser steps of the run."""
        return math.ceil(self.tokens / self.step_tokens)

    @property
    def decay_steps(self) -> int:
        """Optimiser steps of the final decay."""
        return max(1, round(self.steps * self.decay_share))


class PackedBatches:
    """Packs plain sentences and look-up lessons into rows of one length, end token between them."""

    def __init__(
        self, lines: Mapping[str, Sequence[str]], codec: PromptCodec, config: PretrainConfig
    ) -> None:
        weights = language_weights(lines, config.language_exponent)
        self._languages, self._weights = list(weights), list(weights.values())
        self._lines, self._codec, self._config = lines, codec, config
        self._lessons = LookupLessons(lines, codec, config.lookup)

    def batch(self, step: int, micro: int) -> Tensor:
        """Returns the rows of one forward pass, ``(B, T + 1)``, a function of (seed, step, micro)."""
        rng = random.Random(f"{self._config.seed}:{step}:{micro}")
        width = self._config.row_tokens + 1
        stream: list[int] = []
        while len(stream) < width * self._config.micro_rows:
            stream += self._document(rng)
        rows = torch.tensor(stream[: width * self._config.micro_rows])
        return rows.view(self._config.micro_rows, width)

    def _document(self, rng: random.Random) -> list[int]:
        language = rng.choices(self._languages, self._weights)[0]
        if rng.random() < self._config.lesson_share:
            return self._lessons.draw(language, rng)
        return [*self._codec.text(rng.choice(self._lines[language])).ids, self._codec.end_id]


def build_model(config: PretrainConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Returns the untrained model in float32, its weights a function of the seed."""
    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_value_heads,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def load_weights(model: LlamaForCausalLM, folder: Path) -> None:
    """Replaces the weights by those of a finished model.

    Raises:
        InputError: The model has other sizes.
    """
    finished = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    shapes = [{k: v.shape for k, v in one.state_dict().items()} for one in (model, finished)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"The model in {folder} has other sizes than the recipe: {finished.config.to_diff_dict()}."
            " Give the sizes of that model."
        )
    model.load_state_dict(finished.state_dict())


def build_optimisers(model: torch.nn.Module, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for embeddings and norms."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed" not in name else others).append(parameter)
    return [
        Muon(matrices, lr=config.matrix_lr, weight_decay=config.weight_decay),
        torch.optim.AdamW(others, lr=config.other_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def lr_factor(step: int, config: PretrainConfig) -> float:
    """Warm-up, constant, then linear decay to zero (so that a run can branch before its decay)."""
    warmed = (step + 1) / max(1, config.warmup_steps)
    return min(1.0, warmed, max(0.0, (config.steps - step) / config.decay_steps))


class Pretraining:
    """One run in one folder: ``tokenizer/ config.json log.jsonl checkpoint.pt model/``.

    Starting it again in the same folder goes on from the last checkpoint. A run may also begin with
    the tokenizer and weights of a finished model instead of random ones.

    Args:
        folder: Where the run lives.
        lines: Raw sentences by language.
        config: The recipe; must equal the one that the folder was begun with, but for ``tokens``:
            the learning rate is constant until the decay, so the length may be changed until then.
        continued: Folder of the model to begin with; ``config.continues`` must hold its digest.
        device: Where to train. The weights begin the same everywhere; sums differ in their last bits.

    Raises:
        InputError: The folder was begun with another recipe, a language has too few lines, or the
            continued model is not the recipe's or has other sizes.
    """

    def __init__(
        self,
        folder: Path,
        lines: Mapping[str, Sequence[str]],
        config: PretrainConfig,
        *,
        continued: Path | None = None,
        device: str = "cpu",
    ) -> None:
        self._folder, self.config = folder, config
        if (base_digest(continued) if continued else None) != config.continues:
            raise InputError(
                f"The recipe continues the model of digest {config.continues}, given was {continued}."
                " Give the folder of that model."
            )
        train, self.heldout = hold_out(lines, config.heldout_lines)
        folder.mkdir(parents=True, exist_ok=True)
        self._keep_config()
        self.tokenizer = self._open_tokenizer(train, continued)
        self.codec = PromptCodec(self.tokenizer)
        self._batches = PackedBatches(train, self.codec, config)
        self.model = build_model(config, self.tokenizer)
        if continued:
            load_weights(self.model, continued)
        self.model.to(device)  # type: ignore[arg-type]  # its wrapper hides self from mypy
        self._optimisers = build_optimisers(self.model, config)
        self.step = 0
        self._load_checkpoint()

    def _keep_config(self) -> None:
        path = self._folder / "config.json"
        mine = asdict(self.config)
        begun = json.loads(path.read_text(encoding="utf-8")) if path.exists() else mine
        other = [key for key in {**begun, **mine} if key != "tokens" and begun.get(key) != mine.get(key)]
        if other:
            raise InputError(
                f"{path} holds another recipe: "
                + ", ".join(f"{key} {begun.get(key)!r} there, {mine.get(key)!r} given" for key in other)
                + ". Give what stands there, or use another folder."
            )
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(mine, indent=1, sort_keys=True), encoding="utf-8")
        temporary.replace(path)

    def _open_tokenizer(
        self, lines: Mapping[str, Sequence[str]], continued: Path | None
    ) -> PreTrainedTokenizerFast:
        path = continued or self._folder / "tokenizer"
        if not path.exists():
            weights = language_weights(lines, self.config.language_exponent)
            sample = tokenizer_sample(lines, weights, characters=20_000_000, seed=self.config.seed)
            temporary = self._folder / "tokenizer.tmp"  # a run killed here finds nothing half written
            train_tokenizer(sample, vocabulary_size=self.config.vocabulary_size).save_pretrained(temporary)
            temporary.replace(path)
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(path)
        return tokenizer

    def _load_checkpoint(self) -> None:
        path = self._folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, map_location=self.model.device)
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step = state["step"]

    def save_checkpoint(self, name: str = "checkpoint.pt") -> None:
        """Writes the whole state to a temporary name, then moves it."""
        state: dict[str, Any] = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
        }
        temporary = self._folder / f"{name}.tmp"
        torch.save(state, temporary)
        temporary.replace(self._folder / name)

    def run(self) -> None:
        """Trains to the end, logs one JSON line a step, saves checkpoints and the final model."""
        started, first = time.monotonic(), self.step
        self._trim_log()
        with (self._folder / "log.jsonl").open("a") as log:
            while self.step < self.config.steps:
                loss = self._train_step()
                speed = (self.step - first) * self.config.step_tokens / (time.monotonic() - started)
                record = {"step": self.step, "loss": round(loss, 4), "tokens_per_s": round(speed)}
                print(json.dumps(record), file=log, flush=True)
                if self.step % self.config.checkpoint_steps == 0 or self.step == self.config.steps:
                    self.save_checkpoint()
        self.save_model(self._folder / "model")

    def _trim_log(self) -> None:
        """Takes away what a killed run logged after its last checkpoint: those steps come again."""
        path = self._folder / "log.jsonl"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            by_step = {json.loads(line)["step"]: line for line in lines if line.endswith("\n")}
            kept = [line for step, line in sorted(by_step.items()) if step <= self.step]
            temporary = path.with_suffix(".tmp")
            temporary.write_text("".join(kept), encoding="utf-8")
            temporary.replace(path)

    def _train_step(self) -> float:
        total = 0.0
        self.model.train()
        for micro in range(self.config.accumulate):
            rows_BT = self._batches.batch(self.step, micro).to(self.model.device)
            loss = self._loss(rows_BT) / self.config.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        factor = lr_factor(self.step, self.config)
        bases = (self.config.matrix_lr, self.config.other_lr)
        for optimiser, base in zip(self._optimisers, bases, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = base * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=False)
        self.step += 1
        return total

    def _loss(self, rows_BT: Tensor) -> Tensor:
        in_decay = self.step >= self.config.steps - self.config.decay_steps
        if in_decay or not self.config.sampled_classes:
            return next_token_loss(self.model, rows_BT)
        generator = torch.Generator().manual_seed(self.step)
        return sampled_next_token_loss(self.model, rows_BT, self.config.sampled_classes, generator)

    def save_model(self, folder: Path) -> None:
        """Writes model (bf16, files of at most 12 MB) and tokenizer in Hugging Face format."""
        copy = build_model(self.config, self.tokenizer)
        copy.load_state_dict(self.model.state_dict())
        copy.bfloat16().save_pretrained(folder, max_shard_size="12MB")
        self.tokenizer.save_pretrained(folder)


def next_token_loss(model: torch.nn.Module, rows_BT: Tensor) -> Tensor:
    """Mean cross-entropy in nats of each token given those before it; rows are ``(B, T + 1)``."""
    logits_BTV = model(input_ids=rows_BT[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), rows_BT[:, 1:].flatten())


def sampled_next_token_loss(
    model: LlamaForCausalLM, rows_BT: Tensor, negatives: int, generator: torch.Generator
) -> Tensor:
    """Like `next_token_loss`, over the batch's own targets and a sample of all other tokens.

    The sampled tokens stand for all that were not, by log((V - targets) / sampled) on their logits,
    so the partition function is estimated without bias. Source: after Jean et al. 2015.
    """
    hidden_BTD = model.model(input_ids=rows_BT[:, :-1], use_cache=False).last_hidden_state
    weight_VD = model.lm_head.weight
    targets, inverse = torch.unique(rows_BT[:, 1:], return_inverse=True)
    is_target_V = torch.zeros(len(weight_VD), dtype=torch.bool, device=weight_VD.device)
    is_target_V[targets] = True
    others = torch.nonzero(~is_target_V).flatten()
    drawn = torch.randperm(len(others), generator=generator)[:negatives].to(others.device)
    logits_BTC = hidden_BTD @ weight_VD[torch.cat((targets, others[drawn]))].T
    shift_C = torch.zeros(logits_BTC.shape[-1], device=weight_VD.device)
    if len(drawn):
        shift_C[len(targets) :] = math.log(len(others) / len(drawn))
    return torch.nn.functional.cross_entropy((logits_BTC + shift_C).flatten(0, 1), inverse.flatten())


@torch.no_grad()
def bits_per_byte(model: LlamaForCausalLM, codec: PromptCodec, lines: Sequence[str]) -> float:
    """Bits per UTF-8 byte of held-out sentences, each on its own after the end token."""
    nats = 0.0
    size = 0
    for line in lines:
        ids = [codec.end_id, *codec.text(line).ids, codec.end_id]
        row = torch.tensor([ids], device=model.device)
        nats += float(next_token_loss(model, row)) * (len(ids) - 1)
        size += len(line.encode())
    return nats / math.log(2) / size
