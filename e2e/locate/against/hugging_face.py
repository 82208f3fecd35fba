"""One pass of Hugging Face transformers over a sequence: what every module takes and gives, and attention's own inputs.

All positions are computed at once, as a trainer does it, in evaluation mode and with no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from e2e.locate.probing.operators import tensors_in

_QUERY, _KEY, _VALUE = "query", "key", "value"
ATTENTION = (_QUERY, _KEY, _VALUE)
"""What attention takes, in vLLM's order."""


class TransformersError(Exception):
    """A model that transformers cannot compute here; the message says why."""


@dataclass(frozen=True)
class Role:
    """A place in the flow of the computation.

    Attributes:
        path: of the module; of attention the module that calls it.
        what: ``in``, ``out``, or of attention ``query``, ``key``, ``value`` and ``attended``.
    """

    path: str
    what: str


@dataclass
class Forward:
    """What was seen.

    Attributes:
        values: by role, of shape (positions, width), on the host.
        classes: of each module the name of its class.
        leaves: modules that hold no others.
        attention: how attention is computed.
        logits: of shape (positions, vocabulary), on the host.
        device: that it was computed on, where rows are compared too.
    """

    values: dict[Role, Any] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    leaves: frozenset[str] = frozenset()
    attention: str = ""
    logits: Any = None
    device: str = "cpu"
    _again: set[Role] = field(default_factory=set)

    def see(self, role: Role, rows: Any) -> None:
        """Take it down; of what comes more than once nothing is kept, since nobody knows which is meant."""
        if role in self._again:
            return
        if self.values.pop(role, None) is not None:
            self._again.add(role)
            return
        self.values[role] = rows.detach().to("cpu", copy=True)


class HuggingFace:
    """A model in transformers.

    Args:
        model: its path or name, as vLLM was given it.
        attention: how attention is computed, by transformers' name for it; None leaves it to transformers.
        device: that it is computed on.

    Raises:
        TransformersError: it cannot be loaded.
    """

    def __init__(self, model: str, attention: str | None, device: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, __version__
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        chosen = {} if attention is None else {"attn_implementation": attention}
        try:
            self._model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, **chosen)
        except (ImportError, OSError, ValueError, KeyError) as error:
            raise TransformersError(" ".join(str(error).split())) from None
        self._model = self._model.eval().to(device)
        self._device, self._attentions = device, ALL_ATTENTION_FUNCTIONS
        self.attention = str(self._model.config._attn_implementation)
        self.provenance = f"transformers {__version__}, {type(self._model).__name__}, attention {self.attention}, bf16"

    def forward(self, tokens: Sequence[int], put: Mapping[Role, Any] | None = None) -> Forward:
        """Compute a sequence.

        Args:
            tokens: its ids.
            put: by role, rows that take the place of the model's own as soon as these were seen.
        """
        import torch

        names = dict(self._model.named_modules())
        found = Forward(
            classes={path: type(module).__name__ for path, module in names.items()},
            leaves=frozenset(path for path, module in names.items() if not list(module.children())),
            attention=self.attention,
            device=self._device,
        )
        handles = []
        for path, module in names.items():
            before, after = _hooks(path, len(tokens), found, put or {})
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after))
        paths = {id(module): path for path, module in names.items()}
        ids = torch.tensor([list(tokens)], dtype=torch.int64, device=self._device)
        try:
            with torch.inference_mode(), self._attention_seen(paths, len(tokens), found, put or {}):
                answer = self._model(input_ids=ids, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        found.logits = answer.logits[0].to("cpu")
        return found

    @contextmanager
    def _attention_seen(
        self, paths: Mapping[int, str], count: int, found: Forward, put: Mapping[Role, Any]
    ) -> Iterator[None]:
        """While this lasts, attention tells ``found`` what it takes and gives, and takes what ``put`` has instead."""
        if self.attention not in self._attentions:  # "eager" is a function of each model's own
            yield
            return
        inner = self._attentions[self.attention]

        def attend(module: Any, query: Any, key: Any, value: Any, *more: Any, **named: Any) -> Any:
            """The attention of modules that have a path is seen; that of others is as it was."""
            path = paths.get(id(module))
            if path is None:
                return inner(module, query, key, value, *more, **named)
            taken = []
            for what, one in zip(ATTENTION, (query, key, value), strict=True):
                rows = one.transpose(1, 2)
                rows = _through(Role(path, what), rows, count, found, put)
                taken.append(rows.transpose(1, 2))
            out, *rest = inner(module, *taken, *more, **named)
            return (_through(Role(path, "attended"), out, count, found, put), *rest)

        self._attentions[self.attention] = attend
        try:
            yield
        finally:
            self._attentions[self.attention] = inner


def _through(role: Role, tensor: Any, count: int, found: Forward, put: Mapping[Role, Any]) -> Any:
    """See a tensor of shape (1, positions, …); what takes its place, or itself."""
    found.see(role, tensor.reshape(count, -1))
    wanted = put.get(role)
    return tensor if wanted is None else wanted.to(tensor.device).reshape(tensor.shape)


def _hooks(
    path: str, count: int, found: Forward, put: Mapping[Role, Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What goes before and after a module's call: each sees the module's tensor, and may put another in its place."""

    def mine(value: Any) -> Any:
        """Of all tensors in a value the one with a row for each token; None where there is none."""
        rows = (one for one in tensors_in(value) if tuple(one.shape[:2]) == (1, count))
        return next(rows, None)

    def swapped(value: Any, old: Any, new: Any) -> Any:
        """A value, or a tuple, with a new tensor in the place of the old one."""
        if value is old:
            return new
        if isinstance(value, tuple):
            return tuple(swapped(one, old, new) for one in value)
        return value

    def before(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """torch's hook before a module's call: other arguments, or None where they stay."""
        taken = mine((args, named))
        if taken is None:
            return None
        new = _through(Role(path, "in"), taken, count, found, put)
        if new is taken:
            return None
        return swapped(args, taken, new), {name: swapped(one, taken, new) for name, one in named.items()}

    def after(_: Any, args: Any, answer: Any) -> Any:
        """torch's hook after it: another answer, or None where it stays."""
        given = mine(answer)
        if given is None:
            return None
        new = _through(Role(path, "out"), given, count, found, put)
        return None if new is given else swapped(answer, given, new)

    return before, after
