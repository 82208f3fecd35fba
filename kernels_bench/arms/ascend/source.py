"""Where vllm-ascend's Triton kernels are, and how one of its files is loaded without the rest of it.

Nothing of vllm-ascend lies in this project.  Its package cannot be imported without an NPU, but the files of its
batch-invariant Triton kernels import nothing except torch, and Triton by way of vLLM.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from profiles.installing import pip_install

VARIABLE = "SAMEBITS_VLLM_ASCEND"
"""Names the directory that holds the package ``vllm_ascend``, where it is not installed."""
VERSION = "0.23.0"
"""The release that these arms were written to; its wheel for Python 3.11 holds the kernels as plain Python files."""
FOLDER = Path("vllm_ascend/ops/triton/batch_invariant")
FETCH = (
    *("--no-deps", "--only-binary=:all:", "--platform", "manylinux_2_34_aarch64", "--python-version", "3.11"),
    *("--target", "vllm-ascend", f"vllm-ascend=={VERSION}"),
)
"""What pip is told to unpack that wheel, on any machine, into a directory of its own.

Not beside other packages: a vLLM that finds it there takes it for its platform, and does not start without an NPU.
"""


def place() -> Path | None:
    """The directory that holds ``vllm_ascend`` with its batch-invariant Triton kernels, or None."""
    named = os.environ.get(VARIABLE)
    if named:
        candidates = [Path(named)]
    else:
        spec = importlib.util.find_spec("vllm_ascend")
        candidates = [Path(found).parent for found in (spec.submodule_search_locations or ())] if spec else []
    return next((one for one in candidates if (one / FOLDER / "matmul.py").is_file()), None)


def missing() -> str | None:
    """Why the kernels cannot be had, with the line that gets them; None if they are there."""
    if place() is not None:
        return None
    if named := os.environ.get(VARIABLE):
        return f"{VARIABLE}={named} holds no {FOLDER}/matmul.py: {pip_install(*FETCH)}"
    return f"vllm-ascend's source is not here: {pip_install(*FETCH)}; then set {VARIABLE}=vllm-ascend"


def version() -> str:
    """The version of what `place` gives."""
    found = place()
    there = importlib.metadata.distributions(path=[str(found)]) if found is not None else ()
    versions = (one.version for one in there if one.metadata["Name"].replace("_", "-") == "vllm-ascend")
    return next(versions, "of no known version")


@cache
def kernel_file(name: str) -> ModuleType:
    """One of vllm-ascend's files of batch-invariant kernels, loaded as it is.

    Args:
        name: the file's, such as ``matmul``.

    Raises:
        ImportError: it is not there, or does not import.
    """
    found = place()
    if found is None:
        raise ImportError(missing())
    _give_triton()
    path = found / FOLDER / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"samebits_vllm_ascend_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where Triton looks for what its kernels refer to
    spec.loader.exec_module(module)
    return module


def _give_triton() -> None:
    """Let these files import Triton from ``vllm.triton_utils`` without loading vLLM, of which they need no more."""
    if "vllm.triton_utils" in sys.modules:
        return
    given = ModuleType("vllm.triton_utils")
    given.__dict__.update(triton=importlib.import_module("triton"), tl=importlib.import_module("triton.language"))
    sys.modules[given.__name__] = given
