"""See what an engine's model runner does with the needle's rows: modules by what is called, operators by dispatch.

Nothing that runs is changed: digests are computed beside it, on the device, and copied to the host once a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from e2e.locate.probing.cache import Layout, cache_of, learn
from e2e.locate.probing.compiled import COMPILED, Parts, calls_of_parts, only_of, sealed_in
from e2e.locate.probing.focus import EVERYTHING, Focus
from e2e.locate.probing.operators import tensors_in
from e2e.locate.probing.record import Call, Recorder
from e2e.locate.probing.watching import Watched, block_table, calls_over_ranks, noted
from profiles.errors import ToldError

_ATTENTION = ("layer", "query", "key", "value", "kv_cache", "attn_metadata", "output")
"""What vLLM's attention takes, in order."""

Undo = Callable[[], None]


class ProbeError(ToldError):
    """An engine that cannot be looked into; the message says why."""


class Probe:
    """The hooks of one model runner, which are there only while a pass is watched.

    Args:
        runner: vLLM's, with nothing to do.
        config: vLLM's, of its engine.
        caches: whether cached keys and values are read; where not, a layer's state is known by what it was given, as
            it must be where another engine lays its cache out otherwise.

    Raises:
        ProbeError: it is another one than vLLM's first, or its model is compiled otherwise than vLLM does, or replayed
            as one CUDA graph, or has no modules.
    """

    def __init__(self, runner: Any, config: Any, *, caches: bool = True) -> None:
        self._runner = _known(runner)
        _refuse_whole(self._runner.model, config)
        self._paths: dict[Any, list[str]] = {}
        for path, module in self._runner.model.named_modules(remove_duplicate=False):
            self._paths.setdefault(module, []).append(path)
        sampler = getattr(self._runner, "sampler", None)
        if sampler is not None:
            self._paths[sampler] = ["sampler"]
        if len(self._paths) < 3:
            raise ProbeError("the model has no modules that could be hooked")
        self._sealed = sealed_in(self._paths)
        self._leave_out_what_is_sealed()
        self._unwritten: dict[str, frozenset[int]] = {}
        self._layers: Mapping[str, Any] = config.compilation_config.static_forward_context
        self._layouts = _layouts(self._runner, self._layers) if caches else dict.fromkeys(self._layers)

    def _leave_out_what_is_sealed(self) -> None:
        """Modules inside of compiled ones are never called."""
        inside = tuple(f"{path}." for paths in self._sealed.values() for path in paths)
        if inside:
            for module, paths in self._paths.items():
                self._paths[module] = [path for path in paths if not path.startswith(inside)]

    @property
    def paths(self) -> tuple[str, ...]:
        """Of all modules that are called: of those inside of compiled ones, none."""
        return tuple(path for paths in self._paths.values() for path in paths)

    @property
    def sealed(self) -> frozenset[str]:
        """Of the modules that are called in compiled form."""
        return frozenset(path for paths in self._sealed.values() for path in paths)

    @property
    def unread(self) -> tuple[str, ...]:
        """Names of layers whose state cannot be read; it is known by what the layer was given."""
        return tuple(name for name, layout in self._layouts.items() if layout is None)

    @contextmanager
    def watching(
        self,
        request: str,
        prompt: tuple[int, ...],
        recorder: Recorder,
        until: int = 1 << 62,
        focus: Focus = EVERYTHING,
    ) -> Iterator[Watched]:
        """Watch one pass, until this context ends.

        Args:
            request: how the engine's name of the needle's request begins, before any suffix of its own.
            prompt: the needle's token ids.
            recorder: is told of everything, and may change what comes out.
            until: the last position of the sequence whose step is watched.
            focus: what is watched.

        Raises:
            ProbeError: the needle's rows could not be found.
        """
        import torch

        recorder.device = str(torch.device(self._runner.device).type)
        recorder.shared = frozenset(one.untyped_storage().data_ptr() for one in self._shared())
        parts = Parts(tuple(self._layers), self.sealed, self._unwritten)
        watched = Watched(self._runner, request, prompt, recorder, until, parts, focus)
        with ExitStack() as replaced:
            for undo in self._told_of(watched):
                replaced.callback(undo)
            yield watched
            watched.finish_step()
        if watched.refused or not watched.ended:
            raise ProbeError(watched.refused or "the needle was in no step that was seen")

    def _told_of(self, watched: Watched) -> Iterator[Undo]:
        """Have everything that is watched tell of its calls: how to undo each replacement, as it is made."""
        for module, paths in self._paths.items():
            states = {path: self._holds_state(path) for path in paths if watched.focus.has(path)}
            if states:
                told = _tell(states, watched, first=module is self._runner.model, all_of=len(states) == len(paths))
                owner, name = (type(module), "__call__") if module in self._sealed else (module, "forward")
                yield _replace(owner, name, only_of(module, told) if module in self._sealed else told)
        cut = watched.parts.cut
        for name, layer in self._layers.items():
            if watched.focus.has(name) or name in cut:
                yield from _around_attention(name, layer, self._layouts[name], watched)
            if name in cut:
                yield from _around_output(name, layer, watched)
        calls = [*(calls_of_parts(watched) if watched.parts.sealed else ()), *calls_over_ranks(watched)]
        for owner, name, told in calls:
            yield _replace(owner, name, told)
        yield _replace(self._runner, "execute_model", watched.around_step)
        yield _replace(self._runner, "sample_tokens", watched.around_sampling)

    def _shared(self) -> Iterator[Any]:
        """Tensors that belong to no batch."""
        yield from self._runner.model.parameters()
        yield from self._runner.model.buffers()
        for layer in self._layers.values():
            yield from tensors_in(cache_of(layer))

    def _holds_state(self, path: str) -> bool:
        """Whether a module holds a layer with state, such as cached keys: its rows depend on those before them."""
        return any(not path or name == path or name.startswith(path + ".") for name in self._layers)


