"""Which adapters train in one run, what it may use, and how many runs fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retrieveall.errors import ConfigError
from tests.runs import SPEC

packing = pytest.importorskip("train_jobs.packs")


def test_resources_are_asked_of_ray_per_worker() -> None:
    cpu = packing.Resources(workers_per_language=2, cpus_per_worker=3)
    gpu = packing.Resources(gpus_per_worker=0.5)

    assert (cpu.device.name, cpu.device.threads) == ("cpu", 3)
    assert (cpu.scaling.num_workers, cpu.scaling.use_gpu) == (2, False)
    assert cpu.scaling.resources_per_worker == {"CPU": 3}
    assert gpu.device.name == "cuda"
    assert gpu.scaling.use_gpu is True
    assert gpu.scaling.resources_per_worker == {"CPU": 1, "GPU": 0.5}


def test_a_pack_has_one_worker() -> None:
    with pytest.raises(ConfigError, match="Leave out --packed or --workers-per-language"):
        packing.Resources(pack_size=8, workers_per_language=2)
    with pytest.raises(ConfigError, match="at least 1"):
        packing.Resources(pack_size=0)


def test_runs_are_packed_in_order_and_one_alone_keeps_its_name() -> None:
    specs = [replace(SPEC, language=language) for language in ("aa", "bb", "cc", "dd", "ee")]
    packs = packing.packs(specs, 2)
    assert [[spec.language for spec in pack] for pack in packs] == [["aa", "bb"], ["cc", "dd"], ["ee"]]
    names = [packing.pack_name(pack) for pack in packs]
    assert names[2] == specs[4].run_name
    assert len(set(names)) == 3 and all(name.startswith("pack-") for name in names[:2])
    assert names == [packing.pack_name(pack) for pack in packing.packs(specs, 2)]


@pytest.mark.parametrize(
    ("runs", "size", "room", "sizes"),
    [
        (3, 8, 2, [2, 1]),
        (8, 8, 4, [2, 2, 2, 2]),
        (6, 3, 2, [3, 3]),
        (9, 4, 2, [3, 3, 3]),
        (1, 8, 4, [1]),
        (0, 8, 2, []),
    ],
)
def test_packs_leave_no_room_idle(runs: int, size: int, room: int, sizes: list[int]) -> None:
    specs = [replace(SPEC, language=f"a{number}") for number in range(runs)]
    packs = packing.packs(specs, size, room)
    assert [len(pack) for pack in packs] == sizes
    assert [spec for pack in packs for spec in pack] == specs


def test_runs_that_compute_in_other_data_types_share_no_pack() -> None:
    rounded = replace(SPEC.config, dtype="bfloat16")
    specs = [replace(SPEC, language=code) for code in ("aa", "bb", "cc")]
    specs[1] = replace(specs[1], config=rounded)
    packs = packing.packs(specs, 8)
    assert [[spec.language for spec in pack] for pack in packs] == [["aa", "cc"], ["bb"]]
