"""Row -> file: the names of many thousand files in two arrays, which may be memory-mapped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PathTable:
    """Relative POSIX paths of pictures below ``root``, in the order of the faces; ``table[i]`` is a text.

    Attributes:
        root: the folder or zip that was read.
        text: uint8 ``(B,)``, all paths one after the other in UTF-8.
        ends: int64 ``(N,)``, where each path ends in ``text``.
    """

    root: str
    text: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, root: PurePath | str, paths: Sequence[str]) -> "PathTable":
        """The table of a list of paths."""
        encoded = [path.encode(errors="surrogateescape") for path in paths]
        lengths = np.array([len(each) for each in encoded], np.int64)
        return cls(str(root), np.frombuffer(b"".join(encoded), np.uint8), np.cumsum(lengths))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = int(self.ends[index - 1]) if index else 0
        return bytes(self.text[start : int(self.ends[index])]).decode(errors="surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))
