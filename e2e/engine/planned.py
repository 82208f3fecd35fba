"""The arm ``planned``: a plan's kernels put into its engine, and what that tells of them once it is up."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

from kernels_bench.planned.use import PlanUse
from kernels_bench.planned.variables import REPORT

GROUP, NAME, PLUGIN = "vllm.general_plugins", "samebits", "kernels_bench.planned.plugin:register"
"""As in pyproject.toml: where vLLM looks for plugins, and ours."""


def begin() -> None:
    """Have vLLM find the plugin in this process and in those that it starts; to be called before it looks."""
    os.environ[REPORT] = str(_report())
    if not entry_points(group=GROUP, name=NAME):
        _announce()


def _announce() -> None:
    """Say of the plugin what an installation would, where samebits is run from a checkout."""
    folder = Path(tempfile.mkdtemp(prefix="samebits-plugin-"))
    about = folder / "samebits_plan-0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: samebits-plan\nVersion: 0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\n{NAME} = {PLUGIN}\n", encoding="utf-8")
    sys.path.append(str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(folder))))


def outcome() -> PlanUse:
    """What became of the plan in an engine that has answered something.

    Raises:
        RuntimeError: the engine tells nothing of it, so that its kernels may be anybody's.
    """
    try:
        return PlanUse.model_validate_json(_report().read_bytes())
    except FileNotFoundError:
        raise RuntimeError(
            "the engine's processes have not loaded the plan; leave VLLM_PLUGINS unset, or have it name samebits too"
        ) from None


def _report() -> Path:
    return Path(tempfile.gettempdir()) / f"plan-{os.getpid()}.json"
