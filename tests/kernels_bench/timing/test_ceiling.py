"""What the device can do at most."""

import torch

from kernels_bench.report.sentences import ceiling_text
from kernels_bench.report.summary.summarise import summarise_run
from kernels_bench.timing.ceiling import measure_ceiling
from kernels_bench.timing.stopwatches.host_clock import HostStopwatch
from support.records import facts


def test_products_are_measured_of_what_is_timed_alone() -> None:
    found = measure_ceiling(HostStopwatch(), torch.device("cpu"), ("fp32",))
    assert found.bandwidth_gb_s > 0
    assert found.tflop_s.keys() == {"fp32"}
    assert found.tflop_s["fp32"] > 0


def test_where_nothing_timed_has_a_product_the_copy_is_told() -> None:
    found = measure_ceiling(HostStopwatch(), torch.device("cpu"), ("e4m3",))
    assert found.tflop_s == {}
    assert ceiling_text(summarise_run([found], facts())).partition(" GB/s")[2] == ""
