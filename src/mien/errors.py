"""What can go wrong, as one tree.

Every message gives three facts: what was expected, what was got, what to do. Only ``mien.cli`` translates them: a
``CallError`` ends the command line with exit code 2, an interruption with the signal's.
"""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")

LISTED = 40  # names that one line can still hold
LONGEST_TEXT = 300  # characters of one that a message still holds whole


class MienError(Exception):
    """Base of every error that mien raises on purpose."""


class CallError(MienError):
    """The call itself is wrong, whatever the data."""


class RecipeError(CallError):
    """A recipe that is not TOML, an unknown key, a value out of range; the message names the file and the key."""


class UnknownNameError(CallError):
    """A name that stands in no table; the message lists the names and the nearest one."""


class RunExistsError(CallError):
    """An output folder that already holds another run; the message says how to resume or where to start."""


class DataError(MienError):
    """Labelled faces that cannot be read, or do not have what was asked; names file, row and remedy."""


class MissingPathError(DataError, CallError):
    """A path that does not exist."""


class ModelError(MienError):
    """Weights that do not fit a model, or an option that a model does not take."""


class WeightsUnavailableError(ModelError):
    """Weights of a hub that are not on this machine and cannot be fetched."""


class MediaError(MienError):
    """A picture or video that cannot be decoded."""


class OutputError(MienError):
    """Results that cannot be written; names the file and what to do."""


class RunError(MienError):
    """A run directory that is missing, damaged, unwritable or out of space."""


class RunBusyError(RunError):
    """A run directory in which another process is at work; names it."""


class RoomError(RunError):
    """Too little memory or disk for a training; says how much it needs and what there is."""


class TrainingError(MienError):
    """Training that cannot go on, as with a loss that is no number; names the epoch, the step and the rows."""


class MissingExtraError(MienError):
    """An optional package that is not installed; names the extra that brings it."""


class Interrupted(MienError):  # noqa: N818  (an event, not a fault)
    """Stopped by a signal after saving the state."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number  # 2 after Ctrl-C, 15 after SIGTERM, ...


def look_up(table: Mapping[str, T], name: str, kind: str) -> T:
    """``table[name]``, or an error that lists the sorted names and the nearest one.

    Raises:
        UnknownNameError: ``name`` is not in ``table``.
    """
    if name in table:
        return table[name]
    raise unknown_name(table, name, kind)


def unknown_name(names: Iterable[str], name: str, kind: str) -> UnknownNameError:
    """The error for a ``name`` that is none of ``names``; ``kind`` says what it names (``"model"``)."""
    known = sorted(names)
    near = difflib.get_close_matches(name, known, n=5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(known if len(known) <= LISTED else near)
    shown = "" if len(known) <= LISTED else f" ({len(known)} names; the nearest)"
    return UnknownNameError(f"unknown {kind} {name!r}.{hint} Known{shown}: {listed or 'nothing near'}")


def shorten(text: object) -> str:
    """A path or other text as it stands in a message: whole, or of a very long one both ends."""
    whole = str(text)
    return whole if len(whole) <= LONGEST_TEXT else f"{whole[:80]}...{whole[-40:]} ({len(whole):,} characters)"


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the error's class where it has no message."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def import_extra(module: str, extra: str) -> ModuleType:
    """The module of an optional package, imported where it is used.

    Raises:
        MissingExtraError: it is not installed; the message says ``pip install "mien[extra]"``.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(f'{module} is not installed; run: pip install "mien[{extra}]"') from error
