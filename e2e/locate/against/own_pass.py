"""The needle alone in one of vLLM's engines: a pass that is kept, to be compared in another process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2e.locate.judging.align import match
from e2e.locate.judging.graft import Keeper
from e2e.locate.judging.kept_pass import PassWords, save_pass
from e2e.locate.judging.walk import first, walk
from e2e.locate.probing.probe import Probe, runner_of
from e2e.locate.probing.record import Recorder
from e2e.locate.probing.watching import Watched
from e2e.locate.search import Answered, Asked, alone, parts_at
from e2e.locate.session import ROOM
from e2e.workload.options import ArmName, Options

MOST_WATCHED = 16
"""Tokens of the answer whose steps are watched, at most."""


def keep(
    asked: Asked,
    subject: tuple[ArmName, Options, int],
    prompt: tuple[int, ...],
    file: Path,
    modules_only: bool,
) -> PassWords:
    """Answer a needle under the probe, and keep what came of every call.

    Args:
        asked: the engine.
        subject: its arm, its options, and the needle's number.
        prompt: the needle's token ids.
        file: that is written.
        modules_only: whether only of modules is kept what came out.

    Raises:
        ProbeError: the needle could not be followed.
        OSError: the file cannot be written.
    """
    began = time.perf_counter()
    arm, options, needle = subject
    probe = Probe(runner_of(asked.engine), asked.engine.vllm_config, caches=False)
    plain = alone(asked, prompt)
    started = time.perf_counter()
    plain_again = alone(asked, prompt)
    seconds_plain = time.perf_counter() - started
    keeper = Keeper(ROOM, modules_only=modules_only)
    watched_tokens = min(options.max_tokens, MOST_WATCHED)
    until = len(prompt) + watched_tokens - 2
    started = time.perf_counter()
    own, said = _watched(probe, asked, prompt, keeper, until)
    seconds_watched = time.perf_counter() - started
    again, _ = _watched(probe, asked, prompt, Recorder(), until)
    unstable = first(list(walk(match(own.steps, again.steps))))
    words = PassWords(
        arm=arm,
        options=options,
        provenance=asked.provenance,
        needle=needle,
        prompt=prompt,
        tokens=said.tokens,
        logprobs=said.logprobs,
        packed=packed_modules(asked.engine),
        full=keeper.full,
        alone_repeats=parts_at(plain, plain_again) is None and unstable is None,
        probe_kept_bits=parts_at(said, plain) is None,
        seconds=time.perf_counter() - began,
        seconds_plain=seconds_plain,
        seconds_watched=seconds_watched,
        watched=min(watched_tokens, len(said.tokens)),  # it may have ended by itself
        notes=() if unstable is None else (f"{arm}: {unstable.event.place} gave other bits of equal inputs",),
    )
    save_pass(file, words, own.steps, keeper.kept)
    return words


def _watched(
    probe: Probe, asked: Asked, prompt: tuple[int, ...], recorder: Recorder, until: int
) -> tuple[Watched, Answered]:
    """A pass that was watched up to a position, and what the engine answered."""
    with probe.watching("0", prompt, recorder, until) as watched:
        return watched, alone(asked, prompt)


def packed_modules(engine: Any) -> dict[str, tuple[str, ...]]:
    """Of a module that is several in the checkpoint the names of these, as the model's class says."""
    named = getattr(runner_of(engine).model, "packed_modules_mapping", None)
    return {str(name): tuple(map(str, parts)) for name, parts in named.items()} if isinstance(named, Mapping) else {}
