"""Needles and the batches that they are hidden in, made from a seed alone, so that every arm is given the same."""

from __future__ import annotations

import random
from collections.abc import Sequence

from e2e.workload.options import Options
from e2e.workload.trials import STAGGERED, WARM_UP
from profiles.run_files.record import Record

NEEDLE_TEXT = "There once was a "  # the upstream script's

_WATCHED = 256
"""Tokens of the longest prompt that is watched: a GPU must hold as many times the logits of the whole vocabulary."""

_LOWEST_TOKEN = 64
"""Below it stand special tokens in many vocabularies."""


class Batch(Record):
    """The prompts of one trial, as token ids.

    Attributes:
        trial: its number, see `e2e.workload.trials`.
        prompts: token ids of every sequence.
        places: where each needle stands among them.
        at_once: how many of them are there from the start; see `e2e.engine.worker.Backend.generate_staggered`.
        watched: places of the needles that are `with_prompt_logprobs`; none where the trial is timed.
    """

    trial: int
    prompts: tuple[tuple[int, ...], ...]
    places: tuple[int, ...]
    at_once: int
    watched: tuple[int, ...]


def with_prompt_logprobs(options: Options, needle: Sequence[int]) -> bool:
    """Whether a needle's own tokens have their log probabilities compared too, where nothing is timed.

    Of a prefill the first generated token tells one row, the last; what a kernel's order changes is often rounded away
    in that one, and not in all of them.  vLLM takes no prefix of such a prompt from its cache, so where that is asked
    for none is watched.
    """
    return len(needle) <= _WATCHED and not options.prefix_caching


def needles(options: Options, text: Sequence[int] | None, vocabulary: int) -> tuple[tuple[int, ...], ...]:
    """Prompts of the needles: the upstream script's text where there is a tokenizer, the others random tokens.

    None is longer than a filler may be, since an engine may take no more; the text is cut there.  The others are one
    token short of a power of two, the longest as long as it may be, the next half as long, and so on.  Kernels choose
    their order of addition by the number of tokens of a step, mostly at powers of two, and only a needle that is below
    such an edge alone and above it in company can show it; the more tokens it has there, the more roundings can.  vLLM
    0.26's norms have one at 256 (https://github.com/vllm-project/vllm/pull/48391).
    """
    draw = random.Random(f"needles {options.seed}")
    first = (tuple(text) if text else _tokens(draw, 5, vocabulary))[: options.max_prompt]
    longest = (options.max_prompt + 1).bit_length() - 1  # as a power of two
    lengths = [2 ** (longest - number % longest) - 1 for number in range(options.needles - 1)]
    return (first, *(_tokens(draw, length, vocabulary) for length in lengths))


def batch(options: Options, trial: int, hidden: Sequence[tuple[int, ...]], vocabulary: int) -> Batch:
    """A batch of half to all of ``batch_size`` sequences: the needles at random places among random fillers.

    Where sequences are staggered every other needle is there from the start, and is decoded while others are prefilled;
    the rest come later, and are prefilled while others are decoded.  Of the warm-up other tokens, as many, take the
    needles' places: it comes before they are run alone, where the engine must not have them in its prefix cache.
    """
    draw = random.Random(f"trial {options.seed} {trial}")
    size = max(len(hidden) + 1, draw.randint(options.batch_size // 2, options.batch_size))
    size = min(size, options.batch_size)  # of one sequence, which has nothing to be staggered beside
    at_once = max(1, size // 2) if trial == STAGGERED else size
    places = _places(draw, len(hidden), size, at_once)
    prompts = [_tokens(draw, draw.randint(options.min_prompt, options.max_prompt), vocabulary) for _ in range(size)]
    if trial == WARM_UP:
        hidden = [_tokens(draw, len(needle), vocabulary) for needle in hidden]
    for place, needle in zip(places, hidden, strict=True):
        prompts[place] = needle
    seen = (p for p in places if trial == STAGGERED and with_prompt_logprobs(options, prompts[p]))
    return Batch(trial=trial, prompts=tuple(prompts), places=places, at_once=at_once, watched=tuple(seen))


def _places(draw: random.Random, count: int, size: int, at_once: int) -> tuple[int, ...]:
    """Anywhere; or where some sequences come later, every other needle among these."""
    if at_once == size:
        return tuple(draw.sample(range(size), count))
    early, late = draw.sample(range(at_once), at_once), draw.sample(range(at_once, size), size - at_once)
    return tuple((late if needle % 2 else early)[needle // 2] for needle in range(count))


def _tokens(draw: random.Random, count: int, vocabulary: int) -> tuple[int, ...]:
    return tuple(draw.randrange(min(_LOWEST_TOKEN, vocabulary - 1), vocabulary) for _ in range(count))
