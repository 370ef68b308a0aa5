"""How much memory an engine may take: found out once, when it starts, and split into shares.

The budget covers what grows with the work: keys and values of the rows under way, adapters, and the
adapters' stacked copies. The base's weights lie outside, because they are there before; so do the
intermediate results of a pass, which are the reason to leave a part of the memory to nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from retrieveall.errors import ConfigError

_ADAPTER_SHARE = 0.2  # and as much again for their stacks; own choice


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryBudget:
    """Bytes that an engine may take beside its base.

    Attributes:
        total_bytes: All of them.
        adapter_bytes: For adapters and for what is fused of them.
    """

    total_bytes: int
    adapter_bytes: int

    @property
    def stack_bytes(self) -> int:
        """For the stacked copies of adapters that act together."""
        return self.adapter_bytes

    @property
    def kv_bytes(self) -> int:
        """For keys and values of the rows under way."""
        return self.total_bytes - self.adapter_bytes - self.stack_bytes


def memory_budget(
    device: torch.device, *, share: float, total_bytes: int | None, adapter_bytes: int | None
) -> MemoryBudget:
    """Splits what an engine may take.

    Args:
        device: Where it runs; its base is loaded already.
        share: Part of the memory that is available now.
        total_bytes: So many bytes instead.
        adapter_bytes: For adapters; None for a fifth.

    Raises:
        ConfigError: Adapters and their stacks would leave nothing for keys and values.
    """
    total_bytes = total_bytes or round(share * available_bytes(device))
    budget = MemoryBudget(
        total_bytes=total_bytes, adapter_bytes=adapter_bytes or round(_ADAPTER_SHARE * total_bytes)
    )
    if budget.kv_bytes <= 0:
        raise ConfigError(
            f"adapter_bytes is {budget.adapter_bytes:,} of a budget of {total_bytes:,} bytes; adapters and"
            " their stacks take twice that, and nothing is left for keys and values. Lower it, or raise"
            " memory_bytes."
        )
    return budget


def available_bytes(device: torch.device) -> int:
    """Returns the bytes that this process may still take: of the GPU, or of machine and cgroup."""
    if device.type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(device)
        return int(free_bytes)
    return min(_machine_bytes(Path("/proc/meminfo")), *cgroup_bytes())


def cgroup_bytes(
    proc: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """Yields the bytes that each limited cgroup of this process has left, in version 1 and 2.

    File pages that the kernel would drop first count as free.

    Args:
        proc: Lists the process's groups.
        mount: Where the groups' files are.
    """
    for line in _read(proc).splitlines():
        _, controllers, name = line.split(":", 2)
        if not controllers:
            yield from _left(mount, name, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = mount / "memory"
            yield from _left(
                root, name, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            )


def _left(mount: Path, name: str, limit: str, usage: str, droppable: str) -> Iterator[int]:
    """A group's own limit and those of all groups above it; in a container only the last may be seen."""
    folder = mount / name.lstrip("/")
    while folder.is_relative_to(mount):
        limit_text = _read(folder / limit).strip()
        if limit_text.isdigit():
            stat = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
            used_bytes = int(_read(folder / usage) or 0) - int(stat.get(droppable, 0))
            yield max(0, int(limit_text) - used_bytes)
        folder = folder.parent


def _machine_bytes(meminfo: Path) -> int:
    for line in _read(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # no Linux


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
