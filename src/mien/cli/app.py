"""The application, and the translation of errors into one line and an exit code.

0 done; 1 the work failed; 2 the call is wrong; 130 after Ctrl-C and 143 after SIGTERM, state saved.
"""

import logging
import sys
import traceback
from typing import Annotated

import typer
from rich.console import Console

from mien import __version__
from mien.cli.audit import audit
from mien.cli.compare import compare
from mien.cli.doctor import doctor
from mien.cli.ensemble import ensemble
from mien.cli.evaluate import evaluate
from mien.cli.explain import explain
from mien.cli.export import export
from mien.cli.models import models
from mien.cli.predict import predict
from mien.cli.study import study
from mien.cli.train import train
from mien.cli.video import video
from mien.cli.webcam import webcam
from mien.errors import CallError, Interrupted, MienError

app = typer.Typer(
    name="mien",
    help="Name the emotions of faces; train, compare and explain the networks that do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(predict)
app.command()(video)
app.command()(webcam)
app.command()(train)
app.command()(evaluate)
app.command()(export)
app.command()(study)
app.command()(ensemble)
app.command()(compare)
app.command()(audit)
app.command()(explain)
app.command()(models)
app.command()(doctor)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(message)s")
    if version:
        typer.echo(f"mien {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(_run())


def _run() -> int:
    debug = "--debug" in sys.argv  # wherever it stands: it is added to a call that has just failed
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(["--debug", *arguments] if debug else arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return _say("stopped", 130)
    except Interrupted as error:
        return _say(str(error), 128 + error.signal_number)
    except MienError as error:
        return _say(str(error), 2 if isinstance(error, CallError) else 1, debug)
    except BrokenPipeError:
        return 1
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a wrong call; click's class, wherever it lives
            error.show()
            return 2
        return _say(f"unexpected {type(error).__name__}: {error}; add --debug to see where", 1, debug)
    return int(code or 0)


def _say(message: str, code: int, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    line = " ".join(message.split())  # messages of libraries may have several
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"mien: {line}", markup=False)
    return code
