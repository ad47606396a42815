"""Faces as a layout holds them, before it is known which data set they are."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.data.samples import RowSource, Split
from mien.errors import DataError, MediaError
from mien.face.crop import FACE_SIZE, crop_face
from mien.face.pictures import decode_picture

JPEG_MAGIC = b"\xff\xd8"


@dataclass(frozen=True)
class RawFaces:
    """Faces in the order of their layout.

    Attributes:
        images: uint8 ``(N, 48, 48)``.
        labels: int8 ``(N,)``, ``-1`` where there is none.
        splits: what the layout tells of each face; ``None`` where it tells nothing.
        positions: int32 ``(N,)``, place in the layout, counting what was skipped.
        places: file and line, row or member of each face, for error messages.
        row_source: what ``positions`` rest on.
        lossy: every picture came as JPEG, so that its pixels are not the original's.
        skipped: pictures that were left out, each with its reason.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int8]
    splits: tuple[Split | None, ...]
    positions: NDArray[np.int32]
    places: tuple[str, ...]
    row_source: RowSource
    lossy: bool = False
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def keep(self, mask: NDArray[np.bool_], skipped: Iterable[str]) -> "RawFaces":
        """The faces where ``mask`` ``(N,)`` is true; ``skipped`` says why the others went."""
        kept = np.flatnonzero(mask)
        return RawFaces(
            images=self.images[kept],
            labels=self.labels[kept],
            splits=tuple(self.splits[i] for i in kept),
            positions=self.positions[kept],
            places=tuple(self.places[i] for i in kept),
            row_source=self.row_source,
            lossy=self.lossy,
            skipped=(*self.skipped, *skipped),
        )


@dataclass(frozen=True)
class Encoded:
    """A picture that is still to be decoded: where it lies, what its layout tells of it, and how to get its bytes."""

    place: str
    label: int
    split: Split | None
    read: Callable[[], bytes]


def decode_faces(
    pictures: Iterable[Encoded],
    source: str,
    row_source: RowSource,
    *,
    skip_bad: bool,
    exact: bool,
    skipped: Iterable[str] = (),
) -> RawFaces:
    """Decode pictures in order, each cropped to a face.

    Args:
        pictures: what to decode.
        source: where they come from, for error messages.
        row_source: what the order rests on.
        skip_bad: leave out what cannot be decoded and say so in ``skipped``.
        exact: take a picture of another size than 48 x 48 for a bad one.
        skipped: lines to stand in ``skipped`` after those.

    Raises:
        DataError: a bad picture without ``skip_bad``, or no picture is left.
    """
    faces: list[tuple[NDArray[np.uint8], Encoded, int]] = []
    left_out: list[str] = []
    lossy = True
    for position, picture in enumerate(pictures):
        try:
            face, is_jpeg = _decode(picture, exact)
        except (DataError, MediaError) as error:
            if not skip_bad:
                raise DataError(f"{error}. Or leave bad pictures out: --skip-bad") from error
            left_out.append(str(error))
        else:
            faces.append((face, picture, position))
            lossy = lossy and is_jpeg
    if not faces:
        raise DataError(f"{source}: expected labelled pictures, came none that can be read. {' '.join(left_out[:3])}")
    return RawFaces(
        images=np.stack([face for face, _, _ in faces]),  # N x (48, 48) -> (N, 48, 48)
        labels=np.array([picture.label for _, picture, _ in faces], dtype=np.int8),
        splits=tuple(picture.split for _, picture, _ in faces),
        positions=np.array([position for _, _, position in faces], dtype=np.int32),
        places=tuple(picture.place for _, picture, _ in faces),
        row_source=row_source,
        lossy=lossy,
        skipped=(*left_out, *skipped),
    )


def _decode(picture: Encoded, exact: bool) -> tuple[NDArray[np.uint8], bool]:
    content = picture.read()
    pixels = decode_picture(content, picture.place)
    if exact and pixels.shape[:2] != (FACE_SIZE, FACE_SIZE):
        raise DataError(
            f"{picture.place}: expected FER-2013's {FACE_SIZE} x {FACE_SIZE} pixels,"
            f" came {pixels.shape[1]} x {pixels.shape[0]}; read other data sets as folder:PATH"
        )
    return crop_face(pixels), content.startswith(JPEG_MAGIC)


def join(parts: list[RawFaces]) -> RawFaces:
    """The faces of several files one after the other; positions go on counting."""
    starts = np.cumsum([0, *(part.positions[-1] + 1 for part in parts[:-1])])
    positions = [part.positions + start for part, start in zip(parts, starts, strict=True)]
    return RawFaces(
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        splits=tuple(split for part in parts for split in part.splits),
        positions=np.concatenate(positions).astype(np.int32),
        places=tuple(place for part in parts for place in part.places),
        row_source=parts[0].row_source,
        lossy=all(part.lossy for part in parts),
        skipped=tuple(line for part in parts for line in part.skipped),
    )
