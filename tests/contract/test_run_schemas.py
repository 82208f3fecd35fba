"""Two packages read a run of kernels_bench, of which neither imports the other."""

import json
from pathlib import Path

from kernels_bench.records.manifest import RunDirectory
from kernels_bench.records.results import READABLE_VERSIONS, Verification
from profiles.run_files.kernels_bench_run import SCHEMA_VERSIONS, read_run
from profiles.run_files.run_directory import MANIFEST
from support.records import broken, case, held, verified
from support.stored_records import manifest


def written(path: Path, *records: Verification) -> Path:
    directory = RunDirectory.create(path, manifest())
    for record in records:
        directory.append(record)
    directory.close()
    return path


def test_both_read_the_same_schemas() -> None:
    assert SCHEMA_VERSIONS == READABLE_VERSIONS


def test_both_take_the_same_verdicts_for_variant(tmp_path: Path) -> None:
    """What an arm leaves to its callers makes none."""
    left = broken(16, "layout").model_copy(update={"binding": False})
    records = [verified(case("torch"), held(), broken(5)), verified(case("vllm"), held(), left), verified(case("mine"))]
    run = written(tmp_path / "run", *records)
    variants = {variant.case.arm for variant in read_run(run).variants}
    assert variants == {record.case.arm for record in records if record.verdict == "variant"} == {"torch"}
    assert json.loads((run / MANIFEST).read_text())["schema_version"] == SCHEMA_VERSIONS[-1]
