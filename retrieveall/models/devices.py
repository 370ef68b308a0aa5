"""Where a base computes unless somebody says so."""

from __future__ import annotations

import torch


def device_at_hand() -> str:
    """Returns ``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"
