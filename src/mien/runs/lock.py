"""One process at a time works in a run directory; the system ends its lock with it, however it dies."""

import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mien.errors import Interrupted, RunBusyError, RunExistsError
from mien.files import lock, saying_what_fails

logger = logging.getLogger(__name__)

NAME = ".lock"
"""The file that is locked; it tells who holds the lock, and goes with it."""

POLL_SECONDS = 0.1

BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)

_held: set[Path] = set()  # a process that holds a lock passes it again: a study trains, and training locks as well


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = False, stop_signal: Callable[[], int | None] = lambda: None) -> Iterator[None]:
    """Keep other processes out of a folder until the block, or this process, ends.

    Missing folders are made, and go again where the block leaves them empty. A process passes its own locks.

    Args:
        folder: a run directory, or that of a study.
        wait: until it is free; for what takes seconds only.
        stop_signal: the number of a signal that asks to stop, or ``None``; asked while waiting.

    Raises:
        RunBusyError: another process works in it; says which.
        RunExistsError: it is a file.
        RunError: it cannot be written.
        Interrupted: a signal asked to stop.
    """
    place = folder.resolve()
    if place in _held:
        yield
        return
    with saying_what_fails(folder):
        descriptor, made = _locked_file(folder, wait, stop_signal)
    _held.add(place)
    try:
        yield
    finally:
        _held.discard(place)
        with contextlib.suppress(OSError):  # Windows removes no open file; a file that stays locks nobody out
            (folder / NAME).unlink()
        os.close(descriptor)
        with contextlib.suppress(OSError):
            for empty in made:
                empty.rmdir()


def _locked_file(folder: Path, wait: bool, stop_signal: Callable[[], int | None]) -> tuple[int, list[Path]]:
    """The descriptor of the locked file, and the folders that were made for it, the innermost first."""
    made: list[Path] = []
    while True:
        if folder.exists() and not folder.is_dir():
            raise RunExistsError(f"--out: expected a folder, got the file {folder}; choose another")
        made += [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # whoever held the lock took the empty folder away
            continue
        try:
            lock(descriptor)
            if _is_at(descriptor, folder / NAME):
                break
        except OSError as error:
            if error.errno in WITHOUT_LOCKS:
                logger.warning("%s: this file system has no locks; let one process at a time work there", folder)
                break
            if error.errno not in BUSY:
                os.close(descriptor)
                raise
            if not wait:
                holder = os.read(descriptor, 200).decode(errors="replace") or "another process"
                os.close(descriptor)
                raise RunBusyError(
                    f"{folder}: expected no process at work in it, got {holder}; wait until it ends, or choose"
                    " another --out"
                ) from None
        os.close(descriptor)
        signal_number = stop_signal()
        if signal_number is not None:
            raise Interrupted(f"stopped while another process works in {folder}", signal_number)
        time.sleep(POLL_SECONDS)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} of {socket.gethostname()}".encode())
    return descriptor, made


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file is still there: who ends a lock removes it, maybe after another process opened it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
