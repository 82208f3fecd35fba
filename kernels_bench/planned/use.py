"""What became of a plan in an engine, as a record."""

from __future__ import annotations

from profiles.run_files.record import Record


class KernelUse(Record):
    """Which kernels an engine calls for one operator at one shape and dtype.

    Attributes:
        key: such as ``linear/4096x12288/bf16``.
        kernels: which at which M, in words.
        planned: whether the plan has it; else it is outside of the plan, and has one kernel at every M.
        calls: how often it was called up to the engine's first batch; graphs that are replayed later call nothing.
    """

    key: str
    kernels: str
    planned: bool
    calls: int


class PlanUse(Record):
    """What became of a plan in an engine.

    Attributes:
        plan: its file, or ``default``.
        digest: the first 16 hex digits of the file's SHA-256; empty without a file.
        vllm: the engine's version.
        linears: layers that multiply by weights that are not quantised, the LM head among them.
        linears_planned: those of them that the plan has kernels for.
        norms: RMS norms over whole rows.
        uses: of every operator and shape that was called.
    """

    plan: str
    digest: str
    vllm: str
    linears: int
    linears_planned: int
    norms: int
    uses: tuple[KernelUse, ...]

    @property
    def in_words(self) -> str:
        """As a part of a sentence."""
        called = sum(use.calls > 0 for use in self.uses)
        source = "kernels of no plan's file" if not self.digest else f"plan {self.digest}"
        planned = f"{self.linears_planned} of {self.linears} linears" if self.digest else f"{self.linears} linears"
        return f"{source} in {planned}, {called} shapes called"
