"""The frame of all three command lines: how a command is called, what it prints where, and how it ends.

`CommandLine` is a `typer.Typer` whose commands return their exit status.  Around each of them stands the same:
a mistake becomes one line on standard error, Ctrl-C another; ``--version`` and shell completion are there; and a reader
that has gone away (``… | head -1``) is no failure: the command does what is left to do, writes into nothing, and ends
with the status that it would have had.  Output that a full disk did not take is one, of status 3; and an error that
nobody foresaw has one of its own, since 1 is said of what was judged and of nothing else.
"""

from __future__ import annotations

import codecs
import errno
import functools
import io
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NoReturn, TextIO, cast

import typer

from profiles.errors import CommandError, ExitStatus
from profiles.invocation import INSTALLED, TRACEBACK, called, note_call, tell_unforeseen
from profiles.text import inert

Command = Callable[..., int | None]

_COMPLETION = ("--install-completion", "--show-completion")
_STATUSES = (
    f"Of all commands: 4 an error of samebits' own or of the machine ({TRACEBACK}=1 shows where it came from); "
    "130 Ctrl-C; and after another signal 128 and its number."
)

# Of the mistakes that typer finds in the words of a command line it names one alone; all are of this kind.
_WRONG_WORDS = cast(type[Exception], typer.BadParameter.__mro__[1])


def warn(package: str, message: str) -> None:
    """One line on standard error, whatever the message holds: what could steer a terminal is shown as what it is."""
    line = " ".join(line.strip() for line in message.splitlines())
    print(f"{package}: {printable(line)}", file=sys.stderr, flush=True)


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
        self._interruptible = False
        self._mendable: tuple[type[Exception], ...] = (CommandError, *also)

    def command(self, *args: Any, **kwargs: Any) -> Callable[[Command], Command]:  # type: ignore[override]
        """Register a command, which returns its exit status or None for 0."""
        register = super().command(*args, epilog=_STATUSES, **kwargs)
        return lambda command: register(self._framed(command))

    def callback(self, *args: Any, **kwargs: Any) -> Callable[[Command], Command]:  # type: ignore[override]
        """Register what runs without a subcommand, likewise."""
        register = super().callback(*args, epilog=_STATUSES, **kwargs)
        return lambda command: register(self._framed(command))

    def _framed(self, command: Command) -> Command:
        @functools.wraps(command)
        def framed(*args: Any, **kwargs: Any) -> int | None:
            try:
                with self._interrupts_are_exceptions():
                    _refuse_a_place_that_is_gone()
                    return command(*args, **kwargs)
            except (typer.Exit, typer.Abort, _WRONG_WORDS):  # they are typer's to handle
                raise
            except Exception as error:  # here, for typer takes some of them for what they are not
                raise typer.Exit(self._told(error)) from error
            except KeyboardInterrupt as error:
                self.warn("interrupted")
                raise typer.Exit(ExitStatus.INTERRUPTED) from error

        return framed

    @contextmanager
    def _interrupts_are_exceptions(self) -> Iterator[None]:
        """In a command, where there may be something to tidy up.

        Between a group's words and its command's there is not, and typer would end the process without a word.
        """
        if not self._interruptible:
            yield
            return
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def warn(self, message: str) -> None:
        """One line on standard error."""
        warn(self.package, message)

    def _told(self, error: Exception) -> int:
        if isinstance(error, self._mendable):
            self.warn(str(error))
            return int(getattr(error, "status", ExitStatus.INCOMPLETE))
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # no name of ours is
            self.warn(f"{error.filename}: {error.strerror}")
            return ExitStatus.USAGE
        tell_unforeseen(self.package, error)
        return ExitStatus.ERROR

    def main(self) -> NoReturn:
        """Entry point of the process."""
        _open_standard_streams()
        note_call()
        _guarded("stderr")
        output = _guarded("stdout")
        for number in self._end_in_order:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(number, _end)
        self._interruptible = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        completion = any(word.startswith(_COMPLETION) for word in sys.argv[1:])
        try:
            status = self._complete() if completion else self._run(prog_name=" ".join(called(self.package)))
        except Exception as error:  # outside of any command, for which see `_framed`
            status = self._told(error)
        if self._interruptible:  # all that is left to do is to end
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stdout.flush()
        if output.failure is not None:
            self.warn(f"cannot write to standard output: {output.failure.strerror}")
            status = ExitStatus.INCOMPLETE
        sys.exit(status)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Do what the command line says, in this process, and end it; arguments are those of typer's own."""
        sys.exit(self._run(*args, **kwargs))

    def _run(self, args: Sequence[str] | None = None, **kwargs: Any) -> int:
        words = sys.argv[1:] if args is None else args
        if (wrong := next(filter(_is_no_text, words), None)) is not None:
            encoding = sys.getfilesystemencoding()
            self.warn(f"{printable(wrong)}: an argument that is no text in this locale's encoding, {encoding}")
            return ExitStatus.USAGE
        try:
            status = super().__call__(words, standalone_mode=False, **kwargs)
        except _WRONG_WORDS as error:
            return self._refused(error)
        except typer.Abort:  # typer's, of an input that ended
            return ExitStatus.INTERRUPTED
        except KeyboardInterrupt:  # between the command line and the command
            self.warn("interrupted")
            return ExitStatus.INTERRUPTED
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


def printable(text: str) -> str:
    """A word as it was typed, without what could steer a terminal; bytes that are no text are shown as such."""
    return "".join(c if c.isprintable() else _shown(c) for c in text)


def _shown(character: str) -> str:
    is_a_byte = "\udc80" <= character <= "\udcff"  # that was no text
    return f"\\x{ord(character) & 0xFF:02x}" if is_a_byte else repr(character)[1:-1]


def _is_no_text(word: str) -> bool:
    """Whether a word holds bytes that are no text in the locale's encoding, or a character that no name can hold."""
    return "\0" in word or any("\ud800" <= c <= "\udfff" for c in word)


def _refuse_a_place_that_is_gone() -> None:
    """Refuse to begin where no path leads anywhere.

    Raises:
        CommandError: the current directory was deleted.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise CommandError(f"the current directory: {error.strerror}; start from one that is there") from error


def _open_standard_streams() -> None:
    """Let no file of ours take the place of a standard stream that was closed: what others print would go into it."""
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(file, True)
    os.close(file)


def _end(number: int, _: object) -> NoReturn:
    """End as an exit does; once is enough."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """What cannot be encoded, written as JSON writes it, so that JSON stays JSON."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


_ESCAPED = "samebits.escaped"
codecs.register_error(_ESCAPED, _escaped)


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
        errors=_ESCAPED,  # a character that the encoding lacks is no reason to say nothing
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    setattr(sys, name, guarded)
    return outlet
