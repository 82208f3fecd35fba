"""A plugin that is no Python file is refused before a process imports torch."""

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


@pytest.mark.parametrize("words", ["{place}/mine.py", "{place}/mine.py:mm=mine", "{place}/mine.py:mm=main"])
def test_what_only_an_import_can_tell_is_left_to_it(tmp_path: Path, words: str) -> None:
    plugin = words.format(place=Path(written(tmp_path, PLAIN)).parent)
    assert options.plugins([plugin]) == (plugin,)
