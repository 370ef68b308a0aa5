"""Data types that a base computes in, and which one is the default where.

float32 on a CPU: there an answer hardly depends on which rows share its batch, and most machines emulate
bfloat16. Source: own choice.
"""

from __future__ import annotations

from typing import Final

import torch

from retrieveall.errors import ConfigError

DTYPES: Final = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def check_dtype(name: str) -> None:
    """Refuses a data type that no base computes in.

    Raises:
        ConfigError: The name is none of `DTYPES`.
    """
    if name not in DTYPES:
        raise ConfigError(f"dtype {name!r} was given; use one of {', '.join(DTYPES)}.")


def default_dtype(device: str) -> str:
    """Returns the data type of a base on a device, both spelled as torch does."""
    return "bfloat16" if device.startswith("cuda") else "float32"
