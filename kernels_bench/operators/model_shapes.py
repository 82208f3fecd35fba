"""Sizes of real models' layers, from their published ``config.json`` files, and a seeded set of odd ones."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kernels_bench.records.cases import Shape


class Call(NamedTuple):
    """An operator at one of a model's shapes, and how often a decode step calls it."""

    operator: str
    shape: Shape
    times: int


@dataclass(frozen=True)
class Model:
    """How many layers a dense transformer has, and their sizes (elements)."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int

    def projections(self) -> tuple[Shape, ...]:
        """The linear layers of one block and the LM head, as fused by serving engines: (N, K)."""
        attention = self.heads * self.head_dim
        sizes = {
            "qkv_proj": (attention + 2 * self.kv_heads * self.head_dim, self.hidden),
            "o_proj": (self.hidden, attention),
            "gate_up_proj": (2 * self.intermediate, self.hidden),
            "down_proj": (self.hidden, self.intermediate),
            "lm_head": (self.vocabulary, self.hidden),
        }
        return tuple(Shape(label=f"{self.name}/{name}", n=n, k=k) for name, (n, k) in sizes.items())

    def calls(self) -> tuple[Call, ...]:
        """What a decode step computes: linears, and norms of rows."""
        *projections, head = self.projections()
        hidden, *_ = self.norms()
        # All norms but the first one of a step have a residual: two a layer, and the last one.
        return (
            *(Call("linear", shape, self.layers) for shape in projections),
            Call("linear", head, 1),
            Call("rms_norm", hidden, 1),
            Call("fused_add_rms_norm", hidden, 2 * self.layers),
        )

    def norms(self) -> tuple[Shape, ...]:
        """Row lengths of the normalisations: the hidden size, and a head where queries and keys are normed."""
        lengths = {"hidden": self.hidden}
        if self.name.startswith("qwen3"):
            lengths["qk_norm"] = self.head_dim
        return tuple(Shape(label=f"{self.name}/{name}", k=k) for name, k in lengths.items())

    def logits(self) -> tuple[Shape, ...]:
        """Row lengths of the softmax over the vocabulary."""
        return (Shape(label=f"{self.name}/logits", k=self.vocabulary),)


DENSE = (
    Model("qwen3-1.7b", 28, 2048, 16, 8, 128, 6144, 151936),
    Model("qwen3-8b", 36, 4096, 32, 8, 128, 12288, 151936),
    Model("llama-3.1-8b", 32, 4096, 32, 8, 128, 14336, 128256),
    Model("qwen2.5-7b", 28, 3584, 28, 4, 128, 18944, 152064),
)

# DeepSeek-V3 has latent attention and experts: its layers do not follow from the sizes above.
_DEEPSEEK_PROJECTIONS = {
    "q_a_kv_a_proj": (2112, 7168),
    "q_b_proj": (24576, 1536),
    "kv_b_proj": (32768, 512),
    "o_proj": (7168, 16384),
    "gate_up_proj": (36864, 7168),
    "down_proj": (7168, 18432),
    "shared_gate_up_proj": (4096, 7168),
    "shared_down_proj": (7168, 2048),
    "router": (256, 7168),
    "lm_head": (129280, 7168),
}
_DEEPSEEK = "deepseek-v3"
_DEEPSEEK_LAYERS, _DEEPSEEK_DENSE = 61, 3
# Its first layers have no experts. Decoding, ``kv_b_proj`` is a part of attention and no linear.
_DEEPSEEK_CALLS = {
    **dict.fromkeys(("q_a_kv_a_proj", "q_b_proj", "o_proj"), _DEEPSEEK_LAYERS),
    **dict.fromkeys(("gate_up_proj", "down_proj"), _DEEPSEEK_DENSE),
    **dict.fromkeys(("shared_gate_up_proj", "shared_down_proj", "router"), _DEEPSEEK_LAYERS - _DEEPSEEK_DENSE),
    "lm_head": 1,
}


_UNALIGNED_SEED = 20240919


def _unaligned_sizes(count: int, low: int, high: int) -> list[tuple[int, int]]:
    """Pairs that no power of two above 1 divides in N, and mostly not in K either."""
    draw = random.Random(_UNALIGNED_SEED)
    return [(draw.randrange(low, high) | 1, draw.randrange(low, high)) for _ in range(count)]


def projections() -> tuple[Shape, ...]:
    """Every GEMM shape known by name: models, ``unaligned`` and ``small``."""
    deepseek = [Shape(label=f"{_DEEPSEEK}/{name}", n=n, k=k) for name, (n, k) in _DEEPSEEK_PROJECTIONS.items()]
    odd = [Shape(label=f"unaligned/{i}", n=n, k=k) for i, (n, k) in enumerate(_unaligned_sizes(3, 300, 3000))]
    small = [Shape(label="small/square", n=512, k=512), Shape(label="small/unaligned", n=259, k=513)]
    return (*(shape for model in DENSE for shape in model.projections()), *deepseek, *odd, *small)


def calls_of_a_step() -> Mapping[str, tuple[Call, ...]]:
    """What a decode step of each model calls, attention and experts apart."""
    linears = (
        Call("linear", Shape(label=f"{_DEEPSEEK}/{name}", n=n, k=k), _DEEPSEEK_CALLS[name])
        for name, (n, k) in _DEEPSEEK_PROJECTIONS.items()
        if name in _DEEPSEEK_CALLS
    )
    hidden = Shape(label=f"{_DEEPSEEK}/hidden", k=7168)
    deepseek = (*linears, Call("rms_norm", hidden, 1), Call("fused_add_rms_norm", hidden, 2 * _DEEPSEEK_LAYERS))
    return {**{model.name: model.calls() for model in DENSE}, _DEEPSEEK: deepseek}


def norms() -> tuple[Shape, ...]:
    """Every row length of the normalisations known by name."""
    deepseek = [Shape(label=f"{_DEEPSEEK}/{name}", k=k) for name, k in (("hidden", 7168), ("kv_a", 512))]
    return (*(shape for model in DENSE for shape in model.norms()), *deepseek, *_odd_rows())


def logits() -> tuple[Shape, ...]:
    """Every row length of the softmaxes known by name: vocabularies and a router's experts."""
    deepseek = [Shape(label=f"{_DEEPSEEK}/{name}", k=k) for name, k in (("logits", 129280), ("router", 256))]
    return (*(shape for model in DENSE for shape in model.logits()), *deepseek, *_odd_rows())


