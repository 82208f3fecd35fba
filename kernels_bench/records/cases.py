"""The vocabulary that every process shares: precision, shape, case.  Plain immutable data, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

from profiles.run_files.record import Record

if TYPE_CHECKING:
    import torch

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
ITEM_SIZE = {"bf16": 2, "fp16": 2, "fp32": 4}
PRECISIONS = ("bf16", "fp16", "fp32", "bf16:fp32", "fp16:fp32")

Logits = Literal["flat", "rising", "falling"]
LOGITS: tuple[Logits, ...] = ("flat", "rising", "falling")
"""How the logits of a sequence's keys go, where the order of attention's sum over them is read."""

Launch = Literal[
    "eager",
    "graph",
    "view",
    "offset",
    "columns",
    "transposed",
    "expanded",
    "padded",
    "concurrent",
    "updated",
    "kept",
    "inference",
    "gradients",
    "default_dtype",
]
"""How a batch is launched: eagerly; from a CUDA graph; with rows that are a view of a wider tensor; that begin at an
odd address; with NaN before and after them in memory; beside another launch at the same time; with other weights, which
were written over those of an earlier call; its result looked at after another call; in inference mode; with gradients
switched over, or under another default dtype than without."""
LAUNCHES: tuple[Launch, ...] = get_args(Launch)


class Precision(Record):
    """The dtype of an operator's inputs and that of its result.

    Written ``bf16`` where they are the same and ``bf16:fp32`` where a 16-bit input gives an fp32 result.

    Attributes:
        input: dtype of the inputs, by its short name.
        output: dtype of the result, likewise.
    """

    input: str
    output: str

    @classmethod
    def parse(cls, text: str) -> Precision:
        """Read ``bf16`` or ``bf16:fp32``.

        Raises:
            ValueError: a dtype that samebits does not know.
        """
        if text not in PRECISIONS:
            raise ValueError(f"unknown dtype {text!r}: known are {', '.join(PRECISIONS)}")
        first, _, second = text.partition(":")
        return cls(input=first, output=second or first)

    def __str__(self) -> str:
        return self.input if self.input == self.output else f"{self.input}:{self.output}"

    @property
    def torch_input(self) -> torch.dtype:
        """The inputs' dtype, for processes that have torch."""
        return torch_dtype(self.input)

    @property
    def torch_output(self) -> torch.dtype:
        """The result's dtype, for processes that have torch."""
        return torch_dtype(self.output)


def at_token(token: int | None) -> str:
    """Which of a sequence's tokens, as a part of a sentence; nothing where rows are no sequences."""
    return "" if token is None else f", token {token},"


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of one of `DTYPES`."""
    import torch

    dtype = getattr(torch, DTYPES[name])
    assert isinstance(dtype, torch.dtype)
    return dtype


MAY_BE_ZERO = ("window", "softcap", "sinks")
"""Sizes of a shape that may be 0, which says that there is no such thing."""

ShapeSource = Literal["models", "typed", "invented"]
SHAPE_SOURCES: tuple[ShapeSource, ...] = ("models", "typed", "invented")
"""Where shapes come from: a model, a user's command line or operator, or samebits itself."""


class Shape(Record):
    """One operator's fixed sizes; the number of rows, M, is not among them.

    Attributes:
        label: where the shape comes from, such as ``qwen3-8b/o_proj``.
        k: the length that is reduced (GEMM's K; a row operator's row length).
        n: columns of a GEMM's result; None for row operators.
        b: matrices side by side (heads of `bmm_heads`); None elsewhere.
        heads: query heads of attention, whose ``k`` is the head dimension; None elsewhere.
        kv_heads: key and value heads of attention; None elsewhere.
        page: tokens a page of attention's KV cache; None elsewhere.
        tokens: KV length of attention's longest sequence; None elsewhere.
        window: keys that a query of attention sees at most, its own among them; 0 for all, None where there is none.
        softcap: what attention's logits are kept below, by a tanh; 0 for no bound, None where there is none.
        sinks: 1 where each head of attention has a sink, 0 where not, None where there are none.
        sizes: names and sizes of an operator of a user's own, whose ``k`` says nothing; none elsewhere.
    """

    label: str
    k: int
    n: int | None = None
    b: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    page: int | None = None
    tokens: int | None = None
    window: int | None = None
    softcap: int | None = None
    sinks: int | None = None
    sizes: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, label: str, sizes: Mapping[str, int]) -> Shape:
        """A shape of an operator of a user's own."""
        return cls(label=label, k=0, sizes=tuple(sizes.items()))

    def size(self, name: str) -> int:
        """One of `sizes`, by its name."""
        return dict(self.sizes)[name]

    @cached_property
    def token(self) -> str:
        """The sizes alone, such as ``4096x12288`` (N x K): what identifies the shape."""
        if self.sizes:
            return "x".join(str(size) for _, size in self.sizes)
        attention = (self.heads, self.kv_heads, self.k, self.page, self.tokens, self.window, self.softcap, self.sinks)
        sizes = (self.b, self.n, *attention)
        return "x".join(str(size) for size in sizes if size is not None)

    @property
    def model(self) -> str:
        """The model that its name begins with, or another set's name."""
        return self.label.partition("/")[0]

    @property
    def invented(self) -> bool:
        """Whether no model has it: sizes that no tile divides, and the small ones that a CPU gets."""
        return self.label.startswith(("unaligned/", "small/"))

    @property
    def source(self) -> ShapeSource:
        """Where it comes from: sizes that a user gave have no other name."""
        return "invented" if self.invented else "typed" if self.label == self.token else "models"

    @property
    def columns(self) -> int:
        """N.

        Raises:
            ValueError: a row operator's shape, which has none.
        """
        if self.n is None:
            raise ValueError(f"shape {self.label} has no N")
        return self.n


