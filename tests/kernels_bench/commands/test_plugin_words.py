"""What is wrong with ``--plugin FILE:OPERATOR=FUNCTION`` is told before a process imports torch, where it can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels_bench.arms import PluginError, load_plugin
from kernels_bench.commands import options
from kernels_bench.console.errors import UsageError

PLAIN = "from __future__ import annotations\nimport torch\n\n\ndef mine(a, b):\n    return torch.mm(a, b)\n"


def written(place: Path, text: str, name: str = "mine.py") -> str:
    (place / name).write_text(text)
    return str(place / name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{place}/nothing.py", "no such file"),
        ("{place}/mine.txt", "not a Python file; its name must end in .py"),
        ("{place}/mine.py:mm", "no such file"),
        ("{place}/mine.py:mmm=mine", "there is no operator 'mmm'; did you mean mm"),
        ("{place}/mine.py:mm=main", "mine.py has no function 'main'"),
    ],
)
def test_a_mistyped_plugin_is_refused_as_its_import_would_refuse_it(tmp_path: Path, words: str, said: str) -> None:
    for name in ("mine.py", "mine.txt"):
        written(tmp_path, PLAIN, name)
    plugin = words.format(place=tmp_path)
    with pytest.raises(UsageError) as caught:
        options.plugins([plugin])
    assert said in str(caught.value)
    with pytest.raises(PluginError) as imported:
        load_plugin(plugin)
    assert str(imported.value) == str(caught.value)


@pytest.mark.parametrize(
    ("operator", "text"),
    [
        ("mm", PLAIN),
        ("mm", "for name in ('mi', 'yo'): globals()[name + 'ne'] = lambda a, b: a @ b\n"),
        ("mm", "exec('def mi' + 'ne(a, b): return a @ b')\n"),
        ("mm", "def __getattr__(name): return lambda a, b: a @ b\n"),
        ("mm", "from beside_mine import *\n"),
        ("mm", "import beside_mine as beside\nmine = beside.kernel\n"),
        ("mm", "def \uff4dine(a, b): return a @ b\n"),
        ("turned", "from beside_mine import turned, mine\n"),
    ],
)
def test_what_an_import_takes_is_not_refused(tmp_path: Path, operator: str, text: str) -> None:
    written(
        tmp_path,
        "from kernels_bench import Operator\n"
        "turned = Operator.define('turned', rows={'x': ('d',)}, shapes={'s': {'d': 8}}, results=[('d',)])\n"
        "def kernel(x): return -x\n"
        "mine = kernel\n",
        "beside_mine.py",
    )
    plugin = f"{written(tmp_path, text)}:{operator}=mine"
    assert options.plugins([plugin]) == (plugin,)
    assert load_plugin(plugin).arms[0].name == "mine"