def _odd_rows() -> tuple[Shape, ...]:
    odd = [Shape(label=f"unaligned/{i}", k=k) for i, (k, _) in enumerate(_unaligned_sizes(2, 300, 9000))]
    small = [Shape(label="small/aligned", k=1024), Shape(label="small/unaligned", k=1003)]
    return (*odd, *small)


def heads() -> tuple[Shape, ...]:
    """Latent attention's per-head projections (heads, N, K): up from and down to the compressed cache."""
    sizes = {"w_uk": (128, 512, 128), "w_uv": (128, 128, 512)}
    deepseek = [Shape(label=f"{_DEEPSEEK}/{name}", b=b, n=n, k=k) for name, (b, n, k) in sizes.items()]
    odd = Shape(label="unaligned/heads", b=7, n=131, k=193)
    return (*deepseek, odd, Shape(label="small/heads", b=3, n=64, k=96))


# (query heads, key and value heads, head dimension), from the models' published configurations.
_HEAD_LAYOUTS = {
    "qwen3-8b": (32, 8, 128),
    "qwen3-1.7b": (16, 8, 128),
    "qwen2.5-7b": (28, 4, 128),
    "llama-2-7b": (32, 32, 128),
    "llama-3.2-1b": (32, 8, 64),
    "llama-3.1-70b": (64, 8, 128),
    "gpt-oss-20b": (64, 8, 64),
    "gemma-2-9b": (16, 8, 256),
    "gemma-3-4b": (8, 4, 256),
}
USUAL_HEAD_LAYOUTS = (*_HEAD_LAYOUTS, "pages")
TELLING_HEAD_LAYOUTS = ("qwen3-8b", "gpt-oss-20b", "gemma-2-9b")  # of each head dimension one
_PAGE, _TOKENS = 16, 4097


