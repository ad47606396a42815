"""Many pictures in one array that need not fit into memory: written block by block, mapped, and read in part."""

import contextlib
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mien import errors, files

IN_MEMORY = 2**28
"""Bytes of pictures up to which they are kept in memory while they are read, and copied whole where some are chosen."""

BLOCK_BYTES = 2**24
"""Bytes of pictures that are looked at in one go."""


class Images(Protocol):
    """Pictures by index, such as an array: uint8 ``(N, S, S)`` or ``(N, S, S, 3)``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> NDArray[np.uint8]: ...


class Chosen:
    """The pictures at some indices of an array, read from it when a part of them is asked for."""

    def __init__(self, images: NDArray[np.uint8], indices: NDArray[np.integer]) -> None:
        self._images, self._indices = images, indices
        self.shape: tuple[int, ...] = (len(indices), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, part: slice, /) -> NDArray[np.uint8]:
        return pictures_at(self._images, self._indices[part])


def pictures_at(images: NDArray[np.uint8], indices: NDArray[np.integer]) -> NDArray[np.uint8]:
    """A copy of the pictures at ``indices`` ``(M,)``, in this order, read in the order of the file."""
    found = np.empty((len(indices), *images.shape[1:]), np.uint8)
    order = np.argsort(indices)
    found[order] = images[indices[order]]
    forget_pages(images)
    return found


def choose(images: NDArray[np.uint8], indices: NDArray[np.integer]) -> Images:
    """The pictures at ``indices`` ``(M,)``: copied where they are few, else read when they are asked for."""
    chosen = Chosen(images, indices)
    return chosen[:] if len(indices) * _bytes_of_one(images) <= IN_MEMORY else chosen


def blocks(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """All pictures, about ``BLOCK_BYTES`` at a time."""
    for part in block_ranges(images):
        yield images[part]
        forget_pages(images)


def block_ranges(images: NDArray[np.uint8]) -> Iterator[slice]:
    """Where the blocks of all pictures begin and end."""
    count = max(1, BLOCK_BYTES // max(1, _bytes_of_one(images)))
    return (slice(start, start + count) for start in range(0, len(images), count))


def forget_pages(images: NDArray[np.uint8]) -> None:
    """Take the pages of a large mapped array out of this process again; the system keeps them as long as it has room.

    Without it, the resident memory of whoever goes through a file once is the file's size.
    """
    mapped = getattr(images, "_mmap", None)
    if mapped is not None and images.nbytes > IN_MEMORY and hasattr(mmap, "MADV_DONTNEED"):
        cast(mmap.mmap, mapped).madvise(mmap.MADV_DONTNEED)


def _bytes_of_one(images: NDArray[np.uint8]) -> int:
    return int(np.prod(images.shape[1:]))


class PictureStore:
    """Pictures that are added block by block, in memory or, where they are many, in a file.

    The file is ``scratch``, an npy that is mapped into memory when it is whole, or without ``scratch`` one that has no
    name. Leaving the block by an error removes it.

    Raises:
        OutputError: the disk has no room for so many, or cannot be written.
    """

    def __init__(self, count: int, shape: tuple[int, ...], scratch: Path | None) -> None:
        """``count`` is the largest number of pictures there can be, and ``shape`` that of each."""
        self._shape, self._count, self._added = shape, count, 0
        self._parts: list[NDArray[np.uint8]] = []
        self._file: IO[bytes] | None = None
        self._path = scratch
        if count * int(np.prod(shape)) > IN_MEMORY:
            self._file = self._opened()
            self._write_header(count)

    def __enter__(self) -> "PictureStore":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if kind is not None and self._path is not None:
            self._path.unlink(missing_ok=True)

    def _opened(self) -> IO[bytes]:
        needed = self._count * int(np.prod(self._shape))
        if self._path is not None:
            with contextlib.suppress(OSError):  # such a cache is told of when the faces are to be stored
                self._path.parent.mkdir(parents=True, exist_ok=True)
                _check_room(self._path.parent, needed)
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)  # for the user alone
                with contextlib.suppress(OSError):  # a file system without locks
                    files.lock(descriptor)  # held by the mapped pictures, too: the file is abandoned when it ends
                return open(descriptor, "w+b")
        self._path = None
        _check_room(Path(tempfile.gettempdir()), needed)
        return cast(IO[bytes], tempfile.TemporaryFile())

    def _write_header(self, count: int) -> int:
        """Write the head of an npy, of the same length for every count; where the pictures begin."""
        file = cast(IO[bytes], self._file)
        file.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *self._shape)}
        np.lib.format.write_array_header_1_0(file, header)
        return file.tell()

    def add(self, block: NDArray[np.uint8]) -> None:
        """Add pictures, ``(n, *shape)``."""
        self._added += len(block)
        if self._file is None:
            self._parts.append(block)
            return
        with files.saying_what_fails(self._path or Path(tempfile.gettempdir()), errors.OutputError):
            self._file.write(block.data)

    def finish(self) -> NDArray[np.uint8]:
        """All pictures that were added: uint8 ``(N, *shape)``, memory-mapped where they lie in a file."""
        if self._file is None:
            return np.concatenate([np.empty((0, *self._shape), np.uint8), *self._parts])
        with files.saying_what_fails(self._path or Path(tempfile.gettempdir()), errors.OutputError):
            start = self._write_header(self._added)
            self._file.flush()
        return np.memmap(self._file, np.uint8, "r", start, (self._added, *self._shape))


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise errors.OutputError(
            f"{folder}: expected {needed / 1e9:.1f} GB of room for the pictures, got {free / 1e9:.1f} GB; free some"
            " space, or set MIEN_CACHE to a folder on another disk"
        )
