"""One arm, loaded: its kernels, its candidates', and each of them over a case's rows and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from kernels_bench.arms import (
    Arm,
    Kernel,
    PluginError,
    Unsupported,
    arms,
    candidate_kernels_of,
    claims_of,
    kernels_of,
    load_plugin,
    said_by,
    unit_roundoff,
)
from kernels_bench.arms.plugins import with_plugins
from kernels_bench.console.mistakes import told
from kernels_bench.device.detect import find_device
from kernels_bench.device.errors import is_out_of_memory
from kernels_bench.records.cases import Case, label_of
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest, bind
from kernels_bench.workers.messages import LoadArm
from profiles.instruments.ranges import Ranges


class LoadedArm:
    """An arm's kernels, and its candidates', which are loaded when they are first used.

    Args:
        request: which arm.
        device: where its kernels run.
        ranges: are around what they do.

    Attributes:
        name: the arm's.
        plugin: the user's file that it comes from; None of ours.
        operators: all that there are, by name.
        claims: the relations that the arm says it keeps.

    Raises:
        PluginError: the plugin, or what its arm says of itself, cannot be used.
        Unsupported: the arm cannot run here.
    """

    def __init__(self, request: LoadArm, device: torch.device, ranges: Ranges) -> None:
        plugins = [load_plugin(request.plugin)] if request.plugin else []
        self._arm = plugins[0].arm(request.arm) if plugins else arms()[request.arm]
        self._device, self._ranges = device, ranges
        self.name, self.plugin, self.operators = self._arm.name, request.plugin, with_plugins(plugins)
        self.claims, self._unit = claims_of(self._arm), unit_roundoff(self._arm)
        self._kernels = self._guarded(lambda: kernels_of(self._arm, self.operators))
        self._of_candidates: dict[str, Mapping[str, Kernel]] = {}

    @property
    def provenance(self) -> str:
        """Which version and path it uses, and the precision by which it is judged where it states one."""
        return "; ".join(filter(None, (said_by(self._arm, "provenance"), _stated(self._arm))))

    def kernel(self, case: Case) -> Kernel:
        """The kernel of a case, of the arm or of the candidate that the case names.

        Raises:
            Unsupported: there is none.
            PluginError: the candidate's kernels cannot be loaded.
        """
        return bind(case, self._kernels_for(case))

    def subject(
        self,
        case: Case,
        seed: int,
        universe: int,
        *,
        watched: bool,
        length: int | None = None,
        lengths: tuple[int, ...] = (),
    ) -> KernelUnderTest:
        """A case's kernel over rows and weights.

        Args:
            case: which.
            seed: of the data.
            universe: number of rows.
            watched: whether a copy of the weights is kept, to see whether they are changed.
            length: tokens of every sequence, where they are all of one length.
            lengths: those that the user named.

        Raises:
            Unsupported: there is no such kernel.
            PluginError: the candidate's kernels cannot be loaded.
        """
        kernel = self.kernel(case)
        operator = self.operators[case.operator].with_lengths(lengths).for_length(length)
        found = KernelUnderTest(
            case, operator, kernel, seed=seed, universe=universe, device=self._device, watched=watched
        )
        found.unit = self._unit
        found.announce_in(self._ranges)
        return found

    def _kernels_for(self, case: Case) -> Mapping[str, Kernel]:
        label = label_of(case.arm)
        if not label:
            return self._kernels
        if label not in self._of_candidates:
            device = find_device()
            self._of_candidates[label] = self._guarded(
                lambda: candidate_kernels_of(self._arm, label, device, self.operators)
            )
        return self._of_candidates[label]

    def _guarded(self, load: Callable[[], Mapping[str, Kernel]]) -> Mapping[str, Kernel]:
        """What a function loads; a plugin that cannot give any kernels is told the line of it."""
        try:
            return load()
        except PluginError as error:
            raise PluginError(f"plugin {self.plugin}: {error}" if self.plugin else str(error)) from None
        except Exception as error:
            if self.plugin is None or isinstance(error, Unsupported) or is_out_of_memory(error):
                raise
            raise PluginError(f"plugin {self.plugin}: kernels() raises {told(error, self.plugin)}") from error


def _stated(arm: Arm) -> str:
    """How an arm's results are judged, where it states another precision than its inputs'."""
    return f"judged by the precision that it states, {arm.precision}" if arm.precision else ""
