"""A server of our own: that it is ours, that nobody else is answered, and what is said of its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from e2e.engine.error_causes import ServerError, killed_by
from e2e.engine.online import server
from e2e.engine.online.served import Served, served
from e2e.engine.online.server import Server, free_port, listens
from e2e.workload.messages import StartEngine
from e2e.workload.options import Options
from support import ROOT
from support.e2e_servers import Own, listening
from support.processes import LIMIT_S, environment

OPTIONS = Options(batch_size=2, max_prompt=8, max_tokens=3, max_model_len=64, mode="online")

# What is started in the place of vLLM's, which takes a while to listen too.
LISTENING = """
import os, sys, time
from support.e2e_servers import Handler, Own

time.sleep(1)
Own.key = os.environ["VLLM_API_KEY"]
Own(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StartEngine:
    """Starts a small server in vLLM's place."""
    place = tmp_path / "vllm" / "entrypoints" / "openai" / "api_server.py"
    place.parent.mkdir(parents=True)
    place.write_text(LISTENING)
    (tmp_path / "vllm" / "__init__.py").write_text("LLM = None")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "tests"))))
    return StartEngine(arm="baseline", model=str(tmp_path), options=OPTIONS, on_gpu=False)


@pytest.fixture
def own(request_: StartEngine) -> Iterator[Server]:
    with closing(Server(request_)) as found:
        yield found


def ask(url: str) -> None:
    body = b'{"prompt": [1], "max_tokens": 5, "echo": false}'
    urllib.request.urlopen(urllib.request.Request(url, body), timeout=LIMIT_S).read()


def test_who_does_not_know_the_key_is_not_answered_and_it_stands_on_no_command_line(own: Server) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(f"{own._url}/v1/completions")
    own.generate([(1, 2), (3,)])
    own.check_undisturbed()
    assert len(own._key) == 64
    assert not any(own._key in word for word in psutil.Process(own._process.pid).cmdline())


def test_strangers_who_are_answered_are_noticed(own: Server) -> None:
    own.generate([(1, 2), (3,)])
    ask(f"{own._url}/invocations")
    with pytest.raises(ServerError) as caught:
        own.check_undisturbed()
    told = "it answered 3 requests with 11 tokens where 2 requests with 6 tokens were asked for here"
    assert told in str(caught.value)


def test_who_listens_where_our_server_was_told_to_is_not_believed(
    request_: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(Own) as url:
        port = int(url.rpartition(":")[2])
        monkeypatch.setattr(server, "free_port", lambda: port)
        with pytest.raises(ServerError, match="the server ended with status 1"):
            Server(request_)
        assert (
            urllib.request.urlopen(f"{url}/metrics", timeout=LIMIT_S).read().count(b" 0.0\n") == 3
        )  # nothing was asked


def test_a_listener_is_known_by_its_process() -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        assert not listens(os.getpid(), port)
        found.listen()
        assert listens(os.getpid(), port)
        assert not listens(os.getppid(), port)
    assert not listens(os.getpid(), free_port())


METRICS = """# HELP vllm:request_success_total Count of successfully processed requests.
# TYPE vllm:request_success_total counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="/a b/c{d}"} 0.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="/a b/c{d}"} 7.0
vllm:request_success_total{engine="1",finished_reason="abort",model_name="/a b/c{d}"} 2.0
vllm:request_success_created{engine="0",finished_reason="stop",model_name="/a b/c{d}"} 1.7e+09
vllm:generation_tokens_total{engine="0",model_name="/a b/c{d}"} 1.2345678e+07
"""


def test_answers_are_counted_over_all_engines_and_however_they_ended() -> None:
    assert served(METRICS.encode()) == Served(requests=9, tokens=12_345_678)
    with pytest.raises(ServerError, match="do not tell vllm:generation_tokens_total"):
        served(METRICS.replace("generation", "other").encode())


KILLED = """
import os, signal, sys, time
from multiprocessing import connection, get_context
from e2e.engine.online.serve import tell_who_is_killed

if __name__ == "__main__":
    tell_who_is_killed()
    for way in ("fork", "spawn"):
        own, other = (get_context(way).Process(target=time.sleep, args=(60,)) for _ in range(2))
        own.start(), other.start()
        own.terminate()
        own.join()
        os.kill(other.pid, int(sys.argv[1]))
        connection.wait([other.sentinel])
        other.terminate()  # as vLLM does with who is gone
        other.join()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_what_killed_an_engine_is_told_by_its_parent_which_alone_knows(tmp_path: Path, number: signal.Signals) -> None:
    """And nothing of those that it ends itself."""
    (tmp_path / "killed.py").write_text(KILLED)
    done = subprocess.run(
        [sys.executable, tmp_path / "killed.py", str(int(number))],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert killed_by(done.stderr) == number.name
    assert killed_by("another line\n") is None