Claims = bool | tuple[str, ...]
"""What an arm says of itself: that it keeps every relation but those of `CLAIMED_APART`, none, or those named."""

CLAIMED_APART = ("surroundings",)
"""What an arm claims by its name alone: most callers never change it around a kernel."""


def claimed(claims: Claims, relation: str) -> bool:
    """Whether an arm says that it keeps a relation."""
    return claims and relation not in CLAIMED_APART if isinstance(claims, bool) else relation in claims


def candidate_name(arm: str, label: str) -> str:
    """What one of an arm's candidates is called, in an arm's place."""
    return f"{arm}[{label}]"


def label_of(arm: str) -> str:
    """The label of a candidate's name; empty where an arm itself is named."""
    return arm[arm.index("[") + 1 : -1] if arm.endswith("]") and "[" in arm else ""


def process_of(arm: str) -> str:
    """The arm in whose process it runs: itself, or the one whose candidate it is."""
    return arm[: arm.index("[")] if label_of(arm) else arm


class Load(Record):
    """A batch that is timed.

    Attributes:
        m: number of rows.
        length: tokens of every sequence, where rows are sequences; None elsewhere.
    """

    m: int
    length: int | None = None

    @property
    def token(self) -> str:
        """Such as ``16``, or ``16x4096`` for 16 sequences of 4096 tokens: what identifies the load of a case."""
        return str(self.m) if self.length is None else f"{self.m}x{self.length}"


class Case(Record):
    """One arm's implementation of one operator at one shape and precision.

    Attributes:
        arm: who computes it, or ``ARM[LABEL]`` for one of an arm's candidates.
        operator: what is computed.
        shape: its fixed sizes.
        precision: the dtypes of its inputs and its result.
    """

    arm: str
    operator: str
    shape: Shape
    precision: Precision

    @cached_property
    def key(self) -> str:
        """What identifies the case in a run, such as ``torch/mm/4096x4096/bf16``."""
        return f"{self.arm}/{self.operator}/{self.shape.token}/{self.precision}"

    @property
    def without_arm(self) -> str:
        """The key of the same case over all arms."""
        return self.key.split("/", 1)[1]

    @property
    def process(self) -> str:
        """The arm in whose process it runs, see `process_of`."""
        return process_of(self.arm)


DeviceType = Literal["cuda", "npu", "cpu"]


def scale_of(device: str) -> Literal["cuda", "cpu"]:
    """Whose sizes and budgets a type of device has: a GPU's, or a CPU's."""
    return "cpu" if device == "cpu" else "cuda"


class Device(Record):
    """What the kernels run on.

    Attributes:
        type: ``cuda``, ``npu`` or ``cpu``.
        name: as the driver or the operating system gives it.
        capability: CUDA compute capability, such as (9, 0); None where there is no GPU.
        uuid: the GPU's, so that telemetry watches the same card, and ``NPU-0`` of an NPU; None on a CPU.
    """

    type: DeviceType
    name: str
    capability: tuple[int, int] | None = None
    uuid: str | None = None

    @property
    def scale(self) -> Literal["cuda", "cpu"]:
        """Whose sizes and budgets it has, see `scale_of`."""
        return scale_of(self.type)

    @property
    def sm(self) -> str:
        """The compute capability as users write it, such as ``SM90``; empty on a CPU."""
        return "" if self.capability is None else "SM{}{}".format(*self.capability)

    @property
    def below_sm90(self) -> bool:
        """Whether this is a GPU older than those that the arms were made for."""
        return self.capability is not None and self.capability < (9, 0)
