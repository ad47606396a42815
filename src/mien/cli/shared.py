"""What several commands share: options, which files a call names, answers, notes and signals."""

import contextlib
import json
import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from typer import Option

from mien.errors import CallError, Interrupted, look_up, shorten

if TYPE_CHECKING:  # NumPy, which `mien --help` does not need
    from mien.data import FaceSamples
    from mien.recipe import DataSettings

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it, but for tab and line feed; and what turns the order of signs round."""


def visible(text: str) -> str:
    """The text with its control characters as they are written in Python."""
    return CONTROLS.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


def visible_name(name: str) -> str:
    """A file's name in one line: as :func:`visible`, tabs and line feeds too."""
    return visible(name).replace("\t", "\\t").replace("\n", "\\n")


class PlainConsole(Console):
    """Prints texts as they are: no markup, no emoji, no colours by guessing, control characters made visible."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, soft_wrap=stderr, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text passes here, cells and titles of tables too."""
        return super().render_str(visible(text), **options)


class _Messages(PlainConsole):
    def print(self, *objects: Any, **options: Any) -> None:
        """Print, if anybody can still read it: a terminal that was closed is no reason to fail."""
        with contextlib.suppress(OSError):
            super().print(*objects, **options)


messages = _Messages(stderr=True)
"""Notes and progress on stderr, silent with ``--quiet``; answers go to stdout."""


def _add_metrics(context: typer.Context, names: list[str] | None) -> list[str] | None:
    """Metrics of one's own stand in the table until the command has ended."""
    if names:
        from mien.evaluation.metrics import added

        context.with_resource(added(names))
    return names


def _choice(name: str, values: Sequence[str], help: str) -> Any:
    """An option whose value is one of ``values``, where it is given; another raises ``UnknownNameError``."""

    def check(value: str | None) -> str | None:
        return value if value is None else look_up(dict.fromkeys(values, value), value, name)

    return Option(f"--{name}", metavar="|".join(values), callback=check, help=help)


Data = Annotated[str, Option("--data", metavar="SPEC", help="synthetic[:N], fer2013:PATH, folder:PATH or a path.")]
Votes = Annotated[
    Path | None, Option("--votes", metavar="FILE", help="FER+'s fer2013new.csv: its voters' labels, too.")
]
NoPictures = Annotated[bool, Option("--no-pictures", help="Pages show row numbers instead of faces.")]
Protocol = Annotated[
    str | None,
    _choice("protocol", ("contest", "published"), "Validation: PublicTest or your val/; a part of Training."),
]
Metrics = Annotated[
    list[str] | None,
    Option("--metric", metavar="module:Name", callback=_add_metrics, help="Also measure by a function of your own."),
]
Accelerator = Annotated[str, _choice("accelerator", ("auto", "cpu", "cuda"), "Where to compute.")]
Format = Annotated[str, _choice("format", ("table", "json"), "On stdout: to read, or as data.")]
Detector = Annotated[
    str | None,
    Option(
        "--detector",
        metavar="libfacedetection|yunet:FILE|FILE.onnx|none|module:Name",
        help="What finds faces; none: all is one face; or your own.",
    ),
]
Model = Annotated[str, Option("--model", metavar="NAME|FILE", help="A network of the package, or an ONNX file.")]

PIPE_WIDTH = 160
"""Columns of a table in a pipe, which has no width of its own."""

SHOW_SECONDS = 5
"""Between two lines about long work on pictures."""

STDERR = 2
"""The file descriptor."""

STOPPING = {
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if (number := getattr(signal, name, None)) is not None
}
"""Signals that save and end: Ctrl-C, a terminal that is closed, and those that batch systems send ahead of a job's end;
Windows lacks three."""

LISTED = 20
"""Pictures left out, at most, that are named on the screen."""


def check_no_url(argument: str) -> None:
    """Raise ``CallError`` for a URL."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", argument):
        raise CallError(f"expected a file, got the URL {shorten(argument)}; download it and give the file's path")


def print_answer(data: object, text: RenderableType, kind: str) -> None:
    """Print a command's answer: a short table or sentence, in a pipe too, or with ``--format json`` its data."""
    if kind == "json":
        typer.echo(json.dumps(data, indent=2))
    else:
        console = PlainConsole()
        if not console.is_terminal:
            console.width = PIPE_WIDTH
        console.print(text, soft_wrap=isinstance(text, str | Text))


def print_notes(lines: Sequence[str]) -> None:
    """Print notes on stderr, a line each."""
    for line in lines:
        messages.print(line)


def print_error(text: str) -> None:
    """Print an error as one line on stderr, with ``--quiet`` too; messages of libraries may have several lines."""
    _Messages(stderr=True).print("mien: " + visible_name(re.sub(r"\s*\n\s*", " ", text.strip())))


