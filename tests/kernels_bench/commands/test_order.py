"""``order``: what it prints, writes and draws, and its exit statuses, by real processes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings

from kernels_bench.order.trees.description import sentence
from kernels_bench.order.trees.svg import MOST_NODES, picture
from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import Verification
from support.known_orders import Nested, built, nests, pairwise
from support.processes import kernels_bench

SVG = "{http://www.w3.org/2000/svg}"
PLUGIN = """
from kernels_bench.arms import Arm
from kernels_bench.faults import faults

CHOSEN = {{"mm": "split_k_by_rows", "softmax": "batch_maximum"}}
ARM = Arm(name="{name}", kernels=lambda: {{operator: faults()[fault].{which}() for operator, fault in CHOSEN.items()}})
"""


def written(folder: Path, name: str, which: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(PLUGIN.format(name=name, which=which))
    return path


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """An arm with planted faults."""
    return written(tmp_path, "planted", "make")


@pytest.fixture
def honest(tmp_path: Path) -> Path:
    """The same kernels without the faults."""
    return written(tmp_path, "honest", "control")


def test_an_order_that_is_always_the_same_is_proven_told_written_and_drawn(honest: Path, tmp_path: Path) -> None:
    what = ("--op", "mm,softmax", "--arm", "honest", "--plugin", honest)
    words = (*what, "--shapes", "64,96", "--dtype", "fp32", "--batch", "1,5,9")
    done = kernels_bench("order", *words, "--svg", tmp_path / "drawn", "--json", tmp_path / "order.json")
    assert done.status == 0, done.err
    assert "honest/mm/64x96/fp32: proven" in done.out
    assert "M=1 to 9 (3): 4 parts of 24 terms, added one after the other: each 24 terms one after the other" in done.out
    assert "it holds for" in done.out
    found = json.loads((tmp_path / "order.json").read_text())
    orders = {one["case"]["operator"]: one["read"]["order"] for one in found}
    assert {order["status"] for order in orders.values()} == {"proven"}
    assert orders["mm"]["found"][0]["sizes"] == [1, 5, 9]
    drawn = {path.name: ElementTree.fromstring(path.read_text()) for path in (tmp_path / "drawn").iterdir()}
    assert set(drawn) == {"honest-mm-64x96-fp32-M1.svg", "honest-softmax-96-fp32-M1.svg"}
    assert drawn["honest-mm-64x96-fp32-M1.svg"].findtext(f"{SVG}title") == orders["mm"]["found"][0]["words"]


def test_an_order_that_depends_on_the_batch_is_told_with_a_witness(plugin: Path) -> None:
    done = kernels_bench(
        *("order", "--op", "mm", "--arm", "planted", "--plugin", plugin, "--shapes", "16,64"),
        *("--dtype", "fp32", "--batch", "16,17"),
    )
    assert done.status == 1
    assert "planted/mm/16x64/fp32: variant" in done.out
    assert "M=16: 4 parts of 16 terms, added one after the other: each 16 terms one after the other" in done.out
    assert "M=17: 64 terms one after the other" in done.out
    assert "meet in a sum of" in done.out
    assert "proven" not in done.out


def test_a_runs_verdict_knows_the_order(plugin: Path, honest: Path, tmp_path: Path) -> None:
    # So few terms that the time is enough for every M, on a busy machine too.
    words = ("--op", "mm", "--shapes", "16,16", "--dtype", "fp32", "--batch", "1,16,17,33", "--out", tmp_path / "run")
    words = (*words, "--relation", "batch_size", "--partial")
    done = kernels_bench(*words, "--arm", "planted,honest", "--plugin", plugin, "--plugin", honest)
    assert done.status == 1
    found = {r.case.arm: r for r in read_records(tmp_path / "run") if isinstance(r, Verification)}
    assert {arm: record.order.status for arm, record in found.items() if record.order} == {
        "planted": "variant",
        "honest": "proven",
    }
    assert {arm: record.verdict for arm, record in found.items()} == {"planted": "variant", "honest": "sampled"}
    assert re.search(r"^honest +✅ kept 1/1 +same 1/1 ", done.out, re.MULTILINE)
    assert re.search(r"^planted +❌ variant 1/1 +differs 1/1 ", done.out, re.MULTILINE)
    assert "order of addition: read out, and the same at every M tried, or not" in done.out


def test_what_cannot_be_read_is_no_failure() -> None:
    done = kernels_bench("order", "--op", "softmax", "--arm", "samebits", "--shapes", "96", "--dtype", "bf16")
    assert done.status == 0
    assert "unsupported (a result in bf16 does not show the order of softmax)" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--op", "mmm"), "--op mmm: unknown"),
        (("--op", "mm", "--batch", "many"), "--batch many: expected whole numbers"),
        (("--op", "mm", "--arm", "samebit"), "--arm samebit: unknown"),
    ],
)
def test_what_makes_no_sense_is_one_line(words: tuple[str, ...], message: str) -> None:
    done = kernels_bench("order", *words)
    assert done.status == 2
    assert done.err.startswith(f"kernels_bench: {message}")
    assert done.err.count("\n") == 1


@settings(max_examples=40)
@given(nests(30))
def test_every_tree_is_drawn_inside_its_picture(nested: Nested) -> None:
    order = built(nested)
    root = ElementTree.fromstring(picture(order))
    assert root.findtext(f"{SVG}title") == sentence(order)
    (*_, drawn) = [path.get("d", "") for path in root.iter(f"{SVG}path")]
    numbers = np.array([float(n) for n in drawn.replace("M", " ").replace("V", " ").replace("H", " ").split()])
    assert ((numbers >= 0) & (numbers <= 960)).all()
    assert drawn.count("M") == sum(len(children) for children in order.children)


def test_of_a_large_tree_the_largest_sums_are_drawn() -> None:
    order = built(pairwise(list(range(2 * MOST_NODES))))
    text = picture(order)
    assert f"({order.nodes - order.terms - MOST_NODES} small sums left out)" in text
    assert text.count("M") > MOST_NODES
