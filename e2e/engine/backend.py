"""What a trial needs of an engine, be it in this process or behind a server."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from e2e.engine.step_ranges import OnStep
from e2e.workload.options import Options

Prompt = tuple[int, ...]


class Output(NamedTuple):
    """What came back for one prompt.

    Attributes:
        tokens: ids of the tokens generated.
        logprobs: of each.
        first_token_s: seconds to the first token; None where nobody measured it.
        later_tokens_s: seconds from the first to the last.
        prompt_logprobs: of the prompt's own tokens from its second on, where the prompt was watched.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    first_token_s: float | None = None
    later_tokens_s: float = 0.0
    prompt_logprobs: tuple[float, ...] = ()


class Backend(Protocol):
    """A way of asking an engine.

    Attributes:
        provenance: its version and what was decided for it.
        vocabulary: how many token ids there are.
        text: the upstream script's needle as token ids; None where there is no tokenizer.
    """

    provenance: str
    vocabulary: int
    text: list[int] | None

    def on_step(self, begin: OnStep) -> None:
        """Announce every step before it runs, where the engine is in this process."""

    def generate(self, prompts: Sequence[Prompt], watched: Collection[int] = ()) -> list[Output]:
        """Answer all prompts at once; ``watched`` are the numbers of those whose own log probabilities are wanted."""

    def generate_staggered(
        self, prompts: Sequence[Prompt], at_once: int, watched: Collection[int] = ()
    ) -> list[Output]:
        """Answer prompts of which each after the first ``at_once`` comes when the one before it has its first token."""

    def check_undisturbed(self) -> None:
        """See that the engine has answered nobody else since it is up; not while anything is timed.

        Raises:
            ServerError: it has.
        """

    def close(self) -> None:
        """End what does not end with this process, or ends too suddenly with it."""


def sampling(options: Options) -> dict[str, Any]:
    """How tokens are chosen, as upstream has it."""
    chosen = {"temperature": options.temperature, "max_tokens": options.max_tokens, "ignore_eos": options.ignore_eos}
    return chosen | {"top_p": 0.95, "seed": 20240919} if options.temperature > 0 else chosen


def has_tokenizer(model: str) -> bool:
    """Whether a checkpoint has one; of a name that is no directory vLLM finds out for itself."""
    return not Path(model).is_dir() or any(Path(model).glob("tokenizer*"))
