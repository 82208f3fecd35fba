"""The environment record: complete, private, exact in JSON, and every difference is named."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from profiles.instruments import environment, torch_ranges
from profiles.instruments.environment import (
    PACKAGES,
    VARIABLES,
    Environment,
    differences,
    read_environment,
    read_environment_with,
)
from profiles.instruments.telemetry import DeviceFacts
from support.processes import LIMIT_S

NOT_COMPARED = {"git_commit", "git_dirty", "memory_bytes", "profiler"}
NESTED = {"versions", "variables", "device"}

words = st.text(st.characters(codec="utf-8"), max_size=20)
counts = st.integers(0, 2**63)
devices = st.builds(
    DeviceFacts,
    name=words,
    uuid=words,
    driver_version=words,
    cuda_driver_version=words,
    max_sm_clock_mhz=st.none() | counts,
    max_memory_clock_mhz=st.none() | counts,
    power_limit_w=st.none() | st.floats(0, 1e4),
    memory_total_bytes=st.none() | counts,
)
environments = st.builds(
    Environment,
    samebits_version=st.none() | words,
    source_digest=words,
    git_commit=st.none() | words,
    git_dirty=st.none() | st.booleans(),
    python_version=words,
    os=words,
    machine=words,
    cpu_model=st.none() | words,
    logical_cores=st.none() | counts,
    usable_cores=st.none() | counts,
    memory_bytes=st.none() | counts,
    versions=st.dictionaries(st.sampled_from(PACKAGES), words),
    variables=st.dictionaries(st.sampled_from(VARIABLES), words),
    device=st.none() | devices,
    profiler=st.none() | words,
)


def named(lines: tuple[str, ...]) -> set[str]:
    return {line.partition(":")[0] for line in lines}


@given(environments)
def test_json_round_trip_is_exact(there: Environment) -> None:
    assert Environment.model_validate_json(there.model_dump_json()) == there


@pytest.mark.parametrize(
    ("variable", "profiler"),
    [("NSYS_PROFILING_SESSION_ID", "nsys"), (torch_ranges.VARIABLE, "torch"), ("SOMETHING_ELSE", None)],
)
def test_what_records_the_run_is_kept(monkeypatch: pytest.MonkeyPatch, variable: str, profiler: str | None) -> None:
    monkeypatch.setenv(variable, "1")
    assert read_environment().profiler == profiler


@given(environments)
def test_nothing_differs_from_itself(there: Environment) -> None:
    assert differences(there, there) == ()


@given(environments, environments)
def test_differences_are_symmetric(a: Environment, b: Environment) -> None:
    assert named(differences(a, b)) == named(differences(b, a))


@given(environments, environments, st.sampled_from(sorted(set(Environment.model_fields) - NESTED)))
def test_a_changed_field_is_named_alone(a: Environment, b: Environment, field: str) -> None:
    value = getattr(b, field)
    assume(value != getattr(a, field))
    changed = a.model_copy(update={field: value})
    assert named(differences(a, changed)) == {field} - NOT_COMPARED


@given(environments, st.sampled_from(PACKAGES), words)
def test_a_changed_version_is_named_alone(a: Environment, package: str, version: str) -> None:
    assume(a.versions.get(package) != version)
    changed = a.model_copy(update={"versions": {**a.versions, package: version}})
    assert named(differences(a, changed)) == {package}


@given(environments, st.sampled_from(VARIABLES), words)
def test_a_changed_variable_is_named_alone(a: Environment, variable: str, value: str) -> None:
    assume(a.variables.get(variable) != value)
    changed = a.model_copy(update={"variables": {**a.variables, variable: value}})
    assert named(differences(a, changed)) == {variable}


@given(environments, devices, devices, st.sampled_from(sorted(DeviceFacts.model_fields)))
def test_a_changed_device_is_named(a: Environment, card: DeviceFacts, other: DeviceFacts, field: str) -> None:
    assume(getattr(card, field) != getattr(other, field))
    changed = card.model_copy(update={field: getattr(other, field)})
    then, now = (a.model_copy(update={"device": device}) for device in (card, changed))
    assert named(differences(then, now)) == {f"device_{field}"}


def _here(**changes: Any) -> Environment:
    return read_environment().model_copy(update=changes)


def test_lines_say_then_and_now() -> None:
    then = _here(versions={"torch": "2.11.0"}, variables={"OMP_NUM_THREADS": "2"})
    now = then.model_copy(update={"versions": {"torch": "2.13.0", "vllm": "0.33.0"}, "variables": {}})
    assert differences(then, now) == (
        "torch: 2.11.0 then, 2.13.0 now",
        "OMP_NUM_THREADS: 2 then, none now",
        "vllm: none then, 0.33.0 now",
    )


def test_this_machine_is_described() -> None:
    here = read_environment()
    assert here.device is None
    assert {"torch", "numpy", "nvtx", "nvidia-ml-py"} <= here.versions.keys()
    assert here.usable_cores is not None
    assert here.logical_cores is not None
    assert 1 <= here.usable_cores <= here.logical_cores
    assert here.memory_bytes is not None
    assert here.memory_bytes > 2**28


def test_only_listed_variables_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    monkeypatch.setenv("SAMEBITS_TEST_TOKEN", "a-secret-value")
    here = read_environment()
    assert here.variables == {"CUBLAS_WORKSPACE_CONFIG": ":16:8"}
    assert "a-secret-value" not in here.model_dump_json()


def test_no_path_nor_home_is_kept() -> None:
    text = read_environment().model_dump_json()
    assert str(Path(environment.__file__).parents[2]) not in text
    assert os.path.expanduser("~") not in text


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source tree of its own, in place of the real one."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "a.py").write_text("a = 1\n")
    monkeypatch.setattr(environment, "_SOURCE_TREE", tmp_path)
    return tmp_path


def _git(tree: Path, *arguments: str) -> str:
    command = ["git", "-C", str(tree), "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout.strip()


def test_a_change_of_the_code_forbids_mixing_but_a_commit_of_it_does_not(tree: Path) -> None:
    _git(tree, "init", "-q")
    assert (read_environment().git_commit, read_environment().git_dirty) == (None, None)
    _git(tree, "add", ".")
    _git(tree, "commit", "-qm", "first")
    clean = read_environment()
    assert (clean.git_commit, clean.git_dirty) == (_git(tree, "rev-parse", "HEAD"), False)

    (tree / "profiles" / "b.py").write_text("b = 2\n")
    changed = read_environment()
    assert (changed.git_commit, changed.git_dirty) == (clean.git_commit, True)
    assert named(differences(clean, changed)) == {"source_digest"}

    _git(tree, "add", ".")
    _git(tree, "commit", "-qm", "second")
    committed = read_environment()
    assert (committed.git_commit != clean.git_commit, committed.git_dirty) == (True, False)
    assert differences(changed, committed) == ()


def test_somebody_elses_repository_around_an_installation_is_not_ours(tree: Path) -> None:
    _git(tree.parent, "init", "-q")
    assert (read_environment().git_commit, read_environment().git_dirty) == (None, None)


def test_without_git_the_commit_is_unknown(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _git(tree, "init", "-q")
    monkeypatch.setenv("PATH", "")
    assert read_environment().git_commit is None


def test_a_card_that_cannot_be_asked_is_said_and_left_out() -> None:
    said: list[str] = []
    assert read_environment_with(None, said.append) == read_environment()
    assert said == []
    assert read_environment_with("no-such-card", said.append) == read_environment()
    assert len(said) == 1
    assert said[0].startswith("no telemetry: ")
