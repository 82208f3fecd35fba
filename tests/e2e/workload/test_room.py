"""Whether engines may be up together: it is said so only where all that they take is known, and there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.records import Manifest
from e2e.workload.options import ARMS, ArmName, Options
from e2e.workload.room import GIB, Free, free_memory, host_memory, why_apart
from kernels_bench.records.cases import Device
from support.e2e_answers import manifest
from support.fake_nvml import FakeCard

CPU = Device(type="cpu", name="a CPU")
GPU = Device(type="cuda", name="NVIDIA H100", capability=(9, 0), uuid="u")
BOTH: tuple[ArmName, ...] = ("baseline", "serial")
PLENTY = Free(1 << 40, 79 * GIB, 80 * GIB)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A checkpoint of one GiB that takes no room on the disk."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(GIB)
    return str(folder)


def apart(model: str, free: Free, device: Device = CPU, arms: tuple[ArmName, ...] = BOTH, **changes: Any) -> str:
    return why_apart(Options(**changes), arms, device, model, free)


@pytest.mark.parametrize(("gib", "together"), [(16, True), (14, False), (1 << 20, True), (0, False)])
def test_on_a_cpu_weights_cache_and_libraries_of_all_engines_have_to_fit(
    model: str, monkeypatch: pytest.MonkeyPatch, gib: int, together: bool
) -> None:
    """Of each engine twice a GiB of weights, 2 of cache, 2 beside them; in all 12, in four fifths of what is free."""
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    found = apart(model, Free(gib * GIB))
    assert found == ("" if together else f"2 engines may take 12.0 GiB of memory, and {gib}.0 GiB are free")


def test_what_takes_more_room_needs_more(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = Free(16 * GIB)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "2")
    assert not apart(model, free)
    assert "2 engines may take 16.0 GiB" in apart(model, free, mode="online")
    assert not apart(model, free, arms=("baseline", "batch-invariant", "serial"))  # of which a CPU has two
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "4")
    assert "2 engines may take 16.0 GiB" in apart(model, free)


def test_what_is_not_known_is_no_room(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    assert apart(model, Free(None)) == "how much memory is free is not known"
    assert "the size of Qwen/Qwen3-1.7B's weights is not" in apart("Qwen/Qwen3-1.7B", PLENTY)
    for told in ("0", "all", "-1"):
        monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", told)
        assert "not known" in apart(model, PLENTY)


@pytest.mark.parametrize(
    ("free", "changes", "said"),
    [
        (PLENTY, {}, ""),
        (PLENTY, {"gpu_memory_utilization": 0.5}, "2 engines at --gpu-memory-utilization 0.5 do not fit"),
        (PLENTY, {"tp_size": 2}, "whether every one of several GPUs has room"),
        (PLENTY._replace(gpu=65 * GIB), {}, "2 engines take 66.0 GiB of the GPU's memory, and 65.0 GiB are free"),
        (PLENTY._replace(gpu=66 * GIB), {}, ""),
        (PLENTY._replace(gpu=None), {}, "how much of the GPU's memory is free is not known"),
        (PLENTY._replace(host=GIB), {}, "2 engines may take 12.0 GiB of memory, and 1.0 GiB are free"),
    ],
)
def test_on_a_gpu_shares_contexts_and_main_memory_have_to_fit(free: Free, changes: dict[str, Any], said: str) -> None:
    found = apart("Qwen/Qwen3-1.7B", free, GPU, ("baseline", "batch-invariant"), **changes)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_three_engines_at_the_usual_share_are_too_many_for_a_gpu_and_it_says_which_share_is_not() -> None:
    found = apart("any", PLENTY, GPU, ARMS[:3])
    assert found == "3 engines at --gpu-memory-utilization 0.4 do not fit together; at 0.3 they do"
    assert not apart("any", PLENTY, GPU, ARMS[:3], gpu_memory_utilization=0.3)


def kernel(place: Path, available: int, groups: dict[str, tuple[str, int, int]], own: str) -> tuple[Path, Path]:
    """What a kernel tells: bytes available, each group's limit, use and cache, and whose group this process is in."""
    proc, top = place / "proc", place / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:  {available >> 10} kB\n")
    (proc / "self" / "cgroup").write_text(f"0::{own}\n")
    for name, (most, used, cached) in groups.items():
        folder = top / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon {used - cached}\ninactive_file {cached}\n")
    return proc, top


@given(
    st.integers(0, 1 << 40).map(lambda n: n >> 10 << 10),
    st.lists(st.tuples(st.none() | st.integers(0, 1 << 40), st.integers(0, 1 << 40)), min_size=1, max_size=3),
)
def test_the_narrowest_control_group_decides(
    tmp_path_factory: pytest.TempPathFactory, available: int, limits: list[tuple[int | None, int]]
) -> None:
    names = ["/".join("abc"[: depth + 1]) for depth in range(len(limits))]
    groups = {
        name: ("max" if most is None else str(most), used, used // 2)
        for name, (most, used) in zip(names, limits, strict=True)
    }
    proc, top = kernel(tmp_path_factory.mktemp("kernel"), available, groups, f"/{names[-1]}")
    left = [max(0, most - used + used // 2) for most, used in limits if most is not None]
    assert host_memory(proc, top) == min([available, *left])


def test_older_control_groups_have_other_names_and_a_kernel_that_says_nothing_is_not_known(tmp_path: Path) -> None:
    proc, top = kernel(tmp_path, 8 * GIB, {}, "/")
    (proc / "self" / "cgroup").write_text("7:cpu:/x\n4:hugetlb,memory:/mine\n")
    mine = top / "memory" / "mine"
    mine.mkdir(parents=True)
    assert host_memory(proc, top) == 8 * GIB
    for name, told in {"limit_in_bytes": 4 * GIB, "usage_in_bytes": GIB, "stat": f"total_inactive_file {GIB}"}.items():
        (mine / f"memory.{name}").write_text(f"{told}\n")
    assert host_memory(proc, top) == 4 * GIB
    (proc / "meminfo").write_text("nothing\n")
    assert host_memory(proc, top) is None
    assert host_memory(tmp_path / "nowhere", top) is None


def test_this_machine_says_how_much_is_free_and_a_card_how_much_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = free_memory(CPU)
    assert here.host is not None
    assert 1 << 28 < here.host < 1 << 50
    assert here.gpu is None
    card = FakeCard(monkeypatch)
    assert free_memory(GPU)[1:] == (80_000_000_000, 85_520_809_984)
    assert card.opened == 0
    card.refuse("nvmlDeviceGetMemoryInfo", 3)  # not supported
    assert free_memory(GPU)[1:] == (None, None)


@pytest.mark.parametrize(
    ("arms", "interleave", "why", "told"),
    [
        (("baseline",), False, None, ""),
        (("baseline", "serial"), True, None, "arms took turns, trial by trial"),
        (("baseline", "serial"), False, None, "speeds were measured one arm after the other"),
        (("baseline", "serial"), False, "no room", "speeds were measured one arm after the other (no room)"),
    ],
)
def test_a_run_says_whether_its_arms_took_turns(
    arms: tuple[str, ...], interleave: bool, why: str | None, told: str
) -> None:
    asked = manifest(*arms)
    options = asked.options.model_copy(update={"interleave": interleave})
    changed = asked.model_copy(update={"options": options, "apart": why})
    assert Manifest.model_validate_json(changed.model_dump_json()).turns == told
