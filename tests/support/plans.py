"""Plans that nobody measured, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence

from kernels_bench.plan.record import BitClass, CasePlan, LeftOut, Plan, Stretch
from kernels_bench.records.cases import Device, Precision, Shape
from kernels_bench.records.selection import Selection
from profiles.instruments.environment import read_environment

H100 = Device(type="cuda", name="NVIDIA H100 80GB HBM3", capability=(9, 0))
CPU = Device(type="cpu", name="a CPU")
SIZES = (1, 16, 64)
DIGESTS = {m: f"d{m}" for m in SIZES}


def case(
    *ranges: tuple[int, str],
    also: Sequence[str] = (),
    n: int | None = 4096,
    k: int = 4096,
    dtype: str = "bf16",
    operator: str = "linear",
) -> CasePlan:
    """One case's plan: the kernel from each M on, and others of their class; without ranges there is no class."""
    found = CasePlan(
        operator=operator,
        shape=Shape(label="test", n=n, k=k),
        precision=Precision.parse(dtype),
        default_arm="torch",
        default_keeps=False,
    )
    if not ranges:
        return found.model_copy(update={"left_out": (LeftOut(arm="torch", reason="its bits changed"),)})
    arms = tuple(dict.fromkeys([*(name for _, name in ranges), *also]))
    ends = [*(first - 1 for first, _ in ranges[1:]), None]
    return found.model_copy(
        update={
            "chosen": BitClass(
                arms=arms, basis="proven", order="one", sizes=SIZES, digests={m: f"d{m}" for m in SIZES}
            ),
            "stretches": tuple(
                Stretch(first=first, last=last, arm=name) for (first, name), last in zip(ranges, ends, strict=True)
            ),
            "steady": arms[0],
        }
    )


def plan(*cases: CasePlan, device: Device = H100) -> Plan:
    """A plan of this machine's versions."""
    return Plan(
        created="2026-01-01T00:00:00Z",
        run="run",
        selection=Selection(),
        device=device,
        environment=read_environment(),
        plugins={},
        weighting="even",
        weights=dict.fromkeys(SIZES, 1 / 3),
        universe=64,
        cases=cases,
    )
