"""The help of all commands: complete in itself, with what holds where an option is not given."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from e2e.cli import app as e2e
from e2e.workload.options import PREFIX, VARIABLES, Options
from kernels_bench.cli import app as kernels_bench
from profiles.cli import app as profiles

# Without these nothing is written, read or chosen.
NOTHING_WITHOUT = {
    "--plugin", "--resume", "--json", "--markdown", "--junit", "--csv", "--html", "--svg", "--into", "--run",
    "--uncaptured", "--server", "--nsys-option",
}  # fmt: skip


def commands(app: typer.Typer) -> Iterator[TyperGroup | TyperCommand]:
    main = typer.main.get_command(app)
    assert isinstance(main, TyperGroup)
    yield main
    yield from main.commands.values()  # type: ignore[misc]


APPS = {"kernels_bench": kernels_bench, "e2e": e2e, "profiles": profiles}
ALL = {f"{name} {one.name}": one for name, app in APPS.items() for one in commands(app)}


def shown(command: TyperGroup | TyperCommand) -> str:
    return " ".join(command.get_help(typer.Context(command, info_name="it", terminal_width=100)).split())


@pytest.mark.parametrize("name", ALL)
def test_help_stands_alone(name: str) -> None:
    elsewhere = r"\b(as (above|before|usual)|above|below|likewise|see there)\b"
    assert not re.search(elsewhere, shown(ALL[name]), re.IGNORECASE)
    assert all(param.help for param in ALL[name].params if isinstance(param, TyperOption))


@pytest.mark.parametrize("name", ALL)
def test_an_option_shows_what_holds_without_it(name: str) -> None:
    for param in ALL[name].params:
        if not isinstance(param, TyperOption) or param.required or (param.is_flag and not param.secondary_opts):
            continue
        described = param.get_help_record(typer.Context(ALL[name]))
        assert described is not None
        if param.opts[0] not in NOTHING_WITHOUT:
            assert re.search(r"\[([^]]*; )?default: [^]]+\]", described[1]), param.opts


def test_upstreams_variables_stand_beside_their_flags_and_defaults() -> None:
    text = shown(ALL[f"e2e {next(commands(e2e)).name}"])
    for name, (field, _) in VARIABLES.items():
        described = text.split(f" --{field.replace('_', '-')} ", 1)[1].split(" --", 1)[0]
        assert f"[env var: {PREFIX}{name}; default: {getattr(Options(), field)}" in described


@pytest.mark.parametrize("name", APPS)
def test_no_commands_summary_is_cut(name: str) -> None:
    main = typer.main.get_command(APPS[name])
    text = main.get_help(typer.Context(main, info_name="it", terminal_width=80))
    assert "..." not in text.split("Commands:")[1]


def test_the_main_commands_tell_their_exit_status() -> None:
    for app in (kernels_bench, e2e):
        assert "Exit status: 0 every arm" in shown(next(commands(app)))
