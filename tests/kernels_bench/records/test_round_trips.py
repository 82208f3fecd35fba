"""Run directories: what is written comes back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.latest_records import latest_records
from kernels_bench.records.manifest import RECORDS, ResultsError, RunDirectory, read_manifest, read_records
from kernels_bench.records.results import (
    NUMBERED_FROM,
    READABLE_VERSIONS,
    AnyRecord,
    Rough,
    Samples,
    Timing,
    Verification,
)
from kernels_bench.report.summary.summarise import summarise_run
from profiles.run_files.numbered_lines import numbered
from support.records import case, facts, held, verified
from support.run_directories import EVERY_KIND, as_of_schema
from support.stored_records import manifest, timing, verification
from support.summaries import same_order


@pytest.mark.parametrize("record", EVERY_KIND, ids=lambda record: f"{record.kind}-{getattr(record, 'status', '')}")
def test_every_kind_of_record_comes_back_as_it_was_written(run: RunDirectory, record: AnyRecord) -> None:
    run.append(record)
    (back,) = read_records(run.path, samples=True)
    assert type(back) is type(record)
    assert back.model_dump_json() == record.model_dump_json()


def test_a_rough_timing_comes_back_and_is_found_by_its_case(run: RunDirectory) -> None:
    slow = case("samebits[64x128x64w4s4]")
    for us in (5.0, 3.5):
        run.append(Rough(case=slow, status="measured", us={1: us, 4096: 812.25}, seconds=1.5))
    failed = Rough(case=case("samebits[other]"), status="failed", reason="out of resource", cause="other")
    run.append(failed)
    known = latest_records(read_records(run.path))
    assert known.rough[slow.key].us == {1: 3.5, 4096: 812.25}
    assert known.rough[failed.case.key] == failed
    assert slow.process == "samebits"


def test_nan_and_infinity_come_back_as_numbers(run: RunDirectory) -> None:
    run.append(verification())
    run.append(timing())
    verified, timed = read_records(run.path)
    assert isinstance(verified, Verification)
    assert isinstance(timed, Timing)
    assert verified.accuracy is not None
    assert verified.counterexample is not None
    assert timed.warm is not None
    assert math.isnan(verified.accuracy.got)
    assert verified.accuracy.worst == math.inf
    assert verified.counterexample.expected == -math.inf
    assert timed.warm.error == math.inf
    assert verified.digests.keys() == {1, 4096}


def test_every_line_is_strict_json(ended: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    lines = (ended / RECORDS).read_text().splitlines()
    kinds = [json.loads(line, parse_constant=refuse)["kind"] for line in lines]
    assert kinds == ["arm", "verification", "verification", "ceiling", "timing", "timing", "finished"]


def test_samples_are_left_out_unless_asked_for(ended: Path) -> None:
    without = next(r for r in read_records(ended) if isinstance(r, Timing))
    whole = next(r for r in read_records(ended, samples=True) if isinstance(r, Timing))
    assert (without.warm_samples, without.cold_samples) == (None, None)
    assert whole.warm_samples is not None
    assert without.warm == whole.warm


def test_the_manifest_comes_back_as_it_was_written(run: RunDirectory) -> None:
    assert read_manifest(run.path) == manifest()


@pytest.mark.parametrize("version", READABLE_VERSIONS)
def test_runs_of_earlier_schemas_are_read(ended: Path, version: int) -> None:
    """As they were written: without what is newer."""
    newer = {2: {"sizes", "elements", "power", "cut", "binding"}, 3: {"elements", "power", "cut", "binding"}}
    left_out = newer.get(version, set())
    as_of_schema(ended, version)
    records = [json.loads(line) for line in (ended / RECORDS).read_text().splitlines()]
    for record in records:
        if left_out:
            record.pop("other_bits", None)
        for result in record.get("relations", ()):
            for name in left_out:
                del result[name]
    if version < NUMBERED_FROM:
        (ended / RECORDS).write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read_manifest(ended).schema_version == version
    verified = next(r for r in read_records(ended) if isinstance(r, Verification))
    assert [result.relation for result in verified.relations] == [r.relation for r in verification().relations]
    assert verified.verdict == verification().verdict
    if left_out:
        assert {(result.power, result.cut, result.binding) for result in verified.relations} == {(0, False, True)}


def test_what_was_once_called_proven_is_kept_and_its_order_the_same() -> None:
    record = verified(case(), held(), order=same_order())
    assert (record.verdict, summarise_run([record], facts()).arms[0].orders) == ("sampled", {"same": 1})


def test_a_copy_with_other_sizes_is_known_by_its_own() -> None:
    """Whatever the original was asked before."""
    shape = Shape(label="s", n=8, k=8)
    judged = Case(arm="a", operator="mm", shape=shape, precision=Precision.parse("bf16"))
    assert (shape.token, judged.key) == ("8x8", "a/mm/8x8/bf16")
    wide = shape.model_copy(update={"n": 16})
    assert wide.token == "16x8"
    assert judged.model_copy(update={"shape": wide}).key == "a/mm/16x8/bf16"


def test_a_count_that_no_float_holds_is_no_record(tmp_path: Path) -> None:
    """JSON's numbers may have any length: one of 5000 digits of bytes would be found out when a speed is made of it."""
    told = json.loads(timing().model_dump_json())
    for name in ("m", "bytes_moved", "operations"):
        Timing.model_validate({**told, name: 2**63})
        with pytest.raises(ValidationError, match=f"{name} is a number of more than 64 bits"):
            Timing.model_validate({**told, name: 10**400})
    run = RunDirectory.create(tmp_path / "run", manifest())
    run.append(timing())
    run.close()
    line = json.dumps({**told, "bytes_moved": 10**400}).encode()
    with (run.path / RECORDS).open("ab") as file:
        file.write(numbered(2, line) + b"\n")
    with pytest.raises(ResultsError, match="more than 64 bits"):
        list(read_records(run.path))


def test_samples_have_a_clock_each_or_none_at_all() -> None:
    told = json.loads(timing().model_dump_json())["warm_samples"]
    assert Samples.model_validate({**told, "clock_mhz": ()}).clock_mhz == ()
    with pytest.raises(ValidationError, match=f"{len(told['us'])} samples have 1 clocks"):
        Samples.model_validate({**told, "clock_mhz": told["clock_mhz"][:1]})
