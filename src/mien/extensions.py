"""``module:Name``: a model, attention block, metric, data layout or detector that stands outside of the package.

Whoever names one runs its code, as ``import`` does: a recipe from elsewhere is a program from elsewhere. An ONNX file
never names code that mien would import.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mien import errors

FORM = "module:Name, such as mynet:Net for the class Net of mynet.py in this folder"


def is_reference(name: str) -> bool:
    """Whether a name has the form ``module:Name``, and so is none of a table's own."""
    module, separator, attribute = name.partition(":")
    return bool(separator) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def look_up(
    table: Mapping[str, Any], name: str, kind: str, *, expected: str, fits: Callable[[Any], bool] = callable
) -> Any:
    """``table[name]``, or what ``module:Name`` names.

    The module is looked for as Python does, and then in the current folder, which is on ``sys.path`` while the module
    is imported, as the last place: what is installed comes first.

    Args:
        table: name -> one of ours.
        name: of either form.
        kind: what it names (``"model"``).
        expected: what an object of this kind is, for the error.
        fits: whether an object is of this kind.

    Raises:
        UnknownNameError: a name that stands in no table, no such module, or a module without this name.
        CallError: the module fails while it is imported, or the object is of another kind.
    """
    if name in table or ":" not in name:
        return errors.look_up(table, name, kind)
    if not is_reference(name):
        raise errors.UnknownNameError(f"{kind} {name!r}: expected one of {', '.join(sorted(table))}, or {FORM}")
    module_name, _, attribute = name.partition(":")
    module = _imported(module_name, f"{kind} {name!r}")
    place = getattr(module, "__file__", None) or "a folder without __init__.py"
    if not hasattr(module, attribute):
        names = [each for each in vars(module) if not each.startswith("_")]
        unknown = errors.unknown_name(names, attribute, f"name in {module_name} ({place})")
        raise errors.UnknownNameError(f"{kind} {name!r}: {unknown}")
    found = getattr(module, attribute)
    if not fits(found):
        got = f"the {'class' if isinstance(found, type) else type(found).__name__} {attribute} of {place}"
        raise errors.CallError(f"{kind} {name!r}: expected {expected}, got {got}")
    return found


def _imported(name: str, what: str) -> Any:
    """The module, from the current folder too."""
    importlib.invalidate_caches()  # the file may be younger than the folder's listing
    try:
        with _current_folder_on_path():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise errors.CallError(
                f"{what}: {name} imports {error.name}, which is not installed; install it"
            ) from error
        raise errors.UnknownNameError(
            f"{what}: expected a Python module {error.name}, got none, neither installed nor in {os.getcwd()};"
            " install it, or call mien from the folder in which it lies"
        ) from error
    except Exception as error:  # whatever somebody's code raises
        raise errors.CallError(
            f"{what}: {name} fails while it is imported: {type(error).__name__}: {errors.first_line(error)}; mend it,"
            " and add --debug to see where"
        ) from error


@contextmanager
def _current_folder_on_path() -> Iterator[None]:
    folder = os.getcwd()
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
