"""Many picture files -> one array of faces: decoded by several threads, in order, and written on block by block."""

import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.data.layouts.raw import Encoded, ReadOptions
from mien.data.pictures import PictureStore
from mien.face.crop import FACE_SIZE, crop_face
from mien.face.images import decode_image

BLOCK, BLOCK_BYTES = 256, 2**23
"""Pictures, and bytes of them, that are decoded before they are written on; the threads wait for each other there."""

THREADS = min(4, os.cpu_count() or 1)
"""Pillow and OpenCV compute without Python's lock. More threads would hold more large pictures at once."""


@dataclass(frozen=True)
class Decoded:
    """The faces of those pictures that could be read."""

    images: NDArray[np.uint8]  # (N, S, S) or (N, S, S, 3)
    kept: NDArray[np.int32]  # (N,), which of the pictures these are
    left_out: list[str]  # a line for each of the others


def decode_pictures(pictures: Iterable[Encoded], count: int, source: str, options: ReadOptions) -> Decoded:
    """Decode ``count`` pictures, each cropped to a square of ``options.size`` pixels, grey or RGB.

    ``source`` names the whole in error messages.

    Raises:
        DataError: a bad picture without ``skip_bad``, or no picture is left.
        OutputError: there is no room for so many.
    """
    size = options.size or FACE_SIZE
    kept: list[int] = []
    left_out: list[str] = []
    with PictureStore(count, (size, size, 3) if options.color else (size, size), options.scratch) as store:
        for start, block in _decoded_blocks(pictures, size, options.color):
            faces = []
            for number, face in enumerate(block, start):
                if isinstance(face, np.ndarray):
                    faces.append(face)
                    kept.append(number)
                elif options.skip_bad:
                    left_out.append(str(face))
                else:
                    raise errors.DataError(f"{face}. Or leave bad pictures out: --skip-bad") from face
            if faces:
                store.add(np.stack(faces))
            if options.show is not None:
                options.show(start + len(block), count)
        if not kept:
            raise errors.DataError(
                f"{source}: expected labelled pictures, got none that can be read. {' '.join(left_out[:3])}"
            )
        return Decoded(store.finish(), np.array(kept, np.int32), left_out)


def _decoded_blocks(
    pictures: Iterable[Encoded], size: int, color: bool
) -> Iterator[tuple[int, list[NDArray[np.uint8] | errors.MienError]]]:
    """Number of the first picture, and the faces or errors of a block."""

    def decode(picture: Encoded) -> NDArray[np.uint8] | errors.MienError:
        try:
            return crop_face(decode_image(picture.read(), picture.place), size=size, color=color)
        except (errors.DataError, errors.MediaError) as error:
            return error

    pictures = iter(pictures)
    length = max(1, min(BLOCK, BLOCK_BYTES // (size * size * (3 if color else 1))))
    with ThreadPoolExecutor(THREADS, thread_name_prefix="mien-decode") as pool:
        for start in itertools.count(0, length):
            block = list(itertools.islice(pictures, length))
            if not block:
                return
            yield start, list(pool.map(decode, block))
