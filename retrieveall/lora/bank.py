"""The adapters that an engine holds in memory, by digest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from retrieveall.lora.weights import LoraWeights


class AdapterBank:
    """Loads adapters when a batch needs them and forgets those used longest ago. Not thread-safe.

    Args:
        resolve: From a digest to the folder with the adapter's files.
        load: From the folder to the weights.
        capacity: Most adapters held, at least one.
    """

    def __init__(
        self, resolve: Callable[[str], Path], load: Callable[[Path], LoraWeights], capacity: int
    ) -> None:
        self._resolve, self._load, self._capacity = resolve, load, capacity
        self._held: OrderedDict[str, LoraWeights] = OrderedDict()

    @property
    def digests(self) -> tuple[str, ...]:
        """What is held, used longest ago first."""
        return tuple(self._held)

    def hold(self, digests: Iterable[str]) -> dict[str, LoraWeights | Exception]:
        """Returns the adapters of one batch; those of the batch are never dropped for one another.

        Args:
            digests: At most ``capacity`` different ones.

        Returns:
            Per digest the weights, or why they cannot be had.
        """
        wanted = list(dict.fromkeys(digests))
        for digest in wanted:
            if digest in self._held:
                self._held.move_to_end(digest)
        return {digest: self._get(digest) for digest in wanted}

    def _get(self, digest: str) -> LoraWeights | Exception:
        if digest in self._held:
            self._held.move_to_end(digest)
            return self._held[digest]
        try:
            weights = self._load(self._resolve(digest))
        except Exception as error:  # it fails the rows of this adapter, whatever it is, and no others
            return error
        while len(self._held) >= self._capacity:
            self._held.popitem(last=False)
        self._held[digest] = weights
        return weights
