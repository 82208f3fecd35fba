"""The order of attention's sum over keys: known orders, with and without rescaling, and what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from kernels_bench.arms import Kernel, Unsupported, arms
from kernels_bench.operators import Operator, operators
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.order import Tree
from kernels_bench.order.batch_sweep import OrderSweep, Task, read_orders
from kernels_bench.order.case_order import order_of
from kernels_bench.order.probing.cancellation_prober import CancellationProber
from kernels_bench.records.cases import LOGITS, Case, Logits, Precision, Shape
from kernels_bench.records.results import Order
from support.known_orders import Nested, added, built, known_orders, nests, one_after_the_other, split
from support.processes import kernels_bench

CPU = torch.device("cpu")
SHAPE = Shape(label="test", heads=4, kv_heads=2, k=32, page=16, tokens=65)
LATENT = Shape(label="latent", heads=4, kv_heads=1, k=576, page=16, tokens=65)
PAGED = ("attention_decode", "attention_prefill", "attention_mixed")
LN2 = np.log(2)

Weigh = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Given logits (n,) in multiples of ln 2 and values (n, d), the weighed sum (d,) and the sum of the weights."""


def probed(name: str, keys: int, logits: Logits = "flat") -> Operator:
    return operators()[name].for_probing(keys, logits)


