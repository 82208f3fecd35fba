"""NVTX ranges: free without a profiler, complete with one, loud when nsys would record nothing."""

import os
import re
import shutil
import subprocess
import sys
import timeit
from pathlib import Path

import pytest

from profiles.installing import pip_install
from profiles.instruments.ranges import Ranges, RangesNotRecorded
from support import ROOT
from support.processes import LIMIT_S

# An NVTX tool of the least size: it prints what nvtx sends. It takes the place of nsys, whose injection
# library implements the same table of functions (nvtx3/nvtxDetail/nvtxTypes.h, module CORE2).
INJECTION = r"""
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct {  /* nvtxEventAttributes_v2, whose unions hold 8 bytes each */
    uint16_t version, size;
    uint32_t category;
    int32_t colorType;
    uint32_t color;
    int32_t payloadType, reserved;
    int64_t payload;
    int32_t messageType;
    const char *message;
} Attributes;

typedef struct {
    size_t struct_size;
    int (*GetModuleFunctionTable)(int module, void ****table, unsigned *size);
} Callbacks;

static const char *domain_create(const char *name) { return name; }
static const char *register_string(const char *domain, const char *string) { return string; }
static void name_category(const char *domain, uint32_t id, const char *name) {
    printf("category %u %s\n", id, name);
}
static int push(const char *domain, const Attributes *a) {
    printf("push %s %s registered=%d category=%u payload=%lld type=%d\n",
           domain, a->message, a->messageType == 3, a->category, (long long)a->payload, a->payloadType);
    return 0;
}
static int pop(const char *domain) { printf("pop %s\n", domain); fflush(stdout); return 0; }

int InitializeInjectionNvtx2(const void *(*get_export_table)(uint32_t)) {
    const Callbacks *callbacks = get_export_table(1);
    void ***table;
    unsigned size;
    callbacks->GetModuleFunctionTable(5, &table, &size);
    *table[4] = (void *)push;
    *table[5] = (void *)pop;
    *table[8] = (void *)name_category;
    *table[10] = (void *)register_string;
    *table[12] = (void *)domain_create;
    return 1;
}
"""

PROGRAM = """
from profiles.instruments.ranges import Ranges

ranges = Ranges("kernels_bench")
assert ranges.recorded
with ranges.range("torch/mm/qwen3-8b/16", category="mm", payload=16):
    with ranges.range("inner"):
        pass
try:
    with ranges.range("fails", category="mm", payload=-(2**63)):
        raise KeyError
except KeyError:
    pass
"""


def _python(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.fixture
def injection(tmp_path: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the NVTX tool with")
    source, library = tmp_path / "injection.c", tmp_path / "injection.so"
    source.write_text(INJECTION)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True, timeout=LIMIT_S)
    return library


SENT = [
    "category 1 mm",
    "push kernels_bench torch/mm/qwen3-8b/16 registered=1 category=1 payload=16 type=2",
    "push kernels_bench inner registered=1 category=0 payload=0 type=0",
    "pop kernels_bench",
    "pop kernels_bench",
    "push kernels_bench fails registered=1 category=1 payload=-9223372036854775808 type=2",
    "pop kernels_bench",
]


def test_profiler_receives_domain_message_category_and_payload(injection: Path) -> None:
    done = _python(PROGRAM, NVTX_INJECTION64_PATH=str(injection))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == SENT


def test_an_earlier_nvtx_sends_the_same_under_nsys_and_nothing_else(injection: Path, earlier_nvtx: Path) -> None:
    path = os.pathsep.join([str(earlier_nvtx), os.environ.get("PYTHONPATH", "")])
    done = _python(PROGRAM, PYTHONPATH=path, NVTX_INJECTION64_PATH=str(injection), NSYS_PROFILING_SESSION_ID="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == SENT
    program = "from profiles.instruments.ranges import Ranges; assert not Ranges('kernels_bench').recorded"
    assert _python(program, PYTHONPATH=path).returncode == 0


def test_recorded_under_nsys_is_no_error(injection: Path) -> None:
    done = _python(PROGRAM, NVTX_INJECTION64_PATH=str(injection), NSYS_PROFILING_SESSION_ID="1")
    assert done.returncode == 0, done.stderr


def test_nvtx_disable_is_obeyed(injection: Path) -> None:
    program = "from profiles.instruments.ranges import Ranges; assert not Ranges('kernels_bench').recorded"
    done = _python(program, NVTX_INJECTION64_PATH=str(injection), NSYS_PROFILING_SESSION_ID="1", NVTX_DISABLE="1")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_without_a_profiler_a_range_is_a_no_op_that_lets_exceptions_through() -> None:
    ranges = Ranges("samebits-test")
    assert not ranges.recorded
    with ranges.range("outer", category="mm", payload=1), ranges.range("inner"):
        pass
    with pytest.raises(KeyError), ranges.range("fails"):
        raise KeyError


def test_without_a_profiler_a_range_costs_next_to_nothing() -> None:
    ranges = Ranges("samebits-test")

    def enter() -> None:
        with ranges.range("torch/mm/qwen3-8b/16", category="mm", payload=16):
            pass

    best_s = min(timeit.repeat(enter, number=10_000, repeat=5)) / 10_000
    assert best_s < 5e-6


def test_silent_loss_under_nsys_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSYS_PROFILING_SESSION_ID", "1")
    with pytest.raises(RangesNotRecorded, match=r"use nsys 2025 or newer, or nvtx < 0\.2\.12") as caught:
        Ranges("samebits-test")
    assert "\n" not in str(caught.value)


def test_without_the_package_ranges_are_no_ops_but_not_under_nsys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvtx", None)
    assert not Ranges("samebits-test").recorded
    monkeypatch.setenv("NSYS_PROFILING_SESSION_ID", "1")
    with pytest.raises(RangesNotRecorded, match=re.escape(f"nvtx is missing: {pip_install('nvtx')}")):
        Ranges("samebits-test")


def test_importing_profiles_loads_no_heavy_library() -> None:
    done = _python(
        "import sys, profiles.instruments.environment, profiles.instruments.ranges, profiles.instruments.telemetry\n"
        "heavy = {'torch', 'triton', 'numpy', 'nvtx', 'pynvml', 'kernels_bench', 'e2e'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert done.stdout == "[]\n", done.stderr
