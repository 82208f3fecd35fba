"""The frame of all three command lines: how a command is called, what it prints where, and how it ends.

`CommandLine` is a `typer.Typer` whose commands return their exit status.  Around each of them stands the same:
a mistake becomes one line on standard error, Ctrl-C another; ``--version`` and shell completion are there; and a reader
that has gone away (``… | head -1``) is no failure: the command does what is left to do, writes into nothing, and ends
with the status that it would have had.  Output that a full disk did not take is one, of status 3.
"""

from __future__ import annotations

import functools
import io
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from importlib import metadata
from typing import Annotated, Any, BinaryIO, NoReturn, TextIO, cast

import typer

from profiles.errors import CommandError, ExitStatus
from profiles.invocation import INSTALLED, called, note_call
from profiles.text import inert

Command = Callable[..., int | None]

_COMPLETION = ("--install-completion", "--show-completion")
# Of the mistakes that typer finds in the words of a command line it names one alone; all are of this kind.
_WRONG_WORDS = cast(type[Exception], typer.BadParameter.__mro__[1])


def warn(package: str, message: str) -> None:
    """One line on standard error, whatever the message holds."""
    print(f"{package}: {inert(' '.join(line.strip() for line in message.splitlines()))}", file=sys.stderr, flush=True)


def say(lines: Iterable[str]) -> None:
    """Lines on standard output, whatever they hold; each is there as soon as it is known."""
    for line in lines:
        print(inert(line), flush=True)


def version_line() -> str:
    """The versions that decide what a command does: samebits', Python's, and torch's, which is not imported for it."""
    ours = _installed("samebits") or "from source"
    return f"samebits {ours}, Python {platform.python_version()}, torch {_installed('torch') or 'not installed'}"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _show_version(asked: bool) -> None:
    if asked:
        print(version_line())
        raise typer.Exit(ExitStatus.GOOD)


Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Show the versions of samebits, Python and torch.", callback=_show_version, is_eager=True
    ),
]
"""The type of an option that every package's main command has."""


def refuse_several_outputs(**targets: object) -> None:
    """Refuse that several files be written to standard output, where nobody could tell them apart.

    Args:
        targets: for each option's name what it was given; ``-`` is standard output.

    Raises:
        CommandError: more than one of them is ``-``.
    """
    there = [f"--{name}" for name, target in targets.items() if target is not None and str(target) == "-"]
    if len(there) > 1:
        raise CommandError(f"{' and '.join(there)}: only one of them can be - (standard output); name files for others")


