"""Recording: torch's profiler for real; nsys by a program of its name that behaves like it at its edges.

What that program stands for is seen with a real nsys in `test_nsys.py` and `profiles/test_gpu.py`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from profiles.analysis.analyse import analyse
from profiles.capture.nsys import (
    NSYS_LOCATIONS,
    exported,
    find_nsys,
    nvtx_incompatibility,
    profile_command,
    what_is_missing,
)
from profiles.capture.recorder import Capture, default_directory, prepare
from profiles.capture.torch_program import recorded_command
from profiles.errors import ReportError
from profiles.trace.torch_json import read_torch_trace
from support.profiler_reports import Ended, Launch, Span, profiles, write_report

# What nsys does with its arguments and files, and nothing else; NSYS_DOES says which trap it springs.
NSYS = f"""#!{sys.executable}
import os, shutil, subprocess, sys
from contextlib import closing
from pathlib import Path

here, does = Path(__file__).parent, os.environ.get("NSYS_DOES", "")
if sys.argv[1:] == ["--version"]:
    print("NVIDIA Nsight Systems version " + os.environ.get("NSYS_VERSION", "2025.3.1.90-253135822126v0"))
elif sys.argv[1] == "profile":
    (here / "arguments").write_text("\\n".join(sys.argv[2:]))
    words = [word for word in sys.argv[2:]]
    split = next(i for i, word in enumerate(words) if not word.startswith("-"))
    stem = next(word for word in words if word.startswith("--output=")).removeprefix("--output=")
    status = subprocess.run(words[split:], env=os.environ | {{"NSYS_PROFILING_SESSION_ID": "1"}}).returncode
    if does == "importer":
        Path(stem + ".qdstrm").write_bytes(b"raw")
    elif does != "nothing":
        Path(stem + ".nsys-rep").write_bytes(b"report")
    sys.exit(status)
elif sys.argv[1] == "export":
    to = next(word for word in sys.argv if word.startswith("--output=")).removeprefix("--output=")
    if does == "unreadable":
        sys.exit("the report is unreadable")
    shutil.copy(here / "export.sqlite", to)
"""


HIDDEN = [found for pattern in NSYS_LOCATIONS for found in Path("/").glob(pattern)]


@pytest.fixture
def nsys(tmp_path: Path) -> Path:
    """A folder for PATH with an nsys whose export holds one range and one kernel."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nsys").write_text(NSYS)
    (folder / "nsys").chmod(0o755)
    write_report(folder / "export.sqlite", [Span("r", 0, 100)], [Launch(10, 20, [("k", 30, 40)])])
    return folder


def capture(nsys: Path, *arguments: object, **variables: str) -> Ended:
    path = f"{nsys}{os.pathsep}{os.environ['PATH']}"
    # nsys puts what it could not import into the temporary directory.
    return profiles(
        "capture",
        *arguments,
        env={"PATH": path, "TMPDIR": str(nsys.parent), "NVTX_DISABLE": "1", **variables},
        cwd=nsys.parent,
    )


def command(code: str) -> tuple[str, ...]:
    return ("--", sys.executable, "-c", code)


def kept(folder: Path) -> Capture:
    return Capture.model_validate_json((folder / "capture.json").read_text())


def test_nsys_is_called_with_the_right_flags_and_leaves_everything(nsys: Path, tmp_path: Path) -> None:
    ended = capture(nsys, "--out", "out", *command("print('hello')"))
    assert (ended.status, ended.stdout) == (0, "hello\n")
    assert ended.error == "recorded: python -m profiles analyze out/report.sqlite"
    given = (nsys / "arguments").read_text().splitlines()
    assert given[-3:] == [sys.executable, "-c", "print('hello')"]
    assert set(given[:-3]) == {
        "--trace=cuda,nvtx", "--sample=none", "--cpuctxsw=none", "--cuda-graph-trace=node",
        "--trace-fork-before-exec=true", "--cuda-flush-interval=1000", "--output=out/report",
    }  # fmt: skip
    record = kept(tmp_path / "out")
    assert record.tool == "Nsight Systems 2025.3.1.90"
    assert (record.exit_status, record.reports) == (0, ("report.sqlite", "report.nsys-rep"))
    assert record.command.endswith("-c 'print('\"'\"'hello'\"'\"')'")
    assert "torch" in record.versions
    assert profiles("analyze", tmp_path / "out" / "report.sqlite").status == 0


def test_the_record_holds_no_environment_variable(nsys: Path, tmp_path: Path) -> None:
    capture(nsys, "--out", "out", *command("pass"), SECRET_TOKEN="d41d8cd98f00")
    text = (tmp_path / "out" / "capture.json").read_text()
    assert "d41d8cd98f00" not in text
    assert "SECRET_TOKEN" not in text
    assert set(json.loads(text)) == set(Capture.model_fields)