def create_table(title: str | None, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table: columns of texts, then columns of numbers."""
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for column in texts:
        table.add_column(column, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


@dataclass(frozen=True)
class Reading:
    """How ``--data`` is read. A command with a parameter of this type has an option for each field (``app.spread``)."""

    skip_bad: Annotated[bool, Option("--skip-bad", help="Leave out and count unreadable pictures.")] = False
    skip_unmapped: Annotated[bool, Option("--skip-unmapped", help="Leave out classes that are no emotion.")] = False
    label_map: Annotated[Path | None, Option(metavar="FILE", help="TOML: class name or number -> emotion.")] = None

    def read(self, spec: str, stored: "DataSettings | None" = None, *, strict: bool = True) -> "FaceSamples":
        """The faces of ``--data``, after a note about those left out on request; raises as ``data.read_samples``.

        ``stored`` says in which size, in colour or not, and by which subjects; where not ``strict``, only if they can.
        """
        from mien.data import ReadOptions, read_samples

        options = ReadOptions(
            self.skip_bad, self.skip_unmapped, self.label_map, strict=strict, show=showing_progress("read")
        )
        if stored is not None:
            options = replace(options, size=stored.size, color=stored.color, group=stored.group)
        samples = read_samples(spec, options)
        if samples.skipped:
            messages.print(f"left out {len(samples.skipped):,} of {len(samples) + len(samples.skipped):,} pictures:")
            for reason in samples.skipped[:LISTED]:
                messages.print(f"  {reason}")
            if len(samples.skipped) > LISTED:
                messages.print(f"  and {len(samples.skipped) - LISTED:,} more; mien audit --out DIR lists them all")
        return samples


@dataclass(frozen=True)
class SetReading(Reading):
    """The same for commands that have no recipe to say how the data are stored."""

    overrides: Annotated[
        list[str] | None, Option("--set", metavar="data.size=N", help="Also data.color=true, data.group=PATTERN.")
    ] = None

    def read(self, spec: str, stored: "DataSettings | None" = None, *, strict: bool = True) -> "FaceSamples":
        """As of ``Reading``, stored as ``--set`` says where it is given."""
        if self.overrides:
            from mien.recipe import parse_data

            stored = parse_data(self.overrides)
        return super().read(spec, stored, strict=strict)


def showing_progress(done_to: str) -> Callable[[int, int], None]:
    """A function of the pictures that were ``done_to``, such as read, and that there are: a line every few seconds."""
    begun = last = time.monotonic()

    def show(done: int, count: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SHOW_SECONDS:
            last = now
            left = (now - begun) / max(done, 1) * (count - done)
            messages.print(f"{done_to} {done:,} of {count:,} pictures, {left // 60:.0f}:{left % 60:02.0f} min left")

    return show


def showing_work() -> Callable[[str, int, int], None]:
    """The same for several kinds of work, one after another, of which each is named first."""
    shown: dict[str, Callable[[int, int], None]] = {}

    def show(done_to: str, done: int, count: int) -> None:
        if done_to not in shown:
            shown.clear()  # what was done before has ended
            shown[done_to] = showing_progress(done_to)
        shown[done_to](done, count)

    return show


def command_line() -> str:
    """The call as it was typed."""
    return shlex.join(["mien", *sys.argv[1:]])


class _Signal(BaseException):
    """A signal, on its way past everything that catches errors."""


def _handled() -> set[int]:
    """``STOPPING`` but for a hang-up that is to be survived, as ``nohup`` says."""
    hangup = getattr(signal, "SIGHUP", None)
    return STOPPING - {hangup} if hangup and signal.getsignal(hangup) == signal.SIG_IGN else STOPPING


@contextlib.contextmanager
def ending_by_signals() -> Iterator[None]:
    """End the block by every signal of ``STOPPING`` as by Ctrl-C, so that it cleans up, in ``Interrupted``.

    Outside of the main thread, where signals do not come, the block is left alone.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _handled() if number != signal.SIGINT}
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a child that was forked has nothing to clean up
            os._exit(128 + number)
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # the cleaning up is not interrupted
        raise _Signal(number)

    try:
        for number in before:
            signal.signal(number, end)
        yield
    except (_Signal, KeyboardInterrupt) as stopped:
        ended = Interrupted("stopped", stopped.args[0] if isinstance(stopped, _Signal) else signal.SIGINT)
        for note in getattr(stopped, "__notes__", ()):
            ended.add_note(note)
        raise ended from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def catching_signals() -> Iterator[Callable[[], int | None]]:
    """Note ``STOPPING`` instead of dying at once, and yield a function that gives the first signal, if any.

    A second Ctrl-C ends the program where it is.
    """
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)
        # Straight to the file: a stream refuses to be entered again when the signal comes in the middle of a print.
        if not messages.quiet:
            with contextlib.suppress(OSError):
                os.write(STDERR, b"stopping after this step ...\n")

    before = {number: signal.signal(number, note) for number in _handled()}
    try:
        yield lambda: caught[0] if caught else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
