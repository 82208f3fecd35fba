"""Read what torch's profiler wrote: Chrome's trace format, as JSON."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from profiles.errors import ExitStatus, ReportError
from profiles.files import read_file
from profiles.instruments.torch_ranges import DOMAIN_MARK
from profiles.trace.model import (
    Array,
    Kernel,
    Kind,
    Label,
    RawLaunches,
    RawWork,
    Spans,
    Trace,
    Work,
    joined,
    possible,
    process_id,
    thread_id,
)

_SUFFIXES = (".json", ".json.gz")
_GPU: Mapping[str, Kind] = {"kernel": "kernel", "gpu_memcpy": "copy", "gpu_memset": "fill"}
_CALLS = ("cuda_runtime", "cuda_driver")
_RANGES, _OPERATORS = "user_annotation", "cpu_op"
_KEPT = {*_GPU, *_CALLS, _RANGES, _OPERATORS}

_Event = Mapping[str, Any]

# What events that are not as torch writes them raise where they are used.
_WRONG = (ValueError, TypeError, KeyError, AttributeError, OverflowError)

MOST_TRACE = 400 << 20
"""Bytes of a trace, unpacked; as text and objects it takes several times as much memory."""


def is_torch_trace(path: Path) -> bool:
    """Whether a file's name says that it is one."""
    return path.name.endswith(_SUFFIXES)


def together(parts: Sequence[Path], to: Path) -> int:
    """Make the traces of several processes one, without names of machines and files.

    Args:
        parts: as ``torch.profiler`` exported them.
        to: a new file, compressed.

    Returns:
        How many events it holds.

    Raises:
        ReportError: a part cannot be read, or the new file not be written.
    """
    merged, origin_ns = _merged(parts)
    content = {"schemaVersion": 1, "baseTimeNanoseconds": origin_ns, "traceEvents": merged}
    try:
        with gzip.open(to, "wt", compresslevel=5) as file:
            json.dump(content, file)
    except OSError as error:
        raise ReportError(f"cannot write {to}: {error.strerror}", status=ExitStatus.INCOMPLETE) from error
    return len(merged)


def _merged(parts: Sequence[Path]) -> tuple[list[dict[str, Any]], int]:
    """The events of all parts, and the base of their times."""
    merged: list[dict[str, Any]] = []
    origin_ns: int | None = None
    next_number = 0
    for part in parts:
        data = _loaded(part)
        try:
            base_ns = int(data.get("baseTimeNanoseconds", 0))
            origin_ns = base_ns if origin_ns is None else origin_ns
            kept = [event for event in data["traceEvents"] if event.get("ph") == "X" and event.get("cat") in _KEPT]
            # Processes count their launches each from one, and tell times each from a base of their own.
            for event in kept:
                event["ts"] = event["ts"] + (base_ns - origin_ns) / 1000
                if "correlation" in _args(event):
                    event["args"]["correlation"] += next_number
            next_number = 1 + max((int(_args(event).get("correlation", 0)) for event in kept), default=next_number)
        except _WRONG as error:
            raise _damaged(part, error) from error
        merged += kept
    return merged, origin_ns or 0


def _damaged(path: Path, error: Exception) -> ReportError:
    detail = f"{type(error).__name__}: {error}"
    return ReportError(f"{path} is damaged, or no trace of torch's profiler: {detail}")