@pytest.mark.parametrize("status", [1, 5, 77])
def test_the_exit_status_is_the_commands_own(nsys: Path, tmp_path: Path, status: int) -> None:
    ended = capture(nsys, "--out", "out", *command(f"raise SystemExit({status})"))
    assert ended.status == status
    assert kept(tmp_path / "out").exit_status == status


def test_a_range_is_passed_on(nsys: Path) -> None:
    assert capture(nsys, "--range", "measure@kernels_bench", *command("pass")).status == 0
    given = (nsys / "arguments").read_text().splitlines()
    assert {"--capture-range=nvtx", "--nvtx-capture=measure@kernels_bench", "--capture-range-end=stop"} <= set(given)
    (made,) = (nsys.parent / "samebits-profiles").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}", made.name)


def test_further_options_go_to_nsys_after_ours(nsys: Path) -> None:
    chosen = ("--nsys-option=--cuda-graph-trace=graph", "--nsys-option", "--gpu-metrics-devices=all")
    assert capture(nsys, *chosen, *command("pass")).status == 0
    given = (nsys / "arguments").read_text().splitlines()
    assert given.index("--cuda-graph-trace=node") < given.index("--cuda-graph-trace=graph")
    assert "--gpu-metrics-devices=all" in given


def last_line(ended: Ended) -> str:
    return ended.stderr.splitlines()[-1].removeprefix("profiles: ")


def test_a_range_that_matches_nothing(nsys: Path) -> None:
    ended = capture(nsys, "--range", "nothing@here", *command("pass"), NSYS_DOES="nothing")
    assert ended.status == 3
    assert ended.error.startswith("no range matched nothing@here, so nsys left no report")


def test_no_report_for_another_reason(nsys: Path) -> None:
    ended = capture(nsys, "--out", "out", *command("pass"), NSYS_DOES="nothing")
    assert (ended.status, ended.error) == (
        3,
        "nsys ended with status 0 and left no report.nsys-rep: its own messages above say why; where they speak of a "
        "connection or an endpoint, it did not reach its own agent: run it again",
    )  # fmt: skip
    ended = capture(nsys, "--out", "other", *command("raise SystemExit(9)"), NSYS_DOES="nothing")
    assert ended.status == 9
    assert "left no report.nsys-rep" in ended.error


def test_an_importer_that_cannot_run(nsys: Path, tmp_path: Path) -> None:
    ended = capture(nsys, "--out", "out", *command("pass"), NSYS_DOES="importer")
    assert ended.status == 3
    assert re.match(
        r"nsys recorded out/report\.qdstrm but its importer could not run: (install libdw|see nsys)", ended.error
    )
    assert kept(tmp_path / "out").reports == ()


def test_a_report_that_cannot_be_exported(nsys: Path) -> None:
    ended = capture(nsys, "--out", "out", *command("pass"), NSYS_DOES="unreadable")
    assert (ended.status, ended.error) == (2, "nsys cannot export out/report.nsys-rep: the report is unreadable")


def test_an_nvtx_that_records_nothing_is_named_before_and_after(nsys: Path) -> None:
    write_report(nsys / "export.sqlite", [], [Launch(10, 20, [("k", 30, 40)])])
    ended = capture(nsys, "--out", "out", *command("pass"), NSYS_VERSION="2023.4.1.97-1")
    assert ended.status == 0
    before, after, _ = ended.stderr.splitlines()
    assert re.search(r"nvtx [\d.]+ records nothing under nsys 2023\.4\.1", before)
    assert after == before


def test_a_command_without_ranges_is_no_error(nsys: Path) -> None:
    write_report(nsys / "export.sqlite", [], [Launch(10, 20, [("k", 30, 40)])])
    ended = capture(nsys, "--out", "out", *command("pass"))
    assert ended.status == 0
    assert "the report holds no NVTX range" in ended.stderr
    assert "no kernel" not in ended.stderr


def test_a_report_without_kernels_is_said(nsys: Path) -> None:
    write_report(nsys / "export.sqlite", [Span("r", 0, 100)], [])
    ended = capture(nsys, "--out", "out", *command("pass"))
    assert ended.status == 0
    assert "the report holds no kernel" in ended.stderr
    assert "no NVTX range" not in ended.stderr


@pytest.mark.parametrize(
    ("version", "deaf"), [("2022.3.9", False), ("2022.4", True), ("2024.2.1", True), ("2025.3", False)]
)
def test_which_nsys_is_deaf_to_nvtx(version: str, deaf: bool) -> None:
    assert bool(nvtx_incompatibility(version)) == deaf


