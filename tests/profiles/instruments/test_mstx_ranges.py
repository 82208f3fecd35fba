"""Ranges for msprof, seen by a stand-in for torch_npu with the signatures of its ``mstx``: no NPU is here."""

import subprocess
import sys
from pathlib import Path

TORCH_NPU = """
class mstx:
    count = 0

    @staticmethod
    def range_start(message: str, stream=None, domain: str = "default") -> int:
        mstx.count += 1
        print("start", mstx.count, message, stream, domain)
        return mstx.count

    @staticmethod
    def range_end(range_id: int, domain: str = "default"):
        print("end", range_id, domain)


class npu:
    mstx = mstx

    @staticmethod
    def current_stream():
        return "stream"
"""
PROGRAM = """
from profiles.instruments.ranges import Ranges

ranges = Ranges("kernels_bench")
assert ranges.recorded
with ranges.range("before torch_npu was loaded"):
    assert "torch_npu" not in sys.modules
    import torch_npu
with ranges.range("outer", category="c", payload=1):
    with ranges.range("inner"):
        pass
try:
    with ranges.range("raises"):
        raise ValueError
except ValueError:
    pass
"""


def test_ranges_nest_and_end_whatever_happens(tmp_path: Path) -> None:
    (tmp_path / "torch_npu.py").write_text(TORCH_NPU)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "start 1 outer stream kernels_bench",
        "start 2 inner stream kernels_bench",
        "end 2 kernels_bench",
        "end 1 kernels_bench",
        "start 3 raises stream kernels_bench",
        "end 3 kernels_bench",
    ], done.stderr
