"""Who may go on with a run: one live process, in the environment in which it began."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from kernels_bench.records.cases import Device
from kernels_bench.records.manifest import RECORDS, ResultsError, RunDirectory
from kernels_bench.records.results import SCHEMA_VERSION
from profiles.instruments.environment import read_environment
from support.run_directories import as_of_schema, heard, python, refusal
from support.stored_records import manifest

HOLDER = """
import sys, time
from pathlib import Path
from kernels_bench.records.manifest import RunDirectory
run = RunDirectory.resume(Path(sys.argv[1]))
print("holds", flush=True)
time.sleep(600)
"""


def test_a_directory_belongs_to_one_live_process(ended: Path) -> None:
    before = (ended / RECORDS).read_bytes() + b'{"kind":"ti'
    with python(HOLDER, ended) as holder:
        assert heard(holder) == "holds"
        (ended / RECORDS).write_bytes(before)  # as if the other were in the middle of writing
        error = refusal(ended)
        assert "in use by another run" in str(error)
        assert error.status == 2
        assert (ended / RECORDS).read_bytes() == before
        holder.send_signal(signal.SIGKILL)
    RunDirectory.resume(ended).close()


def test_a_run_of_an_older_schema_is_read_and_not_gone_on_with(ended: Path) -> None:
    as_of_schema(ended, 4)
    before = (ended / RECORDS).read_bytes()
    assert f"has schema 4, and this samebits writes {SCHEMA_VERSION}; start a new run" in str(refusal(ended))
    assert (ended / RECORDS).read_bytes() == before


def test_the_same_environment_may_go_on(run: RunDirectory) -> None:
    run.refuse_other_environment(read_environment(), manifest().device)


def test_another_environment_is_refused_with_every_reason(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    now = read_environment()
    now = now.model_copy(update={"versions": {**now.versions, "torch": "9.9.9"}, "source_digest": "other"})
    with pytest.raises(ResultsError) as caught:
        run.refuse_other_environment(now, Device(type="cpu", name="Another CPU"))
    message = str(caught.value)
    assert caught.value.status == 2
    assert "\n" not in message
    for reason in ("OMP_NUM_THREADS", "77 now", "torch", "9.9.9 now", "source_digest", "AMD EPYC then, Another CPU"):
        assert reason in message
