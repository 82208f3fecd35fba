"""From an arm's records to numbers: upstream's, and those that it lacks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import expm1, log1p, nan, sqrt
from statistics import mean, median, stdev

import numpy as np

from e2e.records import RunState, Started, Trial
from e2e.report.verdict import ArmVerdict, judge
from e2e.workload.options import ArmName
from e2e.workload.trials import STAGGERED
from profiles.errors import ExitStatus
from profiles.run_files.record import Record


class Speed(Record):
    """What an arm's trials took; the first six as upstream counts them.

    Attributes:
        init_time: seconds until the engine was up.
        avg_time: mean seconds a trial.
        min_time: the fastest.
        max_time: the slowest.
        throughput: tokens generated a second of ``generate``.
        prompts_per_sec: sequences a second.
        total_tokens: tokens generated.
        total_prompts: sequences.
        trial_times: seconds of every trial.
        median_time: seconds.
        p10_time: seconds.
        p90_time: seconds.
        first_token_ms: median over the trials' medians; None where the engine kept no metrics.
        output_token_ms: likewise.
        output_token_range_ms: the fastest and the slowest trial's.
        gpu_time: median seconds in which the GPU computed; None where that was not recorded of every trial.
    """

    init_time: float
    avg_time: float
    min_time: float
    max_time: float
    total_tokens: int
    total_prompts: int
    throughput: float
    prompts_per_sec: float
    trial_times: tuple[float, ...]
    median_time: float
    p10_time: float
    p90_time: float
    first_token_ms: float | None = None
    output_token_ms: float | None = None
    output_token_range_ms: tuple[float, float] | None = None
    gpu_time: float | None = None


def speed(started: Started, trials: Sequence[Trial]) -> Speed | None:
    """Numbers over an arm's trials that are timed; None without any."""
    trials = _timed(trials)
    if not trials:
        return None
    times = [trial.seconds for trial in trials]
    tokens, prompts = sum(trial.tokens for trial in trials), sum(trial.batch_size for trial in trials)
    p10, p90 = np.percentile(times, [10, 90])
    gpu = [trial.gpu_s for trial in trials if trial.gpu_s is not None]
    kept = [trial.speeds for trial in trials if trial.speeds is not None]
    return Speed(
        init_time=started.init_s,
        avg_time=mean(times),
        min_time=min(times),
        max_time=max(times),
        total_tokens=tokens,
        total_prompts=prompts,
        throughput=tokens / sum(times),
        prompts_per_sec=prompts / sum(times),
        trial_times=tuple(times),
        median_time=median(times),
        p10_time=float(p10),
        p90_time=float(p90),
        first_token_ms=median(s.first_token_ms for s in kept) if kept else None,
        output_token_ms=median(s.output_token_ms for s in kept) if kept else None,
        output_token_range_ms=_range([s.output_token_ms for s in kept]) if kept else None,
        gpu_time=median(gpu) if len(gpu) == len(trials) else None,
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def beside_baseline(ledger: RunState, arm: ArmName) -> tuple[Speed, Speed] | None:
    """The baseline's numbers and an arm's over the trials that both have run; None without any."""
    base, other = ledger.trials.get("baseline", []), ledger.trials.get(arm, [])
    both = {trial.trial for trial in base} & {trial.trial for trial in other}
    if "baseline" not in ledger.started or arm not in ledger.started:
        return None
    usual = speed(ledger.started["baseline"], [trial for trial in base if trial.trial in both])
    own = speed(ledger.started[arm], [trial for trial in other if trial.trial in both])
    return None if usual is None or own is None else (usual, own)


def speeds(ledger: RunState) -> dict[ArmName, Speed]:
    """Every arm's numbers that has any."""
    found = ((arm, speed(started, ledger.trials.get(arm, []))) for arm, started in ledger.started.items())
    return {arm: numbers for arm, numbers in found if numbers is not None}


def verdicts(ledger: RunState, asked: Callable[[ArmName], Collection[int] | None]) -> dict[ArmName, ArmVerdict]:
    """Every arm's verdict whose needles answered alone.

    Args:
        ledger: what is known of the run.
        asked: which trials were to be run, see `e2e.records.Manifest.asked`.
    """

    def judged(arm: ArmName, baseline: ArmVerdict | None) -> ArmVerdict:
        return judge(ledger.alone[arm], ledger.trials.get(arm, []), baseline, asked(arm))

    baseline = judged("baseline", None) if "baseline" in ledger.alone else None
    return {arm: baseline if arm == "baseline" and baseline else judged(arm, baseline) for arm in ledger.alone}


def wall(trial: Trial) -> float | None:
    """Seconds that were waited for a trial."""
    return trial.seconds


def on_gpu(trial: Trial) -> float | None:
    """Seconds in which the GPU computed; None where that was not recorded."""
    return trial.gpu_s


def paired_overheads(
    base: Sequence[Trial], other: Sequence[Trial], took: Callable[[Trial], float | None] = wall
) -> tuple[float, ...]:
    """How much more time each timed trial took than the baseline's, in per cent of it, the least first.

    Trials of one number have the same sequences in every arm, so what these spread by is less the sequences' doing than
    the machine's, whose speed drifts while the arms run minutes apart.
    """
    usual, own = ({trial.trial: took(trial) for trial in _timed(trials)} for trials in (base, other))
    both = ((usual[number], mine) for number, mine in own.items() if number in usual)
    return tuple(sorted(overhead(a, b) for a, b in both if a is not None and b is not None))


STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t: so many standard errors on either side of a mean hold it with 95 %, by degrees of freedom from 1 on
(NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.2); of more, the last one's are enough."""


class Price(Record):
    """How much more time trials take than the baseline's, in per cent of it.

    Attributes:
        share: the geometric mean over the trials that both have run.
        low: the lower end of its 95 % interval over trials; None of a single trial.
        high: the upper end.
    """

    share: float
    low: float | None
    high: float | None

    @property
    def known(self) -> bool:
        """Whether the interval says that there is a price, or a gain."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def price(base: Sequence[Trial], other: Sequence[Trial], took: Callable[[Trial], float | None] = wall) -> Price | None:
    """What an arm costs, over the timed trials of the same sequences; None without any.

    The interval takes the logarithms of the trials' ratios to scatter normally.
    """
    ratios = [log1p(percent / 100) for percent in paired_overheads(base, other, took) if percent > -100]
    if not ratios:
        return None
    middle = mean(ratios)
    if len(ratios) == 1:
        return Price(share=_percent(middle), low=None, high=None)
    reach = STUDENT[min(len(ratios) - 2, len(STUDENT) - 1)] * stdev(ratios) / sqrt(len(ratios))
    return Price(share=_percent(middle), low=_percent(middle - reach), high=_percent(middle + reach))


def _percent(logarithm: float) -> float:
    return 100 * expm1(min(logarithm, 100.0))


def _timed(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.trial != STAGGERED]


def overhead(base: float, other: float) -> float:
    """How much more ``other`` is, in per cent of ``base``; NaN of nothing."""
    return 100 * (other / base - 1) if base else nan


def exit_status(arms: Sequence[ArmName], ledger: RunState, found: dict[ArmName, ArmVerdict]) -> int:
    """1: an arm that claims to keep the needles' bits did not; 3: something is lost, or undecided; else 0.

    The baseline claims nothing: that it diverges is what is expected, and that it does not leaves the others undecided.
    """
    claiming = [found[arm] for arm in arms if arm in found and arm != "baseline"]
    if any(verdict.verdict == "variant" for verdict in claiming):
        return ExitStatus.VERDICT
    complete = all(arm in found and not found[arm].missing for arm in arms) and not ledger.lost
    decided = complete and not any(verdict.verdict == "inconclusive" for verdict in claiming)
    return ExitStatus.GOOD if decided else ExitStatus.INCOMPLETE
