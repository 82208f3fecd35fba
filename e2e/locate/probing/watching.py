"""One pass as it runs: which step it is, which module, and who is told of every call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cached_property
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode, _pop_mode_temporarily

from e2e.locate.probing.cache import cache_of
from e2e.locate.probing.compiled import Parts
from e2e.locate.probing.focus import EVERYTHING, Focus
from e2e.locate.probing.operators import makes_empty, name_of, only_looks, reads_state, scalars_in, tensors_in, written
from e2e.locate.probing.record import CachedRows, Call, EndedStep, Recorder, steps_on_host, unseen
from e2e.locate.seen.rows import Found, check_rows, found_at, needle_rows
from e2e.locate.seen.trace import Step

CALLS = ("all_reduce", "all_gather", "reduce_scatter", "gather")
"""Methods of vLLM's group of ranks that compute a layer together: they add or join what all of them have."""
OVER_RANKS = frozenset(f"vllm.{name}" for name in CALLS)
"""What they are called, as operators, on every device.

What vLLM does below differs: a custom operator, a library's call, a kernel over shared memory.  None of it is one
rank's, so that nothing inside is told of.
"""


class Watched:
    """One pass of an engine.

    Args:
        runner: vLLM's model runner.
        request: how the engine's name of the needle's request begins.
        prompt: the needle's token ids.
        recorder: is told of every call.
        until: the last position of the sequence whose step is watched.
        parts: of its model, where that is compiled; and its layers with state.
        focus: what is watched of it.

    Attributes:
        ended: the steps that the needle was part of, as far as they have ended, and what stood where it was looked for.
        path: of the modules that run, the outermost first.
        refused: why the needle's rows could not be found in a step; empty where they could.
    """

    def __init__(
        self,
        runner: Any,
        request: str,
        prompt: tuple[int, ...],
        recorder: Recorder,
        until: int,
        parts: Parts,
        focus: Focus = EVERYTHING,
    ) -> None:
        self.focus, self.parts = focus, parts
        self._step = ExitStack()
        self._modules: list[AbstractContextManager[object] | None] = []
        self._runner, self._request, self._prompt, self._until = runner, request, prompt, until
        self.recorder = recorder
        self._blocks: dict[tuple[int, int], Any] = {}
        self.ended: list[tuple[EndedStep, Found]] = []
        self.refused = ""
        self.path: list[str] = [""]
        self._plan: Any = None
        self._here: Found | None = None
        self._counted = -1

    @property
    def on(self) -> bool:
        """Whether the needle is part of what runs now."""
        return self.recorder.rows is not None

    def around_step(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        """``execute_model``: another step begins."""

        def execute(plan: Any, *args: Any, **kwargs: Any) -> Any:
            """A step of the engine, which ends the one before."""
            self.finish_step()
            if plan.total_num_scheduled_tokens:
                self._plan = plan
                self._counted += 1
            return self._dispatched(inner, plan, *args, **kwargs)

        return execute

    def around_sampling(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        """``sample_tokens``: with it a step ends."""

        def sample(*args: Any, **kwargs: Any) -> Any:
            """The end of a step."""
            answer = self._dispatched(inner, *args, **kwargs)
            self.finish_step()
            return answer

        return sample

    def _dispatched(self, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a part of a step; operators are told of as soon as the needle is known to be part of it."""
        with ExitStack() as self._step:
            if self.on:
                self._step.enter_context(Dispatch(self))
            return inner(*args, **kwargs)

    def enter_module(self, path: str) -> None:
        """A module begins, whose operators may be watched where those around it are not, or the reverse."""
        sees = self._looks_into(path)
        change: AbstractContextManager[object] | None = None
        if sees != self._looks_into(self.path[-1]):
            change = Dispatch(self) if sees else _pop_mode_temporarily()
            change.__enter__()  # type: ignore[no-untyped-call]
            self.recorder.looked_away()
        self.path.append(path)
        self._modules.append(change)

    def _looks_into(self, path: str) -> bool:
        return self.focus.looks_into(path) and path not in self.parts.sealed

    def leave_module(self) -> None:
        """It has ended."""
        self.path.pop()
        change = self._modules.pop()
        if change is not None:
            change.__exit__(None, None, None)
            self.recorder.looked_away()

    def finish_step(self) -> None:
        """The step that runs has ended, if one does."""
        if self.on and self._here is not None:
            self.ended.append((self.recorder.finish(self._counted), self._here))
        self.path = [""]
        self._plan = None
        self._blocks = {}

    @cached_property
    def steps(self) -> list[Step]:
        """Those that have ended, in main memory; to be asked for once the pass is over.

        Raises:
            RowsError: another sequence than the needle was there.
        """
        token_ids = [check_rows(step.rows, found, self._prompt) for step, found in self.ended]
        return steps_on_host([step for step, _ in self.ended], token_ids)

    def model_begins(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
        """The step's tensors are there: find the needle's rows in them.

        Whether it was the needle that stood there is seen once the pass is over: an engine may be far ahead of its
        device, and would wait for all that was computed until now.
        """
        if self._plan is None or self.refused:
            return
        names = (*arguments, None, None)
        ids, positions = named.get("input_ids", names[0]), named.get("positions", names[1])
        batch = self._runner.input_batch
        name = next((one for one in batch.req_ids if one == self._request or one.startswith(self._request + "-")), None)
        if name is None:
            return
        if ids is None or positions is None:
            self.refused = "the model is given no token ids, so that the needle's rows cannot be made sure of"
            return
        rows = needle_rows(batch, self._plan, name, ids.shape[0])
        if rows is None or rows.first > self._until:
            return
        with unseen():
            self._here = found_at(rows, positions, ids)
        if not self.on:
            self._step.enter_context(Dispatch(self))
        self.recorder.begin(rows)
        self.parts.begin()

    def cached(self, name: str, layer: Any, layout: Any) -> CachedRows | None:
        """The needle's part of a layer's cache; None where it cannot be read."""
        import torch

        if layout is None or self.recorder.rows is None:
            return None
        table = block_table(self._runner, name)
        rows = self.recorder.rows
        cache = cache_of(layer)
        key = id(table), layout.slots
        if key not in self._blocks:  # once a step, for all layers of a group
            numbers = table.get_numpy_array()[rows.place, : -(-(rows.last + 1) // layout.slots)]
            self._blocks[key] = torch.as_tensor(numbers.copy(), dtype=torch.int64, device=cache.device)
        return CachedRows(layout, cache, self._blocks[key])


def block_table(runner: Any, layer: str) -> Any:
    """The table of blocks of a layer's group; None where it has none."""
    groups = runner.kv_cache_config.kv_cache_groups
    number = next((number for number, group in enumerate(groups) if layer in group.layer_names), None)
    return None if number is None else runner.input_batch.block_table[number]


class Dispatch(TorchDispatchMode):
    """Sees every operator that PyTorch dispatches while a pass is watched."""

    def __init__(self, watched: Watched) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watched = watched

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run it, and tell of it."""
        named = kwargs or {}
        recorder = self._watched.recorder
        if not self._watched.on:
            return func(*args, **named)
        if makes_empty(func):
            made = func(*args, **named)
            recorder.made_empty(tensors_in(made))
            return made
        if reads_state(func) or self._watched.path[-1] in self._watched.parts.layers:
            answer = func(*args, **named)
            recorder.wrote([*written(func, args, named), *tensors_in(answer)])
            return answer
        if only_looks(func):
            return self._look(func, args, named)
        return self._run(func, args, named)

    def _look(self, func: Any, args: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """A view is nothing that could differ; what such an operator had to copy is nothing either, but is written."""
        answer = func(*args, **named)
        if not self._watched.recorder.anything_empty:
            return answer
        taken = {one.untyped_storage().data_ptr() for one in tensors_in((args, dict(named)))}
        copies = [one for one in tensors_in(answer) if one.untyped_storage().data_ptr() not in taken]
        self._watched.recorder.wrote(copies)
        return answer

    def _run(self, func: Any, args: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """Call an operator, and tell the recorder what it took and wrote."""
        recorder = self._watched.recorder
        taken = list(tensors_in((args, dict(named))))
        into = written(func, args, named)
        call = Call(recorder.place(self._watched.path[-1], name_of(func)), "operator", recorder.held(taken))
        call.scalars = scalars_in((args, dict(named)))
        ours = {id(one) for one in into}
        strange = [one for one in taken if id(one) not in ours and recorder.is_empty(one)]
        if strange:
            call.unseen.append("something that is no operator of PyTorch's wrote what it takes")
            recorder.wrote(strange)
        recorder.enter(call, func, args, named)
        answer = func(*args, **named)
        given = [*into, *(one for one in tensors_in(answer) if id(one) not in ours)]
        if not given and not func._schema.returns:
            call.unseen.append("its schema does not say what it writes")
        recorder.wrote(given)
        recorder.leave(call, given)
        return answer


class Names(TorchDispatchMode):
    """Notes the names of operators, and nothing else of them."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = names

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run it, and note its name unless it is a view."""
        if not only_looks(func) and not makes_empty(func):
            self._names.append(name_of(func))
        return func(*args, **(kwargs or {}))


def noted(names: list[str], inner: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """Run something, and note the names of the operators inside.

    PyTorch cannot hand on an operator's list with undefined tensors in it, as FlashAttention 3 gives it, while a mode
    is there: what runs into that is run once more without, and its operators stay unnamed.
    """
    try:
        with Names(names):
            return inner(*args, **named)
    except RuntimeError as error:
        if _LOST not in str(error):
            raise
        names.clear()
        return inner(*args, **named)


_LOST = "Unable to cast Python instance of type <class 'list'>"


def calls_over_ranks(watched: Watched) -> Iterator[tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]]]:
    """Each call's owner, its name, and what goes around it while a pass is watched; none where there is one rank."""
    from vllm.distributed.parallel_state import get_tp_group

    group = get_tp_group()
    if group.world_size > 1:
        yield from ((group, name, _around(watched, f"vllm.{name}")) for name in CALLS if hasattr(group, name))


def _around(watched: Watched, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def around(inner: Callable[..., Any]) -> Callable[..., Any]:
        def called(tensor: Any, *args: Any, **named: Any) -> Any:
            """The sum's call: one operator, within which no other is told."""
            path = watched.path[-1]
            if not watched.on or not watched.focus.looks_into(path):
                return inner(tensor, *args, **named)
            recorder = watched.recorder
            call = Call(recorder.place(path, name), "operator", recorder.held([tensor]))
            call.scalars = scalars_in((args, named))
            ours = isinstance(_get_current_dispatch_mode(), Dispatch)
            with _pop_mode_temporarily() if ours else nullcontext():
                answer = inner(tensor, *args, **named)
            given = list(tensors_in(answer))
            recorder.wrote(given)
            recorder.leave(call, given)
            return answer

        return called

    return around
