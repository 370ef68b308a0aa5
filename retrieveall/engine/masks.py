"""Attention masks of rows that stand at different positions, for every kind of layer a model has.

Axes: N rows, L tokens of a step, C columns of the cache (column c holds position c).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retrieveall.errors import ConfigError

_FULL, _SLIDING = "full_attention", "sliding_attention"


class AttentionMasks:
    """Builds the masks that a model wants.

    Args:
        config: The base's configuration.
        dtype: The base's data type.

    Raises:
        ConfigError: The model has layers that are neither full nor sliding attention.
    """

    def __init__(self, config: Any, dtype: torch.dtype) -> None:
        text = config.get_text_config()
        kinds = set(getattr(text, "layer_types", None) or ())
        if kinds - {_FULL, _SLIDING}:
            raise ConfigError(
                f"The base {config.model_type!r} has layers of kinds {sorted(kinds)}. The engine runs models"
                f" whose memory is attention, {_FULL} or {_SLIDING}, alone."
            )
        self._window: int | None = getattr(text, "sliding_window", None)
        self._both = len(kinds) == 2
        if kinds == {_FULL}:
            self._window = None
        self._dtype = dtype

    def build(self, positions_NL: Tensor, columns: int) -> Tensor | dict[str, Tensor]:
        """Returns what to add to attention scores, (N, 1, L, C): a token sees itself and what came before.

        Args:
            positions_NL: Position of each token; padding stands at 0, so that it sees something.
            columns: C.
        """
        at = positions_NL[:, None, :, None]
        column = torch.arange(columns, device=positions_NL.device)
        seen = column <= at
        if self._window is None:
            return self._added(seen)
        sliding = self._added(seen & (column > at - self._window))
        return {_FULL: self._added(seen), _SLIDING: sliding} if self._both else sliding

    def _added(self, seen: Tensor) -> Tensor:
        zeros = torch.zeros(seen.shape, dtype=self._dtype, device=seen.device)
        return zeros.masked_fill(~seen, torch.finfo(self._dtype).min)
