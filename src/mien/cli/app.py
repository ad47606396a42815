"""The application: a command's module is imported when it is called, and errors become one line and an exit code.

0 done; 1 the work failed; 2 the call is wrong; 130 after Ctrl-C, 143, 129, 138 and 140 after SIGTERM, SIGHUP, SIGUSR1
and SIGUSR2, state saved.
"""

import importlib
import inspect
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from mien import __version__
from mien.cli import output, shared
from mien.errors import CallError, Interrupted, MienError, MissingExtraError


class Command(NamedTuple):
    """A module of ``mien.cli`` with a function of the command's name, the line in ``mien --help``, and an extra."""

    module: str
    help: str
    extra: str | None = None


COMMANDS = {
    "predict": Command("predict", "Name the emotion of every face in pictures."),
    "video": Command("video", "Follow every face through a video and name its emotion."),
    "webcam": Command("webcam", "Show the camera's picture with every face's emotion, live."),
    "train": Command("laboratory", "Train one recipe: weights, validation predictions and a report.", "train"),
    "evaluate": Command("evaluate", "Predict a split with a trained run or an exported file.", "report"),
    "export": Command("export", "Write a trained run as one ONNX file.", "train"),
    "study": Command("laboratory", "Train and compare several recipes.", "train"),
    "report": Command("report", "Write a study's page over any finished runs.", "train"),
    "ensemble": Command("evaluate", "Average the predictions of several runs.", "report"),
    "compare": Command("evaluate", "Compare stored predictions: intervals and tests.", "report"),
    "audit": Command("audit", "Find copies, leaks between splits and doubtful labels.", "report"),
    "data": Command("data", "Say how labelled faces are read, and which file a row is."),
    "explain": Command("explain", "Show what a network looks at, and test these maps.", "train"),
    "models": Command("installation", "List the networks in the package: accuracy, size, speed."),
    "doctor": Command("doctor", "Say what is installed, what works and what to do."),
}
"""Name -> command, in the order of ``mien --help``."""

CTRL_C = 130
"""Exit code after Ctrl-C."""

UsageError: type[typer.BadParameter] = typer.BadParameter.__bases__[0]
"""What click raises on a wrong call; typer exports the class below it alone."""

HUSHED = {"OPENCV_FFMPEG_LOGLEVEL": "-8", "OPENCV_LOG_LEVEL": "OFF"}
"""Environment that keeps OpenCV and its FFmpeg from writing to stderr: what goes wrong, our errors tell."""


class LazyCommands(TyperGroup):
    """``COMMANDS``, each imported when it is called."""

    def __init__(self, **settings: Any) -> None:
        unloaded = {name: TyperCommand(name, help=command.help) for name, command in COMMANDS.items()}
        super().__init__(**{**settings, "commands": unloaded})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Name, command and remaining arguments of a call."""
        name, _, rest = super().resolve_command(ctx, args)
        command = import_command(str(name))
        command.params += [option for option in self.params if option.name in ("debug", "quiet")]
        return name, command, rest


def import_command(name: str) -> Any:
    """The command with its options; raises ``MissingExtraError`` where its module lacks a package."""
    try:
        module = importlib.import_module(f"mien.cli.{COMMANDS[name].module}")
    except ModuleNotFoundError as error:
        extra = COMMANDS[name].extra
        if extra is None or error.name is None or error.name.startswith("mien"):
            raise
        raise MissingExtraError(f'{error.name} is not installed; run: pip install "mien[{extra}]"') from error
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name)(spread(getattr(module, name)))
    return typer.main.get_command(alone)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command as typer reads it: a parameter that is a dataclass becomes one option for each of its fields."""
    signature = inspect.signature(command)
    kinds = {name: each.annotation for name, each in signature.parameters.items()}
    grouped = [name for name, kind in kinds.items() if is_dataclass(kind)]
    options_of = {name: inspect.signature(kinds[name]).parameters for name in grouped}

    def call(**values: Any) -> None:
        made = {name: kinds[name](**{key: values.pop(key) for key in keys}) for name, keys in options_of.items()}
        with shared.ending_by_signals():
            command(**values, **made)

    options = [
        option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, each in signature.parameters.items()
        for option in options_of.get(name, {name: each}).values()
    ]
    call.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    call.__doc__ = command.__doc__
    return call


app = typer.Typer(
    name="mien",
    help="Name the emotions of faces; train, compare and explain the networks that do.",
    cls=LazyCommands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _debug(context: typer.Context, wanted: bool) -> None:
    if wanted:
        context.obj.add("debug")
        logging.getLogger("mien").setLevel(logging.DEBUG)


def _quiet(wanted: bool) -> None:
    if wanted:
        shared.messages.quiet = True
        logging.getLogger().setLevel(logging.ERROR)
        warnings.simplefilter("ignore")


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", callback=_debug, expose_value=False, help="Show the traceback of an error.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", callback=_quiet, expose_value=False, help="Print errors only on stderr.")
    ] = False,
) -> None:
    if version:
        typer.echo(f"mien {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line and leave with its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    for name, value in HUSHED.items():
        os.environ.setdefault(name, value)  # before a command imports OpenCV
    level = logging.getLogger().level
    try:
        with warnings.catch_warnings(), output.standard_streams():
            sys.exit(_run())
    finally:  # a program that calls this is left as it was
        shared.messages.quiet = False
        logging.getLogger().setLevel(level)
        logging.getLogger("mien").setLevel(logging.NOTSET)


def _run() -> int:
    code, failure = _call(), output.stdout_failure()
    if failure is None:
        return code
    output.drop_stdout()
    if isinstance(failure, BrokenPipeError):  # who reads the half of it has had enough
        return code or 1
    return _say(f"cannot write to stdout: {failure.strerror or failure}; send it elsewhere", 1)


def _call() -> int:
    flags: set[str] = set()  # filled by options that may stand anywhere
    try:
        _check_arguments(sys.argv[1:])
        code = int(app(obj=flags, standalone_mode=False) or 0)
        return _say("stopped", code) if code == CTRL_C else code  # typer makes an exit of Ctrl-C, and says nothing
    except (typer.Abort, KeyboardInterrupt):
        return _say("stopped", CTRL_C)
    except Interrupted as error:
        return _say(_with_notes(error), 128 + error.signal_number)
    except MienError as error:
        return _say(_with_notes(error), 2 if isinstance(error, CallError) else 1, "debug" in flags)
    except BrokenPipeError:
        return 1
    except UsageError as error:
        error.show()
        return 2
    except Exception as error:
        if isinstance(error, OSError) and output.stdout_failure() is not None:
            return 1  # and _run tells why
        said = f"unexpected {type(error).__name__}: {_with_notes(error)}; add --debug to see where"
        return _say(said, 1, "debug" in flags)


def _check_arguments(arguments: Sequence[str]) -> None:
    """Raise ``CallError`` for an empty one, which is a variable of a shell that was never set, not the folder here."""
    for place, argument in enumerate(arguments):
        if not argument or re.fullmatch("--[a-z-]+=", argument):
            before = " after " + arguments[place - 1] if place and not argument else ""
            raise CallError(f"expected a value, got an empty argument {argument}{before}; give one or leave it out")


def _with_notes(error: BaseException) -> str:
    """What an error says, and what was added on its way, such as where a part of the results lies."""
    return "; ".join([str(error), *getattr(error, "__notes__", ())])


def _say(message: str, code: int, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    shared.print_error(message)
    return code
