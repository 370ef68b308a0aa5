"""Tiny random-weight bases of four architectures, a tokenizer trained on the spot, random adapters.

Everything is seeded, so two calls with the same arguments give the same weights. Nothing is downloaded.

    tokenizer = tiny_tokenizer()
    model = tiny_model("llama", dtype=torch.float64)
    base_dir = save_tiny_base(tmp_path / "base", "qwen3")
    save_tiny_adapter(tmp_path / "pool" / "nl", tiny_model("qwen3"), rank=8, seed=1)
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any, Literal

import peft
import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from retrieveall.prompting.codec import MARKERS, label_marker

Architecture = Literal["llama", "qwen3", "gemma3", "mistral"]

ARCHITECTURES: tuple[Architecture, ...] = ("llama", "qwen3", "gemma3", "mistral")
LABELS = ("PER", "LOC", "ORG")
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

SENTENCES = (
    "Angela Merkel visited Paris and met Emmanuel Macron in the Élysée Palace.",
    "The United Nations was founded in San Francisco in 1945.",
    "Paris, Paris, Paris: Paris Hilton flew from Paris (Texas) to Paris.",
    "Gabriel García Márquez nació en Aracataca, Colombia.",
    "Die Deutsche Bahn fährt von Berlin nach München.",
    "Анна Ахматова жила в Ленинграде и писала о Москве.",
    "Amsterdam is de hoofdstad van Nederland; Den Haag is de regeringszetel.",
    "东京是日本的首都，京都是古都。",
    "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "القاهرة هي عاصمة مصر.",
    "Barack Obama alizaliwa Honolulu, Hawaii.",
    "São Paulo é a maior cidade do Brasil, diz o IBGE.",
)


@functools.cache
def tiny_tokenizer(vocab_size: int = 512) -> Any:
    """Returns a byte-level BPE with end and pad tokens and every marker as one added token.

    Args:
        vocab_size: Upper bound before the added tokens; at least 258.
    """
    core = Tokenizer(BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|end|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(SENTENCES, trainer)
    markers = [*MARKERS, *map(label_marker, LABELS)]
    core.add_tokens([AddedToken(marker, normalized=False) for marker in markers])
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>")


def tiny_config(architecture: Architecture, **overrides: Any) -> PreTrainedConfig:
    """Returns a two-layer configuration with grouped-query attention that fits `tiny_tokenizer`.

    Args:
        architecture: One of `ARCHITECTURES`.
        overrides: Any of the architecture's own fields, such as ``hidden_size=256``.
    """
    tokenizer = tiny_tokenizer()
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 1024,
        "initializer_range": 0.3,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    fields = {**shared, **overrides}
    match architecture:
        case "llama":
            return LlamaConfig(**fields)
        case "qwen3":
            return Qwen3Config(**fields)
        case "mistral":
            return MistralConfig(**fields)
        case "gemma3":
            return Gemma3TextConfig(query_pre_attn_scalar=8, **fields)


def tiny_model(
    architecture: Architecture = "llama",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **overrides: Any,
) -> PreTrainedModel:
    """Returns a random-weight model in evaluation mode; the same arguments give the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        auto: Any = AutoModelForCausalLM
        model = auto.from_config(tiny_config(architecture, **overrides))
    random_model: PreTrainedModel = model.to(dtype).eval()
    return random_model


def exact_model(architecture: Architecture = "llama") -> PreTrainedModel:
    """Returns a tiny model in float64 throughout; transformers' own norms compute in float32 always."""
    model = tiny_model(architecture, dtype=torch.float64)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__.endswith("RMSNorm"):
                setattr(parent, name, _exact_norm(child))
    return model


def _exact_norm(norm: Any) -> torch.nn.RMSNorm:
    eps = norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps
    exact = torch.nn.RMSNorm(norm.weight.shape, eps=eps, dtype=torch.float64)
    # Gemma's weights are kept less one
    weight = 1 + norm.weight if type(norm).__name__.startswith("Gemma") else norm.weight
    exact.weight.data.copy_(weight.detach())
    return exact


def save_tiny_base(
    folder: Path, architecture: Architecture = "llama", *, seed: int = 0, **overrides: Any
) -> Path:
    """Writes model and tokenizer in Hugging Face format and returns the folder."""
    tiny_model(architecture, seed=seed, **overrides).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_tiny_adapter(
    folder: Path,
    base: PreTrainedModel,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    seed: int = 0,
    targets: tuple[str, ...] = LINEARS,
    use_rslora: bool = False,
    std: float = 0.2,
) -> Path:
    """Writes a random LoRA (B is not zero) of ``base`` in PEFT format and returns the folder.

    The base is left as it was.
    """
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # PEFT reads floats, its annotation says int
        target_modules=list(targets),
        use_rslora=use_rslora,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT 0.21 asks transformers for an old property
        wrapped = peft.get_peft_model(base, settings)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            fresh = torch.randn(parameter.shape, generator=generator) * std
            parameter.data.copy_(fresh.to(parameter.dtype))
    wrapped.save_pretrained(str(folder))
    wrapped.unload()
    return folder
