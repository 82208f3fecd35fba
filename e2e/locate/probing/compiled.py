"""What is seen of a compiled model: the parts into which vLLM cuts it at its attention, and each layer's attention.

Inside a part no module is called and no operator is dispatched: it is one function of tensors, replayed from a CUDA
graph or called.  Where a model is compiled in one piece, as on a CPU, there are no parts, and only attention is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from e2e.locate.probing.operators import tensors_in
from e2e.locate.probing.record import Call, Recorder

COMPILED = "it is compiled, so that no operator in it is seen: --eager names the one"

Around = Callable[[Callable[..., Any]], Callable[..., Any]]


class Watching(Protocol):
    """What is known of the pass that is watched.

    Attributes:
        recorder: is told of every call.
        path: of the modules that run, the outermost first.
        parts: of the compiled model.
    """

    recorder: Recorder
    path: list[str]
    parts: Parts

    @property
    def on(self) -> bool:
        """Whether the needle is part of what runs now."""


def sealed_in(modules: Mapping[Any, Sequence[str]]) -> dict[Any, list[str]]:
    """The modules that vLLM calls in compiled form, with their paths."""
    return {one: list(paths) for one, paths in modules.items() if getattr(one, "do_not_compile", True) is False}


class Parts:
    """Where in the compiled model a step is.

    Args:
        layers: paths of the model's layers with state, in order.
        sealed: paths of the modules that are called in compiled form.
        unwritten: by part which of its results are memory that attention is to write, in which nothing stands yet;
            learned where attention is met for the first time, and kept from pass to pass.

    Attributes:
        layers: as given; in these no operator's arguments are all that it takes.
        sealed: as given; in these no operator is dispatched as it is watched.
        cut: the layers at which they are cut into parts.
    """

    def __init__(
        self,
        layers: Sequence[str] = (),
        sealed: frozenset[str] = frozenset(),
        unwritten: dict[str, frozenset[int]] | None = None,
    ) -> None:
        self.layers, self.sealed = frozenset(layers), sealed
        inside = tuple(f"{path}." for path in sealed)
        self.cut = [name for name in layers if name.startswith(inside)] if inside else []
        self._unwritten = {} if unwritten is None else unwritten
        self._after = 0
        self._inside = False
        self._given: tuple[str, Call, Sequence[Any]] | None = None

    def begin(self) -> None:
        """A step begins."""
        self._after, self._given = 0, None

    @property
    def name(self) -> str:
        """Of the part that runs now."""
        before = f" from {self.cut[self._after - 1]}" if self._after else ""
        after = f" to {self.cut[self._after]}" if self._after < len(self.cut) else ""
        return f"compiled part{before}{after}"

    def run(self, watched: Watching, inner: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """Call a part, and tell of it; what it calls in turn is the same part."""
        if self._inside or not watched.on:
            return inner(*args, **named)
        recorder, name = watched.recorder, self.name
        call = Call(recorder.place(watched.path[-1], name), "compiled", recorder.held(tensors_in((args, dict(named)))))
        call.unseen.append(COMPILED)
        self._inside = True
        try:
            answer = inner(*args, **named)
        finally:
            self._inside = False
        empty = self._unwritten.get(name)
        given = [one for at, one in enumerate(tensors_in(answer)) if at not in (empty or ())]
        recorder.leave(call, given)
        self._given = (name, call, given) if empty is None else None
        return answer

    def attention_begins(self, layer: str, into: Any, recorder: Recorder) -> None:
        """A layer's attention is about to write into a tensor, which the part before it may have made."""
        self._after = self.cut.index(layer) + 1
        if self._given is None or into is None:
            return
        name, call, given = self._given
        where = into.untyped_storage().data_ptr()
        empty = frozenset(at for at, one in enumerate(given) if one.untyped_storage().data_ptr() == where)
        self._unwritten[name] = empty
        recorder.left_empty(call, given, empty)
        self._given = None


def calls_of_parts(watched: Watching) -> Iterator[tuple[Any, str, Around]]:
    """What vLLM calls a part by, each with its method and what goes around it while a pass is watched."""
    from vllm.compilation.cuda_graph import CUDAGraphWrapper
    from vllm.compilation.piecewise_backend import PiecewiseBackend

    def around(inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(part: Any, *args: Any, **named: Any) -> Any:
            return watched.parts.run(watched, partial(inner, part), args, named)

        return call

    yield from ((owner, "__call__", around) for owner in (CUDAGraphWrapper, PiecewiseBackend))


def only_of(module: Any, told: Around) -> Around:
    """Around a class's method, for one of its instances alone."""

    def around(inner: Callable[..., Any]) -> Callable[..., Any]:
        mine = told(partial(inner, module))

        def call(this: Any, *args: Any, **named: Any) -> Any:
            return mine(*args, **named) if this is module else inner(this, *args, **named)

        return call

    return around
