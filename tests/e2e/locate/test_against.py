"""Two engines of one model side by side: how far they are apart, and what of one is put into the other."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest
import torch

from e2e.locate.against.counterparts import Counterparts
from e2e.locate.against.hugging_face import Forward, Role
from e2e.locate.judging.apart import apart_of, distance_of
from e2e.locate.judging.graft import Kept
from e2e.locate.judging.kept_pass import KeptPass, PassWords, read_pass, save_pass
from e2e.locate.probing.record import Call
from e2e.locate.seen.digest import row_digests
from e2e.locate.seen.rows import NeedleRows
from e2e.locate.seen.trace import Event, Place, Step, Values
from e2e.workload.options import Options

ROWS = NeedleRows("0", 0, 0, 3, 0, 3, 3, 1)
WORDS = PassWords(
    arm="baseline", options=Options(model="m"), provenance="vLLM", needle=0, prompt=(1, 2, 3), tokens=(4,),
    logprobs=(-1.0,), packed={}, full=False, alone_repeats=True, probe_kept_bits=True, seconds=1.0, seconds_plain=0.1,
    seconds_watched=0.1, watched=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("mine", "theirs", "far"),
    [
        ((3.0, 4.0), (3.0, 4.0), 0.0),
        ((3.0, 5.0), (3.0, 4.0), 0.2),
        ((0.0, -0.0), (0.0, 0.0), 0.0),
        ((0.0, 1.0), (0.0, 0.0), inf),
        ((nan, 5.0), (nan, 4.0), 0.25),
        ((-inf, 5.0), (-inf, 4.0), 0.25),
        ((nan, 4.0), (3.0, 4.0), inf),
        ((inf, 4.0), (nan, 4.0), inf),
    ],
)
def test_a_distance_is_a_number_whatever_the_rows_hold(
    mine: tuple[float, ...], theirs: tuple[float, ...], far: float
) -> None:
    one, other = (torch.tensor([values], dtype=torch.bfloat16) for values in (mine, theirs))
    assert float(distance_of(one, other)) == apart_of(one, other, far=True).distance == far


def values(rows: torch.Tensor) -> Values:
    return Values("token", row_digests(rows).numpy(), tuple(rows.shape))


def step_of(taken: torch.Tensor, given: torch.Tensor) -> Step:
    event = Event(Place("gate", "", 0), "module", (values(taken),), (values(given),), False)
    return Step(ROWS, (1, 2, 3), (event,), 0)


def test_a_value_of_another_dtype_is_not_put_into_transformers() -> None:
    x, narrow = torch.randn(3, 8).bfloat16(), torch.randn(3, 2).bfloat16()
    seen: dict[Role, Any] = {Role("gate", "in"): x, Role("gate", "out"): narrow}
    forward = Forward(values=seen, leaves=frozenset({"gate"}), logits=torch.zeros(3, 5))
    found = {}
    for given in (narrow + 1, narrow.float() + 1):
        own = KeptPass(WORDS, (step_of(x, given),), ({0: (given,)},))
        found[given.dtype] = Counterparts(own, forward).rows_to_put()
    assert Role("gate", "out") in found[torch.bfloat16]
    assert Role("gate", "out") not in found[torch.float32]


def test_a_kept_pass_lies_where_the_other_engine_computes(tmp_path: Any) -> None:
    x = torch.randn(3, 8)
    step, place = step_of(x, x + 1), Place("gate", "", 0)
    kept = Kept(ROWS, Call(place, "module", []), (x + 1,), None)
    save_pass(tmp_path / "pass", WORDS, [step], {place: [kept]})
    read = read_pass(tmp_path / "pass")
    assert np.array_equal(read.steps[0].events[0].inputs[0].digests, step.events[0].inputs[0].digests)
    (there,) = read.kept("meta")[place]
    everything = [*there.outputs, *(held.digests for held in (*there.call.inputs, *there.call.outputs))]
    assert [one.device.type for one in everything] == ["meta"] * 3
    assert torch.equal(read.kept("cpu")[place][0].outputs[0], x + 1)
