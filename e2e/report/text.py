"""The printed report: upstream's headings and labels, so that scripts that read them keep working, and the needles'."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from math import isnan

from e2e.records import ArmLost, Manifest, RunState
from e2e.report.speeds import Speed, beside_baseline, exit_status, overhead, price, speeds, verdicts
from e2e.report.verdict import ArmVerdict, Divergence, worst_of
from e2e.workload.options import PREFIX, VARIABLES, ArmName, Options
from e2e.workload.trials import trial_in_words, trial_name
from profiles.invocation import called

RULE = "=" * 80
_LABELS: dict[ArmName, str] = {
    "batch-invariant": "Batch Invariant",
    "planned": "Planned",
    "serial": "Serial",
    "server": "Server",
}
_HEADINGS: dict[ArmName, str] = {
    "batch-invariant": "COMPARISON: Batch Invariance vs Baseline",
    "planned": "COMPARISON: A Plan's Kernels vs Baseline",
    "serial": "COMPARISON: One Request at a Time vs Baseline",
    "server": "COMPARISON: The Running Server vs Baseline",
}


def header(manifest: Manifest, note: str) -> Iterator[str]:
    """What is about to be run."""
    options = manifest.options
    yield RULE
    yield "VLLM BATCH INVARIANCE BENCHMARK"
    yield RULE
    yield f"Model: {options.model}" + (f" ({note})" if note else "")
    yield f"Device: {manifest.device.name}"
    yield f"Tensor Parallel Size: {options.tp_size}"
    yield f"Max Batch Size: {options.batch_size}"
    yield f"Number of Trials: {options.num_trials}"
    yield f"Prompt tokens: {options.min_prompt} to {options.max_prompt}; generated: {options.max_tokens}" + (
        " (EOS ignored, so that arms generate as many)" if options.ignore_eos else ""
    )
    yield f"Temperature: {options.temperature:g}; needles: {options.needles}; arms: {', '.join(manifest.arms)}"


def report(manifest: Manifest, ledger: RunState, directory: str) -> Iterator[str]:
    """What was found out."""
    times, found = speeds(ledger), verdicts(ledger, manifest.asked)
    for arm in _LABELS:
        if (both := beside_baseline(ledger, arm)) is not None:
            yield from _comparison(arm, *both, manifest.options)
    yield from ("", RULE, "NEEDLES: the same bits in every batch?", RULE)
    for arm in manifest.arms:
        yield from _needles(arm, manifest, found.get(arm), ledger.lost.get(arm))
    yield from ("", RULE, "SUMMARY", RULE)
    yield from _summary(manifest, ledger, times, found)
    if manifest.turns:
        yield manifest.turns
    yield f"Results: {directory}"


def _comparison(arm: ArmName, base: Speed, other: Speed, options: Options) -> Iterator[str]:
    label = _LABELS[arm]
    yield from ("", RULE, _HEADINGS[arm], RULE)
    times = [
        ("Initialization Time:", "s", base.init_time, other.init_time),
        ("Average Trial Time:", "s", base.avg_time, other.avg_time),
    ]
    # A server that was running has been started by somebody else.
    for title, unit, a, b in times[arm == "server" :]:
        yield title
        yield f"  Baseline:         {a:.2f}{unit}"
        yield f"  {label + ':':<17} {b:.2f}{unit}"
        yield f"  Overhead:         {overhead(a, b):+.2f}%"
    for title, a, b in (
        ("Throughput (tokens/s):", base.throughput, other.throughput),
        ("Prompts/s:", base.prompts_per_sec, other.prompts_per_sec),
    ):
        yield title
        yield f"  Baseline:         {a:.2f}"
        yield f"  {label + ':':<17} {b:.2f}"
        yield f"  Change:           {overhead(a, b):+.2f}%"
    yield "Spread of trials (median, p10 to p90):"
    yield f"  Baseline:         {base.median_time:.2f}s, {base.p10_time:.2f} to {base.p90_time:.2f}s"
    yield f"  {label + ':':<17} {other.median_time:.2f}s, {other.p10_time:.2f} to {other.p90_time:.2f}s"
    if base.gpu_time is not None and other.gpu_time is not None:
        yield "GPU time a trial (median, recorded apart):"
        yield f"  Baseline:         {base.gpu_time:.3f}s"
        yield f"  {label + ':':<17} {other.gpu_time:.3f}s"
        yield f"  Overhead:         {overhead(base.gpu_time, other.gpu_time):+.2f}%"
    if arm != "server" or options.mode == "online":  # else they have been taken by clocks at different places
        yield from _latencies(label, base, other)


def _latencies(label: str, base: Speed, other: Speed) -> Iterator[str]:
    for title, a, b in (
        ("Time to first token (ms):", base.first_token_ms, other.first_token_ms),
        ("Time per output token (ms):", base.output_token_ms, other.output_token_ms),
    ):
        if a and b:
            yield title
            yield f"  Baseline:         {a:.2f}"
            yield f"  {label + ':':<17} {b:.2f}"
            yield f"  Overhead:         {overhead(a, b):+.2f}%"


def _needles(arm: ArmName, manifest: Manifest, verdict: ArmVerdict | None, lost: ArmLost | None) -> Iterator[str]:
    if verdict is None:
        status, reason = (lost.status, lost.reason) if lost is not None else ("failed", "it was not reached")
        yield f"{arm}: {status} ({reason})"
        return
    yield f"{arm}: {verdict.verdict}" + (f" ({verdict.reason})" if verdict.reason else "")
    needles = len(verdict.distinct_tokens)
    runs = verdict.answers // needles + 1
    yield f"  distinct outputs of each needle in {runs} runs: {_numbers(verdict.distinct_tokens)} by token ids, " + (
        f"{_numbers(verdict.distinct_bits)} by bits of log probabilities"
    )
    if any(verdict.distinct_prompts):
        yield f"  by bits of its prompt's log probabilities, alone and staggered: {_numbers(verdict.distinct_prompts)}"
    if verdict.divergences:
        worst = worst_of(verdict.divergences)
        yield f"  {divergence_in_words(worst)}; {len(verdict.divergences)} of {needles} needles differ"
        if verdict.widest is not None and verdict.widest != worst:
            yield f"  most: {divergence_in_words(verdict.widest)}"
        if worst.trial is not None:
            yield f"  again: {repeat_command(manifest.options, arm, worst.trial, os.environ)}"
    if verdict.missing and not verdict.reason:
        yield f"  {verdict.missing} of its trials were not run; go on with --resume"
    if lost is not None:
        yield f"  then {lost.status}: {lost.reason}"


def _numbers(counts: tuple[int, ...]) -> str:
    """Counts by needle; a dash where nothing was counted."""
    return ", ".join(str(count or "–") for count in counts)


def divergence_in_words(found: Divergence) -> str:
    """Which needle differs, where, from which generated token on, and how far."""
    where = "from one run alone to the next" if found.trial is None else f"in {trial_in_words(found.trial)}"
    what = "token ids part" if found.tokens_differ else "token ids agree, log probabilities do not"
    if found.step is None:
        what = "what it generates agrees to the bit"
    how_far = f"differ by at most {found.largest:.3g}" if found.largest else "agree"
    return (
        f"needle {found.needle + 1} differs {where} from {_since(found)} on: {what}; "
        f"log probabilities of the same tokens {'are NaN in one of them' if isnan(found.largest) else how_far}"
    )


def _since(found: Divergence) -> str:
    if found.prompt_token is not None:
        return f"token {found.prompt_token + 1} of its prompt"
    return f"step {found.step + 1}" if found.step else "its prefill"  # which gives the first token


_VALUES = (*(field for field, _ in VARIABLES.values()), "seed", "needles", "mode", "server", "plan")
_FLAGS = {"eager": "--eager", "prefix_caching": "--prefix-caching"}


def repeat_command(options: Options, arm: ArmName, trial: int, environment: Mapping[str, str]) -> str:
    """Runs one trial of one arm again, in this environment too, whose variables would count for what is left out."""
    usual = Options()
    decided = {field for name, (field, _) in VARIABLES.items() if PREFIX + name in environment}
    if arm == "server":
        options = options.model_copy(update={"model": usual.model})  # it has one already
    else:
        options = options.model_copy(update={"server": None, "plan": options.plan if arm == "planned" else None})
    words = [*called("e2e"), "--arms", arm, "--trial", trial_name(trial)]
    for field in _VALUES:
        value = getattr(options, field)
        # How many needles are usual depends on the batch.
        if (value != getattr(usual, field) or field in ("needles", *decided)) and value is not None:
            words += [f"--{field.replace('_', '-')}", str(value)]
    words += [flag for field, flag in _FLAGS.items() if getattr(options, field)]
    if options.chunked_prefill is not None:
        words.append("--chunked-prefill" if options.chunked_prefill else "--no-chunked-prefill")
    return shlex.join(words if options.ignore_eos else [*words, "--stop-at-eos"])


def _summary(
    manifest: Manifest, ledger: RunState, times: Mapping[ArmName, Speed], found: Mapping[ArmName, ArmVerdict]
) -> Iterator[str]:
    for arm in manifest.arms:
        words = [_outcome(arm, ledger, found)]
        if arm in times:
            words.append(f"{times[arm].throughput:.1f} tokens/s")
            if arm != "baseline" and (told := extra_time(ledger, arm)):
                words.append(told)
        yield f"{arm}: {', '.join(words)}"
    yield f"exit status {exit_status(manifest.arms, ledger, dict(found))}"


def extra_time(ledger: RunState, arm: ArmName) -> str:
    """How much more time a trial takes than the baseline's, with its interval; empty where there is nothing to say."""
    found = price(ledger.trials.get("baseline", []), ledger.trials.get(arm, []))
    if found is None:
        return ""
    if found.low is None or found.high is None:
        return f"{found.share:+.1f}% time in one trial"
    between = f"{found.low:+.1f}% to {found.high:+.1f}%"
    if not found.known:
        return f"price inconclusive: {between} time a trial"
    return f"{found.share:+.1f}% time a trial (95 %: {between})"


def _outcome(arm: ArmName, ledger: RunState, found: Mapping[ArmName, ArmVerdict]) -> str:
    if arm in found:
        return found[arm].verdict
    return ledger.lost[arm].status if arm in ledger.lost else "failed"
