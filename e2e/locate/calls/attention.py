"""The call of attention with its real inputs, of the implementations of vLLM's that are known here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from e2e.locate.calls import cpu_attention, flash_attention
from e2e.locate.calls.capture import NotSavedError
from e2e.locate.calls.sequences import TENSORS, CapturedSequences, SavedSequences
from e2e.locate.seen.rows import NeedleRows

_CAPTURED: Mapping[str, Callable[[Any, Mapping[str, Any], NeedleRows], CapturedSequences]] = {
    cpu_attention.NAME: cpu_attention.captured,
    flash_attention.NAME: flash_attention.captured,
}


def captured(impl: Any, args: Mapping[str, Any], rows: NeedleRows) -> CapturedSequences:
    """Keep a call that has just run.

    Args:
        impl: vLLM's implementation of it.
        args: of its ``forward``, by name.
        rows: where the needle stands in the step.

    Raises:
        NotSavedError: it is another implementation, or takes what cannot be saved.
    """
    name = type(impl).__name__
    if name not in _CAPTURED or not hasattr(args.get("attn_metadata"), "seq_lens"):
        raise NotSavedError(f"it is {name}'s; of attention only calls of {' and '.join(_CAPTURED)} can be")
    return _CAPTURED[name](impl, args, rows)


def saved(words: Mapping[str, str], tensors: Mapping[str, Any]) -> Callable[[], SavedSequences] | None:
    """What makes the call in a file ready to run; None where the file holds another kind of call.

    Raises:
        ValidationError: the file was not written so.
        LookupError: tensors are missing, which the message names.
    """
    if cpu_attention.KEY in words:
        of_cpu = cpu_attention.CpuWords.model_validate_json(words[cpu_attention.KEY])
        _complete(tensors)
        return lambda: cpu_attention.SavedCpuAttention(of_cpu, tensors)
    if flash_attention.KEY in words:
        of_gpu = flash_attention.FlashWords.model_validate_json(words[flash_attention.KEY])
        _complete(tensors)
        return lambda: flash_attention.SavedFlashAttention(of_gpu, tensors)
    return None


def _complete(tensors: Mapping[str, Any]) -> None:
    if lacking := sorted(set(TENSORS) - tensors.keys()):
        raise LookupError(", ".join(lacking))