def runner_of(engine: Any) -> Any:
    """The model runner of an engine.

    Raises:
        ProbeError: it is in another process, or another one than vLLM's first.
    """
    try:
        runner = engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner
    except AttributeError:
        raise ProbeError("the engine's model runner is in another process") from None
    return _known(runner)


def _known(runner: Any) -> Any:
    if not (hasattr(runner, "input_batch") and hasattr(runner, "sample_tokens") and hasattr(runner, "model")):
        raise ProbeError(f"{type(runner).__module__}.{type(runner).__name__} is no model runner that is known here")
    return runner


def _refuse_whole(model: Any, config: Any) -> None:
    """See that something is called in the model's place that can be seen.

    Raises:
        ProbeError: nothing is.
    """
    chosen = config.compilation_config
    graphs = getattr(chosen, "cudagraph_mode", None)
    if graphs and graphs.has_full_cudagraphs():
        raise ProbeError("steps are replayed as one CUDA graph of the whole model, in which nothing is seen")
    whole = getattr(model, "_compiled_call_impl", None) is not None
    if whole or getattr(chosen, "use_inductor_graph_partition", False):
        raise ProbeError("the model is compiled as a whole, so that nothing in it is seen: give --eager")


def _layouts(runner: Any, layers: Mapping[str, Any]) -> dict[str, Layout | None]:
    """Of every layer with state how its cache is laid out, tried out once for layers that are alike."""
    tried: dict[tuple[object, ...], Layout | None] = {}
    found: dict[str, Layout | None] = {}
    for name, layer in layers.items():
        kind = _kind(name, layer, runner)
        if kind is not None and kind not in tried:
            tried[kind] = _tried(layer, runner, int(block_table(runner, name).block_size))
        found[name] = tried[kind] if kind is not None else None
    return found


def _kind(name: str, layer: Any, runner: Any) -> tuple[object, ...] | None:
    """What decides a layer's layout; None where the layer does not write its cache in a function of its own."""
    write = getattr(getattr(layer, "impl", None), "do_kv_cache_update", None)
    backend, table = getattr(layer, "attn_backend", None), block_table(runner, name)
    cache = cache_of(layer)
    if write is None or table is None or getattr(backend, "forward_includes_kv_cache_update", True):
        return None
    return backend, tuple(getattr(cache, "shape", ())), getattr(cache, "dtype", None), int(table.block_size)


def _tried(layer: Any, runner: Any, slots: int) -> Layout | None:
    blocks = runner.kv_cache_config.num_blocks
    sizes = {size for size in getattr(cache_of(layer), "shape", ()) if size >= blocks and size % blocks == 0}
    for size in sizes:
        try:
            layout = learn(layer, layer.impl.do_kv_cache_update, size, slots)
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            return None
        if layout is not None:
            return layout
    return None


