"""What a run found out, of each arm and altogether: what its screen and its page tell, and ``--json`` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from e2e.records import ArmLost, Manifest, RunState
from e2e.report.speeds import Price, Speed, exit_status, on_gpu, price, speeds, verdicts
from e2e.report.verdict import ArmVerdict
from e2e.workload.arms import CLAIMING
from e2e.workload.options import ArmName
from kernels_bench.report.sentences import and_
from profiles.run_files.record import Record

State = Literal["invariant", "variant", "inconclusive", "failed", "unsupported"]
_CLAUSES: Mapping[State, str] = {
    "variant": "changed the needles' bits with the batch",
    "invariant": "kept the needles' bits in every batch",
    "inconclusive": "could not be judged",
    "failed": "did not run",
    "unsupported": "cannot run here",
}


class ArmSummary(Record):
    """What is known of one arm.

    Attributes:
        arm: its name.
        claims: whether its needles must keep their bits; the baseline claims nothing.
        state: its verdict, or why it has none.
        reason: of one that is no verdict, or ``inconclusive``.
        needles: what its needles say; None where they did not answer alone.
        speed: what its trials took, by upstream's names; None without any.
        price: how much more time they took than the baseline's; None of the baseline, or where nothing can be compared.
        gpu_price: likewise of the time in which the GPU computed; None where that was not recorded.
        lost: why it could not go on; None where it could.
    """

    arm: ArmName
    claims: bool
    state: State
    reason: str
    needles: ArmVerdict | None
    speed: Speed | None
    price: Price | None
    gpu_price: Price | None
    lost: str | None


class EngineSummary(Record):
    """What a run of engines found out.

    Attributes:
        outcome: its answer in one sentence.
        exit_status: what the run ends with.
        directory: where it is.
        model: that was run.
        device: its name.
        arms: in the order in which they were asked for.
    """

    outcome: str
    exit_status: int
    directory: str
    model: str
    device: str
    arms: tuple[ArmSummary, ...]


def summarise(manifest: Manifest, ledger: RunState, directory: str) -> EngineSummary:
    """What a run found out.

    Args:
        manifest: what was run, and where.
        ledger: what is known of it.
        directory: of the run.
    """
    found, times = verdicts(ledger, manifest.asked), speeds(ledger)
    arms = tuple(_arm(arm, ledger, found.get(arm), times.get(arm)) for arm in manifest.arms)
    status = exit_status(manifest.arms, ledger, found)
    return EngineSummary(
        outcome=f"{_answer(arms)} (exit status {status}).",
        exit_status=status,
        directory=directory,
        model=manifest.options.model,
        device=manifest.device.name,
        arms=arms,
    )


def _arm(arm: ArmName, ledger: RunState, verdict: ArmVerdict | None, speed: Speed | None) -> ArmSummary:
    lost = ledger.lost.get(arm)
    state, reason = _state(verdict, lost)
    usual, own = ledger.trials.get("baseline", []), ledger.trials.get(arm, [])
    return ArmSummary(
        arm=arm,
        claims=arm in CLAIMING,
        state=state,
        reason=reason,
        needles=verdict,
        speed=speed,
        price=price(usual, own) if arm != "baseline" else None,
        gpu_price=price(usual, own, on_gpu) if arm != "baseline" else None,
        lost=None if lost is None else f"{lost.status}: {lost.reason}",
    )


def _state(verdict: ArmVerdict | None, lost: ArmLost | None) -> tuple[State, str]:
    if verdict is not None:
        return verdict.verdict, verdict.reason
    return (lost.status, lost.reason) if lost is not None else ("failed", "it was not reached")


def _answer(arms: Sequence[ArmSummary]) -> str:
    """What became of the needles' bits, in a sentence without its full stop."""
    told = []
    for state, words in _CLAUSES.items():
        if names := [arm.arm for arm in arms if arm.state == state]:
            told.append(f"{and_(names)} {words}")
    return "; ".join(told)