def _loaded(path: Path) -> dict[str, Any]:
    """A trace's content, with a list of events.

    Raises:
        ReportError: it is no trace.
    """
    try:
        data = json.loads(read_file(path, MOST_TRACE))
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror}") from error
    except RecursionError as error:
        raise ReportError(f"{path} is damaged, or no trace of torch's profiler: it is nested too deep") from error
    except ValueError as error:
        raise ReportError(f"{path} is damaged, or no trace of torch's profiler: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("traceEvents"), list):
        raise ReportError(f"{path} is no trace of torch's profiler: it has no list of events")
    if not all(isinstance(event, dict) for event in data["traceEvents"]):
        raise ReportError(f"{path} is damaged: an event is no object")
    return data


def read_torch_trace(path: Path) -> Trace:
    """A trace that ``torch.profiler`` exported, or `profiles capture --collector torch` put together.

    Where it holds no GPU work, torch's operators stand for kernels.

    Raises:
        ReportError: this is no such trace, or it is damaged.
    """
    events = _loaded(path)["traceEvents"]
    try:
        return possible(_trace([event for event in events if event.get("ph") == "X"]))
    except _WRONG as error:
        raise _damaged(path, error) from error


def _trace(events: list[_Event]) -> Trace:
    found: dict[str, list[_Event]] = {}
    for event in events:
        found.setdefault(event.get("cat", ""), []).append(event)
    kernels: dict[Kernel, int] = {}
    gpu = [event for category in _GPU for event in found.get(category, [])]
    if gpu:
        calls = [event for category in _CALLS for event in found.get(category, []) if "correlation" in _args(event)]
        raw_calls = _calls(calls, [int(_args(event)["correlation"]) for event in calls])
        raw = _work(gpu, [int(_args(event)["correlation"]) for event in gpu], _processes(calls), kernels)
        notes = []
    else:
        operators = _outermost(found.get(_OPERATORS, []))
        raw_calls = _calls(operators, list(range(len(operators))))
        raw = _work(operators, list(range(len(operators))), {}, kernels)
        notes = ["the trace holds no GPU work: torch's operators on the CPU stand for kernels"]
    work, launches, lost = joined(raw, raw_calls)
    if lost:
        notes.append(f"{lost} kernels, copies and fills have no launch in the trace and are left out")
    ranges, labels = _ranges(found.get(_RANGES, []))
    return Trace("torch.profiler", tuple(kernels), work, launches, ranges, labels, tuple(notes))


def _args(event: _Event) -> Mapping[str, Any]:
    args = event.get("args", {})
    return args if isinstance(args, dict) else {}


def _start_ns(event: _Event) -> int:
    return round(1000 * float(event["ts"]))


def _end_ns(event: _Event) -> int:
    return _start_ns(event) + round(1000 * float(event["dur"]))


def _thread(event: _Event) -> int:
    return thread_id(int(event["pid"]), int(event["tid"]))


def _column(values: Iterable[int]) -> Array:
    return np.fromiter(values, dtype=np.int64)


def _calls(events: list[_Event], correlations: list[int]) -> RawLaunches:
    return RawLaunches(
        _column(map(_start_ns, events)), _column(map(_end_ns, events)), _column(map(_thread, events)),
        _column(correlations),
    )  # fmt: skip


def _processes(calls: list[_Event]) -> dict[int, int]:
    """The process of each correlation: GPU events name a device in its place."""
    return {int(_args(event)["correlation"]): _thread(event) for event in calls}


def _work(
    events: list[_Event], correlations: list[int], owners: Mapping[int, int], kernels: dict[Kernel, int]
) -> RawWork:
    which = [kernels.setdefault(_kernel(event), len(kernels)) for event in events]
    threads = [
        owners.get(number, 0) if owners else _thread(event) for event, number in zip(events, correlations, strict=True)
    ]
    work = Work(
        _column(map(_start_ns, events)),
        _column(map(_end_ns, events)),
        _column(which),
        np.array(
            ["graph node id" in _args(event) and _args(event)["graph node id"] != 0 for event in events], dtype=bool
        ),
    )
    return RawWork(process_id(_column(threads)), _column(correlations), work)


def _kernel(event: _Event) -> Kernel:
    kind = _GPU.get(event["cat"], "operator")
    if kind in ("copy", "fill"):
        return Kernel(kind, kind, kind)
    name, args = _text(event["name"]), _args(event)
    short = name if kind == "operator" else _base(name)
    return Kernel(
        short, name, kind, _size(args.get("grid")), _size(args.get("block")), int(args.get("registers per thread", 0))
    )


def _text(name: object) -> str:
    """A name that can be written, whatever halves of characters JSON's escapes made of it."""
    return str(name).encode("utf-8", "replace").decode()


def _base(name: str) -> str:
    """A kernel's name without return type, namespaces, template arguments and parameters."""
    head = name.replace("(anonymous namespace)", "").partition("<")[0].partition("(")[0]
    return head.split(" ")[-1].rpartition("::")[2] or name


def _size(size: object) -> tuple[int, int, int]:
    if isinstance(size, list) and len(size) == 3:
        return (int(size[0]), int(size[1]), int(size[2]))
    return (0, 0, 0)


def _outermost(operators: list[_Event]) -> list[_Event]:
    """Operators that no other one called, by thread and start."""
    found: list[_Event] = []
    thread, until = -1, 0
    for event in sorted(operators, key=lambda one: (_thread(one), _start_ns(one), -_end_ns(one))):
        if _thread(event) != thread or _start_ns(event) >= until:
            found.append(event)
            thread, until = _thread(event), _end_ns(event)
    return found


def _ranges(events: list[_Event]) -> tuple[Spans, tuple[Label, ...]]:
    labels: dict[Label, int] = {}
    events = sorted(events, key=_start_ns)
    which = [labels.setdefault(_label(_text(event["name"])), len(labels)) for event in events]
    spans = Spans(
        _column(map(_start_ns, events)), _column(map(_end_ns, events)), _column(map(_thread, events)), _column(which)
    )
    return spans, tuple(labels)


def _label(name: str) -> Label:
    message, _, domain = name.rpartition(DOMAIN_MARK)
    return Label(domain, message) if message else Label("", name)
