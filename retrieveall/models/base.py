"""Opening a base model by name: ``tiny``, a folder, or a Hugging Face model id.

The base is any causal language model with a fast tokenizer and an end token; no chat template is
used. Everything that opens a base goes through here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from retrieveall.errors import NotFoundError
from retrieveall.prompting.codec import PromptCodec

TINY = "tiny"
_TINY_FOLDER = Path(__file__).parent / "tiny"
_NEEDED = ("*.json", "*.safetensors", "*.model", "*.txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseModel:
    """A base opened for use.

    Attributes:
        folder: Where its files stand.
        model: The causal language model, in evaluation mode, frozen.
        codec: Encodes prompts with its tokenizer.
        pad_id: Token id for padding.
    """

    folder: Path
    model: Any
    tokenizer: Any
    codec: PromptCodec
    pad_id: int


def base_folder(name: str) -> Path:
    """Returns the local folder of a base, downloading a Hugging Face model where needed.

    Args:
        name: ``tiny``, a folder with ``config.json``, or a model id such as ``Qwen/Qwen3-1.7B``.

    Raises:
        NotFoundError: There is no such folder, and the hub cannot deliver the id.
    """
    if name == TINY:
        return _TINY_FOLDER
    folder = Path(name).expanduser()
    if (folder / "config.json").exists():
        return folder.resolve()
    return _downloaded(name)


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_NEEDED)))
    except (OSError, HFValidationError) as error:
        raise NotFoundError(
            f"Base model {name!r} is neither `tiny` nor a folder with config.json, and the Hugging Face hub"
            f" did not deliver it ({type(error).__name__}). Name a folder, or check id and network."
        ) from error


def open_tokenizer(name: str) -> Any:
    """Opens a base's tokenizer alone."""
    return AutoTokenizer.from_pretrained(base_folder(name))


def open_base(name: str, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> BaseModel:
    """Opens a base, frozen.

    Args:
        name: See `base_folder`.
        dtype: Of its weights; float32 on a CPU, bfloat16 on a GPU.
        device: Where it runs.

    Raises:
        NotFoundError: There is no such base.
        ConfigError: Its tokenizer has no end token.
    """
    folder = base_folder(name)
    tokenizer = open_tokenizer(name)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    model.requires_grad_(False)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return BaseModel(
        folder=folder,
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        codec=PromptCodec(tokenizer),
        pad_id=pad_id,
    )
