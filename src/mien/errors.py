"""What can go wrong, as one tree.

::

    MienError
    ├── CallError              the call is wrong: the command line ends with exit code 2
    │   ├── RecipeError        a recipe that is not TOML, an unknown key, a value out of range
    │   ├── UnknownNameError   a name that is in no table; lists the table and the nearest name
    │   ├── MissingPathError   a path that does not exist (also a DataError)
    │   └── RunExistsError     an output folder that already holds another run
    ├── DataError              labelled faces that cannot be read, or a split they do not have
    ├── ModelError             weights that do not fit, an option a model does not take
    ├── MediaError             a picture or video that cannot be decoded
    ├── OutputError            results that cannot be written: no permission, no room
    ├── RunError               a run directory that is missing, damaged, unwritable or out of space
    ├── TrainingError          training that cannot go on, such as a loss that is not a number
    ├── MissingExtraError      an optional package that is not installed
    └── Interrupted            stopped by Ctrl-C or SIGTERM, state saved

Every message gives three facts: what was expected, what came, what to do. Only ``mien.cli`` translates them.
"""

import difflib
import importlib
import pickle
import struct
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")

LISTED = 40  # names that one line can still hold

UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What ``torch.load`` raises on a file that is none of its own, by the bytes that it begins with."""


class MienError(Exception):
    """Base of every error that mien raises on purpose."""


class CallError(MienError):
    """The call itself is wrong, whatever the data."""


class RecipeError(CallError):
    """A recipe that cannot be used; the message names the file and the key."""


class UnknownNameError(CallError):
    """A name that stands in no table; the message lists the names and the nearest one."""


class RunExistsError(CallError):
    """An output folder that already holds another run; the message says how to go on or start anew."""


class DataError(MienError):
    """Labelled faces that cannot be read, or do not have what was asked; names file, row and remedy."""


class MissingPathError(DataError, CallError):
    """A path that does not exist."""


class ModelError(MienError):
    """Weights that do not fit a model, or an option that a model does not take."""


class MediaError(MienError):
    """A picture or video that cannot be decoded."""


class OutputError(MienError):
    """Results that cannot be written; names the file and what to do."""


class RunError(MienError):
    """A run directory that is missing, damaged, unwritable or out of space."""


class TrainingError(MienError):
    """Training that cannot go on; names the epoch, the step and the rows."""


class MissingExtraError(MienError):
    """An optional package that is not installed; names the extra that brings it."""


class Interrupted(MienError):  # noqa: N818  (an event, not a fault)
    """Stopped by a signal after saving the state.

    Attributes:
        signal_number: 2 after Ctrl-C, 15 after SIGTERM.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


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


def first_line(error: Exception) -> str:
    """Of its message, which may have several; its kind where it has none."""
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
