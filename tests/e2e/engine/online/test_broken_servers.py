"""Servers that answer something else than was asked for, or without an end: each is told as what it is."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from e2e.engine.error_causes import ServerError
from e2e.engine.online.client import Client
from e2e.records import FORMAT, ArmLost, SoloAnswers
from e2e.workload.options import Options
from support.e2e_servers import MODEL, Dripping, Endless, Server, Silent, listening
from support.processes import LIMIT_S, completed

OPTIONS = Options(batch_size=2, max_prompt=8, max_tokens=3, max_model_len=64)
WORDS = "--batch-size 4 --num-trials 1 --min-prompt 4 --max-prompt 8 --max-tokens 3 --max-model-len 64 --needles 2"


def test_an_answer_is_taken_as_it_came() -> None:
    with listening(Server, logprobs=[-1, -2.5, -math.inf]) as url:
        (watched, other) = Client(url, None, OPTIONS).generate([(1, 2, 3), (4,)], watched=(0,))
    assert (watched.tokens, watched.logprobs, watched.prompt_logprobs) == (
        (0, 1, 2),
        (-1.0, -2.5, -math.inf),
        (-1.0, -1.0),
    )
    assert (other.tokens, other.logprobs, other.prompt_logprobs) == ((0, 1, 2), (-1.0, -2.5, -math.inf), ())


@pytest.mark.parametrize(
    ("config", "vocabulary"),
    [
        ('{"vocab_size": 77}', 77),  # which transformers would refuse, since it names no model
        ('{"vocab_size": 77, "text_config": {"vocab_size": 78}}', 32000),
        *((text, 32000) for text in ('{"vocab_size": "77"}', "{}", "[77]", "{")),
    ],
)
def test_a_checkpoint_in_a_directory_tells_its_vocabulary_itself(tmp_path: Path, config: str, vocabulary: int) -> None:
    (tmp_path / "config.json").write_text(config)
    with listening(Server, model=MODEL | {"root": str(tmp_path)}) as url:
        assert Client(url, None, OPTIONS).vocabulary == vocabulary


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"logprobs": [-1.0, None, -2.0]}, "null for 1 of 3 log probabilities, as vLLM does where they are NaN"),
        ({"logprobs": [None, -1.0, -2.0]}, "null for 1 of 3 log probabilities"),
        ({"logprobs": [-1.0, -2.0]}, "sent 2 log probabilities for 3 tokens"),
        ({"logprobs": [-1.0] * 4}, "sent 4 log probabilities for 3 tokens"),
        ({"logprobs": [-1.0, "NaN", -2.0]}, "/v1/completions answers what no vLLM does: choices.0.logprobs"),
        ({"logprobs": [-1.0, -1e300, -2.0]}, "sent -1e+300 as a log probability, which is no number of fp32"),
        ({"tokens": 2}, "answered 2 tokens where 3 were asked for; where answers may end early, ask with --stop-at"),
        ({"tokens": 4}, "answered 4 tokens where 3 were asked for"),
        ({"tokens": 0}, "answered nothing, or no token ids"),
        ({"ends": False}, "the server hung up in the middle of an answer: its stream has no end"),
    ],
)
def test_an_answer_that_is_none_is_told_as_what_came(fields: dict[str, Any], said: str) -> None:
    """Whether or not its prompt was echoed, whose log probabilities must never stand for the answer's."""
    with listening(Server, **fields) as url:
        client = Client(url, None, OPTIONS)
        for watched in ((), (0,)):
            if watched and "log probabilities for" in said:
                said = f"{len(fields['logprobs']) + 5} log probabilities for 3 tokens and the 5 of their prompt"
            with pytest.raises(ServerError) as caught:
                client.generate([(1, 2, 3, 4, 5)], watched)
            assert said.replace("of 3", "of 8" if watched else "of 3") in str(caught.value)


def test_an_answer_without_an_end_is_not_read_to_it() -> None:
    with listening(Endless) as url, pytest.raises(ServerError, match=r"more than \d+ bytes as one answer"):
        Client(url, None, OPTIONS).generate([(1, 2, 3)])


@pytest.mark.parametrize(
    "model", [None, {"id": 7}, {}, {"id": "small", "max_model_len": "long"}], ids=["none", "number", "empty", "text"]
)
def test_a_server_that_names_no_model_is_told_so(model: Any) -> None:
    with listening(Server, model=model) as url, pytest.raises(ServerError, match="/v1/models answers what no vLLM do"):
        Client(url, None, OPTIONS)


def asked(url: str, path: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The command, without the library that could tell of a model if there were one, and is imported for seconds."""
    (path.parent / "transformers.py").write_text("raise ImportError\n")
    return completed("e2e", *WORDS.split(), "--server", url, "--out", path, *words, first=path.parent)


def test_a_server_that_takes_shorter_prompts_costs_one_line(tmp_path: Path) -> None:
    with listening(Server, model=MODEL | {"max_model_len": 64}) as url:
        done = asked(url, tmp_path / "run", "--max-prompt", 100, "--max-model-len", 200)
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"{url} takes 64 tokens" in done.stdout


def test_null_in_place_of_log_probabilities_is_no_verdict(tmp_path: Path) -> None:
    with listening(Server, logprobs=[-1.0, None, -2.0]) as url:
        done = asked(url, tmp_path / "run")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "server failed: the server sent null for 1 of 3 log probabilities" in done.stdout
    assert "variant" not in done.stdout


def test_answers_that_are_whole_are_compared(tmp_path: Path) -> None:
    with listening(Server) as url:
        done = asked(url, tmp_path / "run")
    assert done.returncode == 3  # without a baseline nobody knows what this run could have seen
    (alone,) = [record for record in FORMAT.read_records(tmp_path / "run") if isinstance(record, SoloAnswers)]
    assert [len(answer.prompt) for answer in alone.answers] == [4, 6] * 2
    assert "server inconclusive: " in done.stdout


@pytest.mark.parametrize("kind", [Silent, Dripping, Endless])
def test_one_deadline_holds_whatever_arrives(tmp_path: Path, kind: type[Server] | type[Silent]) -> None:
    seconds = LIMIT_S if kind is Endless else 2  # too much of an answer is refused, however long that takes
    with listening(kind) as url:
        done = asked(url, tmp_path / "run", "--timeout", seconds)
    assert done.returncode == 3, done.stdout + done.stderr
    (lost,) = [record for record in FORMAT.read_records(tmp_path / "run") if isinstance(record, ArmLost)]
    told = "more than" if kind is Endless else "the engine did not start: no answer within 2 s (--timeout)"
    assert told in lost.reason