class CommandLine(typer.Typer):
    """The commands of one package.

    Args:
        package: its name, which every line on standard error begins with.
        also: errors beside `CommandError` that end a command with one line; they have a ``status`` too.
        end_in_order: signals that end the process as an exit does, so that whatever cleans up runs.
    """

    def __init__(
        self,
        package: str,
        *,
        also: tuple[type[Exception], ...] = (),
        end_in_order: tuple[signal.Signals, ...] = (),
    ) -> None:
        super().__init__(
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
        )
        self.package, self._end_in_order = package, end_in_order
        self._mendable: tuple[type[Exception], ...] = (CommandError, *also)

    def command(self, *args: Any, **kwargs: Any) -> Callable[[Command], Command]:  # type: ignore[override]
        """Register a command, which returns its exit status or None for 0."""
        register = super().command(*args, **kwargs)
        return lambda command: register(self._framed(command))

    def callback(self, *args: Any, **kwargs: Any) -> Callable[[Command], Command]:  # type: ignore[override]
        """Register what runs without a subcommand, likewise."""
        register = super().callback(*args, **kwargs)
        return lambda command: register(self._framed(command))

    def _framed(self, command: Command) -> Command:
        @functools.wraps(command)
        def framed(*args: Any, **kwargs: Any) -> int | None:
            try:
                return command(*args, **kwargs)
            except self._mendable as error:
                raise typer.Exit(self._told(error)) from error
            except KeyboardInterrupt as error:
                self.warn("interrupted")
                raise typer.Exit(ExitStatus.INTERRUPTED) from error

        return framed

    def warn(self, message: str) -> None:
        """One line on standard error."""
        warn(self.package, message)

    def _told(self, error: Exception) -> int:
        self.warn(str(error))
        return int(getattr(error, "status", ExitStatus.INCOMPLETE))

    def main(self) -> NoReturn:
        """Entry point of the process."""
        note_call()
        _guarded("stderr")
        output = _guarded("stdout")
        for number in self._end_in_order:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(number, _end)
        completion = any(word.startswith(_COMPLETION) for word in sys.argv[1:])
        status = self._complete() if completion else self._run(prog_name=" ".join(called(self.package)))
        sys.stdout.flush()
        if output.failure is not None:
            self.warn(f"cannot write to standard output: {output.failure.strerror}")
            status = ExitStatus.INCOMPLETE
        sys.exit(status)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Do what the command line says, in this process, and end it; arguments are those of typer's own."""
        sys.exit(self._run(*args, **kwargs))

    def _run(self, *args: Any, **kwargs: Any) -> int:
        try:
            status = super().__call__(*args, standalone_mode=False, **kwargs)
        except _WRONG_WORDS as error:
            return self._refused(error)
        return int(status or ExitStatus.GOOD)

    def _refused(self, error: Any) -> int:
        """A mistake in the words of the command line, in typer's words, and where help is."""
        where = error.ctx.command_path if error.ctx is not None else " ".join(called(self.package))
        self.warn(f"{error.format_message().rstrip('.')}; see {where} --help")
        return ExitStatus.USAGE

    def _complete(self) -> int:
        """Typer's completion, of the installed command: no shell completes the words after ``python -m``."""
        said, warned = io.StringIO(), io.StringIO()
        try:
            with redirect_stdout(said), redirect_stderr(warned):
                status = self._run(prog_name=INSTALLED[self.package])
        except SystemExit as end:
            status = int(end.code or 0)
        except OSError as error:
            self.warn(f"cannot install completion: {error.filename}: {error.strerror}")
            return ExitStatus.INCOMPLETE
        if status == ExitStatus.VERDICT:  # typer's, which knows no other for what cannot be done
            self.warn("this shell is not known; there is completion for bash, zsh, fish and PowerShell")
            return ExitStatus.USAGE
        print(said.getvalue(), end="")
        print(warned.getvalue(), end="", file=sys.stderr)
        return status


def _end(number: int, _: object) -> NoReturn:
    """End as an exit does; once is enough."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


class _Outlet(io.FileIO):
    """A standard stream that takes all that is written, also where it leads nowhere any more; it closes nothing.

    Attributes:
        failure: what kept it from being written while there was a reader, such as a disk that is full.
    """

    failure: OSError | None = None
    _leads_nowhere = False

    def write(self, data: Any, /) -> int:
        """Write, or let go; the number of bytes."""
        size = memoryview(data).nbytes
        if self._leads_nowhere or not size:  # typer asks streams what they take by writing nothing
            return size
        try:
            return super().write(data)
        except BrokenPipeError:
            self._leads_nowhere = True
        except OSError as error:
            self._leads_nowhere, self.failure = True, error
        return size


def _guarded(name: str) -> _Outlet:
    """Have a standard stream take what is written.  One that was closed from the start leads nowhere."""
    stream: TextIO | None = getattr(sys, name)
    if stream is None:  # what is printed to none would go to standard output
        stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        setattr(sys, f"__{name}__", stream)  # whose descriptor lives as long as it
    assert isinstance(stream, io.TextIOWrapper)
    stream.flush()
    outlet = _Outlet(stream.fileno(), "w", closefd=False)
    guarded = io.TextIOWrapper(
        cast(BinaryIO, outlet if stream.write_through else io.BufferedWriter(outlet)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    setattr(sys, name, guarded)
    return outlet