def test_no_permission_for_counters(tmp_path: Path) -> None:

    path = write_report(tmp_path / "a.sqlite", [Span("r", 0, 1)], [])
    assert what_is_missing(path) == ""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE DIAGNOSTIC_EVENT (text TEXT)")
        database.execute("INSERT INTO DIAGNOSTIC_EVENT VALUES ('CUPTI: insufficient privileges')")
        database.commit()
    assert "NVreg_RestrictProfilingToAdminUsers=0" in what_is_missing(path)


def test_without_nsys_the_error_says_where_it_hides_and_how_to_get_it(tmp_path: Path) -> None:
    if HIDDEN:
        pytest.skip(f"an nsys lies hidden here: {HIDDEN}")
    ended = profiles("capture", "--out", "out", *command("pass"), env={"PATH": str(tmp_path)}, cwd=tmp_path)
    assert ended.status == 2
    assert ended.error.startswith(
        "nsys was not found: not in PATH, under /opt/nvidia/nsight-systems, inside Nsight Compute"
    )
    assert "nsight-systems-cli" in ended.error
    assert "--collector torch" in ended.error
    assert not (tmp_path / "out").exists()


def test_the_newest_hidden_nsys_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReportError, match="nsys was not found"):
        find_nsys(tmp_path)
    hidden = [
        "opt/nvidia/nsight-compute/2025.3.1/host/target-linux-x64/nsys",
        "opt/nvidia/nsight-systems/2024.10.2/target-linux-x64/nsys",
        "opt/nvidia/nsight-systems/2024.9.1/bin/nsys",
    ]
    for number, name in enumerate(reversed(hidden)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
        assert find_nsys(tmp_path) == tmp_path / hidden[len(hidden) - 1 - number]


def test_a_report_is_exported_beside_itself_once(nsys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{nsys}{os.pathsep}{os.environ['PATH']}")
    report = tmp_path / "a.nsys-rep"
    report.write_bytes(b"report")
    assert analyse(report).ranges[0].kernels == 1
    made = exported(report)
    assert made == tmp_path / "a.sqlite"
    before = made.stat().st_mtime_ns
    assert exported(report).stat().st_mtime_ns == before


def test_a_directory_that_is_in_use_is_refused(nsys: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    ended = capture(nsys, "--out", "out", *command("pass"))
    assert (ended.status, ended.error) == (2, "out is not empty: --out takes a new name")


def test_nothing_to_record_is_a_usage_error(nsys: Path) -> None:
    assert capture(nsys, "--out", "out").status == 2


def test_the_profile_command_without_a_range() -> None:
    line = profile_command(Path("nsys"), Path("out/report"), None, ["a", "--b"])
    assert line[:2] == ["nsys", "profile"]
    assert line[-2:] == ["a", "--b"]
    assert not any("capture-range" in word for word in line)


# --- torch's own profiler, for real --------------------------------------------------------------------------

SCRIPT = """
import sys
import torch
from profiles.instruments.ranges import Ranges

ranges = Ranges("mine")
assert ranges.recorded
x = torch.ones(64, 64)
with ranges.range("outer", category="c", payload=1):
    torch.mm(x, x)
    with ranges.range("inner"):
        torch.softmax(x, -1)
print(sys.argv[1:])
sys.exit(int(sys.argv[1]))
"""


def test_torch_records_a_plain_script(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    ended = profiles(
        "capture", "--collector", "torch", "--out", "out", "--", sys.executable, "script.py", "5", "b", cwd=tmp_path
    )
    assert (ended.status, ended.stdout) == (5, "['5', 'b']\n")
    assert last_line(ended) == "recorded: python -m profiles analyze out/report.json.gz"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["capture.json", "report.json.gz"]
    found = {one.text: one for one in analyse(tmp_path / "out" / "report.json.gz").ranges}
    assert [use.kernel.name for use in found["mine:inner"].uses] == ["aten::softmax"]
    assert {use.kernel.name for use in found["mine:outer"].uses} == {"aten::mm", "aten::softmax"}
    assert found["mine:outer"].busy_ns >= found["mine:inner"].busy_ns > 0
    assert found["program"].kernels >= 3
    assert kept(tmp_path / "out").exit_status == 5


def test_torch_records_the_workers_of_a_run(tmp_path: Path) -> None:
    words = "--op rms_norm --arm torch --shapes 96 --batch 1,8 --dtype fp32 --relation repeat --quick --out run"
    ended = profiles(
        "capture", "--collector", "torch", "--out", "out", "--", sys.executable, "-m", "kernels_bench", *words.split(),
        cwd=tmp_path,
    )  # fmt: skip
    assert ended.status == 0, ended.stderr
    found = analyse(tmp_path / "out" / "report.json.gz", tmp_path / "run")
    ranges = {one.text: one for one in found.ranges}
    for m in (1, 8):
        one = ranges[f"kernels_bench:torch/rms_norm/96,fp32/{m}"]
        assert one.ranges >= 4  # a range a turn
        assert {use.kernel.name for use in one.uses} >= {"aten::rms_norm"}
    assert "kernels_bench:verify/torch/rms_norm/96/fp32" in ranges
    assert {one.reason for one in found.untold} == {"it was timed by the CPU's clock"}


def test_torch_sees_no_other_programs(tmp_path: Path) -> None:
    ended = profiles("capture", "--collector", "torch", "--out", "out", "--", "true", cwd=tmp_path)
    assert ended.status == 3
    assert ended.error.startswith("nothing was recorded: --collector torch sees Python programs that use torch")
    ended = profiles("capture", "--collector", "torch", "--out", "b", "--", "no-such-program", cwd=tmp_path)
    assert (ended.status, ended.error) == (2, "cannot start no-such-program: No such file or directory")
    ended = profiles("capture", "--collector", "torch", "--range", "a@b", "--", "true", cwd=tmp_path)
    assert (ended.status, ended.error) == (2, "--range needs --collector nsys: torch's profiler records every range")


RUN = "python -P -m profiles.capture.torch_program"


@pytest.mark.parametrize(
    ("command", "recorded"),
    [
        ("python a.py -m", f"{RUN} a.py -m"),
        ("/x/python3.11 -X dev -u -m mod x", "/x/python3.11 -X dev -u -P -m profiles.capture.torch_program -m mod x"),
        ("python -c pass", f"{RUN} -c pass"),
        ("python -m kernels_bench --quick", "python -m kernels_bench --quick"),
        ("python -m e2e", "python -m e2e"),
        ("bash x.sh", "bash x.sh"),
    ],
)
def test_how_a_command_is_recorded(command: str, recorded: str) -> None:
    assert recorded_command(command.split()) == recorded.split()


@pytest.mark.parametrize("command", [["python"], ["python", "-"], ["python", "-u"]])
def test_a_program_from_standard_input_is_refused(command: list[str]) -> None:
    with pytest.raises(ReportError, match="needs a program"):
        recorded_command(command)


def event(name: str, cat: str, ts: float, dur: float, pid: int = 7, tid: int = 7, **args: object) -> dict[str, object]:
    return {"ph": "X", "name": name, "cat": cat, "ts": ts, "dur": dur, "pid": pid, "tid": tid, "args": args}


GPU_TRACE = {
    "baseTimeNanoseconds": 5,
    "traceEvents": [
        event("r@kernels_bench", "user_annotation", 0, 10),
        event("aten::mm", "cpu_op", 0, 10),
        event("cudaLaunchKernel", "cuda_runtime", 1, 1, correlation=1),
        event("cudaGraphLaunch", "cuda_runtime", 3, 1, correlation=2),
        event("void at::native::(anonymous namespace)::reduce_kernel<512>(T3)", "kernel", 20, 5.5, pid=0, correlation=1,
              grid=[2, 3, 1], block=[64, 1, 1], **{"registers per thread": 40}),
        event("nvjet", "kernel", 30, 2, pid=0, correlation=2, grid=[1, 1, 1], block=[1, 1, 1], **{"graph node id": 9}),
        event("Memcpy DtoH", "gpu_memcpy", 31, 4, pid=0, correlation=2),
        event("nvjet", "kernel", 90, 2, pid=0, correlation=99),
        {"ph": "M", "name": "process_name"},
    ],
}  # fmt: skip


def test_a_trace_of_a_gpu(tmp_path: Path) -> None:
    # Written by hand after the traces that torch 2.11 gives on a GPU; none was taken for this test.
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GPU_TRACE))
    trace = read_torch_trace(path)
    assert any("1 kernels, copies and fills have no launch" in note for note in trace.notes)
    (one,) = [one for one in analyse(path).ranges if one.message == "r"]
    assert (one.domain, one.launches, one.kernels, one.copies, one.busy_ns) == ("kernels_bench", 2, 2, 1, 10_500)
    (kernel,) = [use.kernel for use in one.uses if use.kernel.name == "reduce_kernel"]
    assert (kernel.grid, kernel.block, kernel.registers) == ((2, 3, 1), (64, 1, 1), 40)
    assert trace.work.in_graph.tolist() == [False, True, False]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"traceEvents": 3}', '{"traceEvents": [{"ph": "X", "cat": "kernel"}]}']
)
def test_a_damaged_trace_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ReportError, match="torch's profiler") as caught:
        read_torch_trace(path)
    assert "\n" not in str(caught.value)
    shutil.copy(path, tmp_path / "a.json.gz")
    with pytest.raises(ReportError):
        read_torch_trace(tmp_path / "a.json.gz")


def test_captures_of_one_second_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = []
    for _ in range(5):
        made.append(default_directory())
        prepare(made[-1])
        (made[-1] / "something").touch()
    assert len({*made}) == 5