def read(name: str, kernel: Kernel, keys: int, logits: Logits, sizes: tuple[int, ...] = (1, 2, 5)) -> OrderSweep:
    operator, shape = probed(name, keys, logits), LATENT if name == "mla_decode" else SHAPE

    def launch(rows: tuple[Tensor, ...], weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return operator.split_result(kernel(*operator.probe_arguments(rows, weights)))

    return read_orders(
        lambda m: CancellationProber(operator, shape, Precision.parse("bf16"), launch, m=m, device=CPU), Task(sizes)
    )  # fmt: skip


def order(name: str, kernel: Kernel, keys: int, logits: Logits, sizes: tuple[int, ...]) -> Order:
    case = Case(arm="planted", operator=name, shape=SHAPE, precision=Precision.parse("bf16"))
    found, _ = order_of(case, probed(name, keys, logits), kernel, Task(sizes), CPU)
    return found


def by_query(weigh: Callable[[int], Weigh]) -> Kernel:
    """A paged attention kernel that weighs each query's values as told for the batch's number of entries."""

    def attention(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        out = torch.zeros(*q.shape[:2], value_cache.shape[-1])
        group = q.shape[1] // key_cache.shape[2]
        ends = batch.cu_seqlens_q.tolist()
        for entry, (begin, end) in enumerate(pairwise(ends)):
            pages = batch.block_table[entry].long()
            keys, values = (cache[pages].flatten(0, 1).float() for cache in (key_cache, value_cache))
            for query in range(begin, end):
                seen = int(batch.seqused_k[entry]) - (end - 1 - query)
                for head in range(q.shape[1]):
                    logits = keys[:seen, head // group] @ q[query, head].float() * (batch.scale / LN2)
                    total, weight = weigh(len(ends) - 1)(logits.numpy(), values[:seen, head // group].numpy())
                    out[query, head] = torch.from_numpy(total / weight)
        return out.to(q.dtype)

    return attention


def summed(tree_of: Callable[[int], Tree]) -> Weigh:
    """Weights relative to the largest of all; products added in an order."""

    def weigh(logits: NDArray[np.float32], values: NDArray[np.float32]) -> tuple[NDArray[np.float32], Any]:
        weights = np.exp2(logits - logits.max()).astype(np.float32)
        return added((weights[:, None] * values).T.astype(np.float32), tree_of(len(logits))), weights.sum()

    return weigh


def folded(parts: list[Nested]) -> Nested:
    """Halves added until one is left."""
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [[one, other] for one, other in zip(parts[:half], parts[half:], strict=True)]
    return parts[0]


def online(block: int, slip: float = 1.0) -> Weigh:
    """Blocks in sequence with a running maximum; ``slip`` is what every rescaling is off by."""

    def weigh(logits: NDArray[np.float32], values: NDArray[np.float32]) -> tuple[NDArray[np.float32], Any]:
        high, total, weight = np.float32(-np.inf), np.zeros(values.shape[1], np.float32), np.float32(0)
        for at in range(0, len(logits), block):
            higher = max(high, logits[at : at + block].max())
            rescale = np.exp2(high - higher) * (np.float32(slip) if higher > high else np.float32(1))
            weights = np.exp2(logits[at : at + block] - higher).astype(np.float32)
            total = (total * rescale).astype(np.float32)
            for one, value in zip(weights, values[at : at + block], strict=True):
                total = (total + one * value).astype(np.float32)
            weight, high = weight * rescale + weights.sum(), higher
        return total, weight

    return weigh


# What is asked of a kernel.


@given(
    name=st.sampled_from((*PAGED, "mla_decode")),
    logits=st.sampled_from(LOGITS),
    keys=st.integers(1, 40),
    page=st.sampled_from((16, 64)),
    m=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_a_probes_result_is_the_sum_of_its_terms(
    name: str, logits: Logits, keys: int, page: int, m: int, seed: int
) -> None:
    operator = probed(name, keys, logits)
    shape = (LATENT if name == "mla_decode" else SHAPE).model_copy(update={"page": page})
    draw = torch.Generator().manual_seed(seed)
    terms = torch.randint(-3, 4, (operator.probe_sum_count(shape, m), keys), generator=draw).to(torch.bfloat16)
    *tensors, batch = operator.probe_arguments(*operator.probe_inputs(terms, shape, m))
    assert batch.most_keys == keys
    wide = [tensor.double() for tensor in tensors]
    kernel = arms()["torch"].kernels()[name]
    found = operator.probe_sums(operator.split_result(kernel(*wide, batch)), shape, m)
    assert found.shape == (m * (4 if name == "mla_decode" else 2), len(terms))
    torch.testing.assert_close(found, terms.double().sum(1).expand_as(found), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("logits", LOGITS)
def test_logits_go_as_they_are_called(logits: Logits) -> None:
    (q, keys, _, batch) = probed("attention_decode", 65, logits).probe_arguments(
        *probed("attention_decode", 65, logits).probe_inputs(torch.ones(64, 65, dtype=torch.bfloat16), SHAPE, 1)
    )
    pages = keys[batch.block_table[0].long()].flatten(0, 1)[:65, 0].float()
    steps = (pages @ q[0, 0].float()).diff()
    assert {
        "flat": not steps.any(),
        "rising": steps.min() >= 0 < steps.max(),
        "falling": steps.max() <= 0 > steps.min(),
    }[logits]


def test_nothing_is_read_of_attention_unless_its_keys_are_counted() -> None:
    assert operators()["attention_decode"].probe_sum_count(SHAPE, 5) == 0


def test_fp16_has_no_room_for_what_is_lost() -> None:
    with pytest.raises(Unsupported, match="fp16 does not show the order of attention_decode"):
        CancellationProber(
            probed("attention_decode", 17), SHAPE, Precision.parse("fp16"), lambda rows, weights: rows, m=1, device=CPU
        )


# Known orders.


@given(nests(24), st.sampled_from(LOGITS))
@settings(max_examples=25, deadline=None)
def test_any_order_over_the_keys_is_read_exactly(nested: Nested, logits: Logits) -> None:
    known = built(nested)
    found = read("attention_decode", by_query(lambda m: summed(lambda n: known)), known.terms, logits, (2,))
    assert found.refused == {}
    assert found.trees == {2: known}


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("name", ["groups of 16", "pairwise", "split 3 in sequence", "split 4 pairwise"])
def test_usual_orders_are_read_whatever_the_logits(name: str, logits: Logits) -> None:
    known = built(known_orders(33)[name])
    found = read("attention_decode", by_query(lambda m: summed(lambda n: known)), 33, logits, (1,))
    assert found.trees == {1: known}


@pytest.mark.parametrize("logits", LOGITS)
def test_an_online_softmax_is_one_after_the_other_through_every_rescaling(logits: Logits) -> None:
    found = read("attention_decode", by_query(lambda m: online(8)), 40, logits)
    known = built(one_after_the_other(list(range(40))))
    assert found.trees == dict.fromkeys((1, 2, 5), known)


def test_a_rescaling_that_rounds_is_told_and_nothing_is_claimed() -> None:
    kernel = by_query(lambda m: online(8, slip=1 + 2.0**-20))
    assert order("attention_decode", kernel, 40, "flat", (1, 2)).status == "proven"
    rising = order("attention_decode", kernel, 40, "rising", (1, 2))
    assert rising.status == "unknown"
    assert "rounded before they cancelled" in rising.reason


def test_splits_that_follow_the_batch_are_a_counterexample() -> None:
    def parts(m: int) -> Weigh:
        return summed(lambda n: built(split(n, 4 if m < 3 else 2, one_after_the_other, one_after_the_other)))

    found = order("attention_decode", by_query(parts), 32, "flat", (1, 2, 5))
    assert found.status == "variant"
    assert [one.sizes for one in found.found] == [(1, 2), (5,)]
    assert "4 parts of 8 terms" in found.found[0].words
    assert "meet in a sum of" in found.witness


def test_a_sequence_with_an_order_of_its_own_is_a_counterexample() -> None:
    def attention(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        halves = by_query(lambda m: summed(lambda n: built(split(n, 2, one_after_the_other, one_after_the_other))))
        found: Tensor = by_query(lambda m: online(64))(q, key_cache, value_cache, batch)
        found[-1] = halves(q, key_cache, value_cache, batch)[-1]
        return found

    found = order("attention_decode", attention, 16, "flat", (3,))
    assert found.status == "variant"
    assert "adds in another order than row 0" in found.witness


# Real kernels.


@pytest.mark.parametrize("name", PAGED)
@pytest.mark.parametrize("logits", LOGITS)
def test_samebits_order_does_not_depend_on_the_batch(name: str, logits: Logits) -> None:
    kernel = arms()["samebits"].kernels()[name]
    found = read(name, kernel, 65, logits, (1, 3, 9))
    assert found.refused == found.uneven == {}
    # Halves of a block of 16 are folded, the blocks follow each other, and the last key has a block of its own.
    blocks = [folded(list(range(at, at + 16))) for at in range(0, 64, 16)]
    assert found.trees == dict.fromkeys((1, 3, 9), built(one_after_the_other([*blocks, 64])))


def test_decode_and_prefill_add_alike_in_samebits() -> None:
    kernels = arms()["samebits"].kernels()
    found = {name: read(name, kernels[name], 33, "rising", (1, 4)).distinct[0].digest for name in PAGED}
    assert len(set(found.values())) == 1


def latent(kernel: Kernel) -> Kernel:
    """A paged kernel over the latent cache, whose keys begin with its values."""
    return lambda q, cache, batch: kernel(q, cache[:, :, None], cache[:, :, None, :512], batch)


def test_the_latent_cache_is_read_too() -> None:
    found = read("mla_decode", latent(arms()["samebits"].kernels()["attention_decode"]), 17, "flat", (1, 3))
    assert found.refused == {}
    assert found.trees == dict.fromkeys((1, 3), built([folded(list(range(16))), 16]))
    kernel = latent(by_query(lambda m: online(8, slip=1 + 2.0**-20)))
    assert read("mla_decode", kernel, 17, "flat", (1,)).trees == {1: built(one_after_the_other(range(17)))}
    assert "rounded before they cancelled" in read("mla_decode", kernel, 17, "rising", (1,)).refused[1]


def test_the_command_reads_every_length_and_kind_of_logits() -> None:
    words = ("--arm", "samebits", "--shapes", "4x2x32x16x64", "--length", "17,40", "--batch", "1,3")
    done = kernels_bench("order", "--op", "attention_decode", *words)
    assert done.status == 0, done.err
    for keys in (17, 40):
        for logits in LOGITS:
            assert f"samebits/attention_decode/4x2x32x16x64/bf16 {keys} keys, {logits} logits: proven" in done.out