def head_layouts() -> tuple[Shape, ...]:
    """Every head layout of attention known by name: models, larger pages, long sequences and ``small``."""

    def shape(label: str, layout: tuple[int, int, int], page: int = _PAGE, tokens: int = _TOKENS) -> Shape:
        heads, kv_heads, size = layout
        return Shape(label=label, heads=heads, kv_heads=kv_heads, k=size, page=page, tokens=tokens)

    known = [shape(f"{name}/attention", layout) for name, layout in _HEAD_LAYOUTS.items()]
    usual = _HEAD_LAYOUTS["qwen3-8b"]
    others = [shape("pages/64", usual, page=64), shape("pages/256", usual, page=256)]
    long = shape("long/attention", usual, tokens=32768)
    small = [shape("small/attention", (4, 2, 32), tokens=65), shape("small/mqa", (3, 1, 64), page=32, tokens=33)]
    return (*known, *others, long, *small)


# (head layout, window, soft cap on logits, sinks) of the layers of models that have some of these, likewise.
_VARIANTS = {
    "gpt-oss-20b/window": ((64, 8, 64), 128, 0, 1),
    "gpt-oss-20b/full": ((64, 8, 64), 0, 0, 1),
    "gemma-2-9b/window": ((16, 8, 256), 4096, 50, 0),
    "gemma-2-9b/full": ((16, 8, 256), 0, 50, 0),
    "gemma-3-4b/window": ((8, 4, 256), 1024, 0, 0),
    "mistral-7b/window": ((32, 8, 128), 4096, 0, 0),
}
_AFTER_WINDOW = 129  # so many tokens more than a window has are those of a sequence, at least


def variant_layouts() -> tuple[Shape, ...]:
    """Every layout of attention with a window, a soft cap or sinks known by name."""

    def shape(label: str, layout: tuple[int, int, int], window: int, softcap: int, sinks: int, **more: int) -> Shape:
        heads, kv_heads, size = layout
        sizes = {"heads": heads, "kv_heads": kv_heads, "k": size, "page": _PAGE, **more}
        tokens = more.get("tokens", max(_TOKENS, window + _AFTER_WINDOW))
        rules = {"window": window, "softcap": softcap, "sinks": sinks}
        return Shape.model_validate({"label": label, **sizes, "tokens": tokens, **rules})

    small = (
        shape("small/window", (4, 2, 32), 24, 0, 0, tokens=65),
        shape("small/softcap", (2, 2, 16), 0, 3, 0, tokens=33),
        shape("small/all", (3, 1, 64), 16, 5, 1, page=32, tokens=65),
    )
    return (*(shape(label, *sizes) for label, sizes in _VARIANTS.items()), *small)


LATENT = 512  # of a latent vector, whose positional part follows
_LATENT_HEADS = {"deepseek-v3": 128, "kimi-k2": 64, "deepseek-v2-lite": 16}


def latent_layouts() -> tuple[Shape, ...]:
    """Every layout of latent attention known by name: all have vectors of 512 and 64, and one head of them."""

    def shape(label: str, heads: int, page: int, tokens: int) -> Shape:
        return Shape(label=label, heads=heads, kv_heads=1, k=LATENT + 64, page=page, tokens=tokens)

    known = [shape(f"{name}/mla", heads, 64, _TOKENS) for name, heads in _LATENT_HEADS.items()]
    return (*known, shape("small/mla", 2, 16, 65))


def entries() -> tuple[Shape, ...]:
    """Matrices of a batched product whose batch is the batch: scores and values of short attention."""
    sizes = {"qwen3-8b/scores": (128, 128), "qwen3-8b/values": (128, 256), "unaligned/entry": (77, 131)}
    named = [Shape(label=label, n=n, k=k) for label, (n, k) in sizes.items()]
    return (*named, Shape(label="small/entry", n=48, k=64))