def _tell(
    states: Mapping[str, bool], watched: Watched, *, first: bool, all_of: bool
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Tell of every call of a module, which may be part of several others.

    Args:
        states: whether it holds state there, by path; where it is to be watched.
        watched: is told.
        first: whether it is the whole model.
        all_of: whether it is watched wherever it is part of something.
    """
    only = next(iter(states)) if len(states) == 1 and all_of else None

    def around(inner: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **named: Any) -> Any:
            """The module's call: what it takes and gives is told, and the calls within it are told as its own."""
            if first:
                watched.model_begins(args, named)
            if not watched.on:
                return inner(*args, **named)
            path = path_within(states, watched.path[-1], all_of=all_of) if only is None else only
            if path is None:
                return inner(*args, **named)
            recorder = watched.recorder
            taken = recorder.held(tensors_in((args, named)))
            call = Call(recorder.place(path, ""), "module", taken, states[path])
            if path in watched.parts.sealed:
                call.unseen.append(COMPILED)
            watched.enter_module(path)
            try:
                answer = inner(*args, **named)
            finally:
                watched.leave_module()
            recorder.leave(call, list(tensors_in(answer)))
            return answer

        return forward

    return around


def path_within(paths: Iterable[str], caller: str, *, all_of: bool = True) -> str | None:
    """Which of a module's paths is meant where another one calls it: layers may share one, such as an embedding.

    Args:
        paths: of the module.
        caller: path of the other.
        all_of: whether it has no more paths; else it is none of these where none fits.
    """
    known = list(paths)
    return next((path for path in known if path.rpartition(".")[0] == caller), known[0] if all_of else None)


def _around_attention(name: str, layer: Any, layout: Layout | None, watched: Watched) -> list[Undo]:
    """Tell of what a layer's attention takes from its cache, and of what it writes there."""
    impl = getattr(layer, "impl", None)
    undo: list[Undo] = []
    if layout is None or impl is None:
        return undo

    def run(call: Call, inner: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """The layer's own call; what runs inside it is noted where that is asked for."""
        if not watched.focus.looks_into(name):
            return inner(*args, **named)
        return noted(call.inside, inner, args, named)

    def attend(inner: Callable[..., Any]) -> Callable[..., Any]:
        """Around attention itself, which takes what is cached."""

        def forward(*args: Any, **named: Any) -> Any:
            """Attention's call: it takes its queries and what is cached of each sequence."""
            cached = watched.cached(name, layer, layout)
            if cached is None or watched.recorder.rows is None:
                return inner(*args, **named)
            recorder = watched.recorder
            query = args[1] if len(args) > 1 else named["query"]
            call = Call(recorder.place(name, f"{type(impl).__name__}.forward"), "attention", recorder.held([query]))
            call.cached = recorder.cached(cached)
            answer = run(call, inner, args, named)
            given = named.get("output", args[6] if len(args) > 6 else answer)
            recorder.attended(call, impl, dict(zip(_ATTENTION, args, strict=False)) | named | {"output": given})
            recorder.leave(call, list(tensors_in(given)))
            return answer

        return forward

    def store(inner: Callable[..., Any]) -> Callable[..., Any]:
        """Around what writes keys and values to the cache."""

        def update(*args: Any, **named: Any) -> Any:
            """The call that takes keys and values, and gives nothing but what is cached after it."""
            cached = watched.cached(name, layer, layout)
            if cached is None:
                return inner(*args, **named)
            recorder = watched.recorder
            pair = list(tensors_in(args[1:3])) if len(args) > 2 else [named["key"], named["value"]]
            place = recorder.place(name, f"{type(impl).__name__}.do_kv_cache_update")
            call = Call(place, "cache write", recorder.held(pair), cache=cached)
            answer = run(call, inner, args, named)
            recorder.leave(call, [])
            return answer

        return update

    undo.append(_replace(impl, "forward", attend))
    undo.append(_replace(impl, "do_kv_cache_update", store))
    return undo


def _around_output(name: str, layer: Any, watched: Watched) -> list[Undo]:
    """Tell of the memory that a layer's attention is about to write, where it is part of a compiled model."""

    def around(inner: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **named: Any) -> Any:
            if watched.on:
                into = named.get("output", args[6] if len(args) > 6 else None)
                watched.parts.attention_begins(name, into, watched.recorder)
            return inner(*args, **named)

        return forward

    impl = getattr(layer, "impl", None)
    return [] if impl is None else [_replace(impl, "forward", around)]


def _replace(owner: Any, name: str, wrapped: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Undo:
    """Another function in the place of an object's, until it is undone."""
    before = vars(owner).get(name)
    setattr(owner, name, wrapped(getattr(owner, name)))

    def undo() -> None:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)

    return undo
