"""A picture file of any common kind -> upright RGB pixels. The header is judged before a pixel is decoded."""

import contextlib
import errno
import importlib
import importlib.util
import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from mien import errors

MAX_PIXELS = 100_000_000
"""Largest picture that is decoded: 300 MB as RGB."""
MAX_SCANS = 100
"""Scans of a progressive JPEG. Usual ones have ten; each takes the time of a whole picture, and may be a few bytes."""

# Pillow's other readers are left out: EPS starts Ghostscript, PSD or ICO hold several pictures, and so on.
# AVIF stands last because Pillow before 11.3 does not know it.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")

PAGED = ("TIFF", "GIF", "PNG", "WEBP", "AVIF")
"""Formats whose files may hold several pages or frames; the further pictures of others, such as MPO, are previews."""

ENDINGS = (
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Files with these are taken from a folder; a file that is named is read whatever its ending."""

HEIC_ENDINGS = (".heic", ".heif", ".hif")
"""Likewise, where the package pillow-heif is installed."""

HEIC_REMEDY = 'pip install "mien[heic]"'

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Major brands of ISO/IEC 23008-12, annex B; files of AVIF may begin likewise, and name ``avif`` among the others."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the transposition that undoes it (CIPA DC-008, tag 274). 1 is upright."""


class _Silence:
    """No warnings while any thread decodes: Pillow tells of oversized headers and odd metadata by them.

    The list of warning filters belongs to the whole process: the first thread changes it, the last puts it back.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.__exit__(None, None, None)

    def after_fork(self) -> None:
        """In the child, only the thread that forked goes on: nobody decodes, and nobody will give the lock back."""
        if self._inside:
            self._before.__exit__(None, None, None)
        self._lock, self._inside = threading.Lock(), 0


_SILENCE = _Silence()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_SILENCE.after_fork)


def endings() -> tuple[str, ...]:
    """The endings of files that can be read here."""
    return (*ENDINGS, *HEIC_ENDINGS) if _reads_heif() else ENDINGS


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """The pixels of a picture file: uint8 ``(H, W, 3)``, RGB, upright after its EXIF orientation.

    Grey stays exact (R = G = B). 16 bits become 8 by rounding ``v / 257``. Transparent parts lie on white, as on a
    page. CMYK and palettes are converted, colour profiles ignored. An animation gives its first frame.

    Raises:
        MissingPathError: there is no such file.
        MediaError: not a picture, truncated, empty, unreadable or above ``MAX_PIXELS``.
    """
    with _opened(path) as stream:
        return _decode(stream, str(path))


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[IO[bytes]]:
    """The file; what the system says about it becomes one of our errors."""
    shown = errors.shorten(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait for whoever writes it
            raise OSError("a folder, pipe or device")
        with open(path, "rb") as stream:
            yield stream
    except FileNotFoundError as error:
        raise errors.MissingPathError(
            f"{shown}: expected a picture, but there is no such file; check the path"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        remedy = "check its kind and permissions"
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            remedy = "if this is a picture's content, give it as bytes to mien.face.images.decode_image"
        reason = getattr(error, "strerror", None) or error
        raise errors.MediaError(f"{shown}: expected a readable picture file, got {reason}; {remedy}") from error


def decode_image(content: bytes, name: str) -> NDArray[np.uint8]:
    """:func:`read_image` for a picture that is in memory; ``name`` stands in error messages."""
    return _decode(io.BytesIO(content), name)


def read_pages(source: Path | bytes, name: str) -> Iterator[NDArray[np.uint8]]:
    """Every page of a TIFF and frame of an animation, each as :func:`read_image`; of other files the one picture.

    ``source`` is a file or its content; ``name`` stands in error messages. Raises as :func:`read_image`.
    """
    with contextlib.nullcontext(io.BytesIO(source)) if isinstance(source, bytes) else _opened(source) as stream:
        with _explained(stream, name), _SILENCE:
            image = _open(stream)
            numbers = _page_numbers(image)
        for number in numbers:
            with _explained(stream, name), _SILENCE:
                if number:
                    image.seek(number)
                pixels = _pixels(image, stream, name)
            yield pixels


def has_pages(source: Path | bytes) -> bool:
    """Whether a picture file has several pages or frames; of one that cannot be read it has none."""
    try:
        with _SILENCE, Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=PAGED) as image:
            return len(_page_numbers(image)) > 1
    except Exception:  # Pillow's readers raise almost anything
        return False


def is_picture(content: bytes) -> bool:
    """Whether the content of a file begins as a picture that can be read here."""
    try:
        with _SILENCE, _open(io.BytesIO(content)):
            return True
    except Exception as error:  # likewise; a picture may be known by its head and still be damaged or too large
        return not isinstance(error, UnidentifiedImageError | KeyError) and bool(content)


def is_heif(content: bytes) -> bool:
    """Whether the content of a file begins as HEIC or another HEIF, but for AVIF."""
    size = int.from_bytes(content[:4])
    return content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS and b"avif" not in content[12:size]


def check_image(picture: NDArray[np.uint8]) -> None:
    """A ``MediaError``, if this is no picture: uint8 ``(H, W)`` or RGB ``(H, W, 3)``, of 1 to ``MAX_PIXELS`` pixels."""
    shape = picture.shape
    if picture.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or 0 in shape:
        raise errors.MediaError(
            f"expected a uint8 picture (H, W) or (H, W, 3), got {picture.dtype} {shape};"
            " read pictures with mien.face.images.read_image"
        )
    _check_size((shape[1], shape[0]), "the array")


def _decode(stream: IO[bytes], name: str) -> NDArray[np.uint8]:
    with _explained(stream, name), _SILENCE, _open(stream) as image:
        return _pixels(image, stream, name)


def _pixels(image: Image.Image, stream: IO[bytes], name: str) -> NDArray[np.uint8]:
    _check_size(image.size, name)
    _check_work(image, stream, name)
    image.load()
    return _to_rgb(_upright(image), name)


def _open(stream: IO[bytes]) -> Image.Image:
    head = stream.read(64)
    stream.seek(0)
    if is_heif(head) and _reads_heif():
        heif: Any = importlib.import_module("pillow_heif")
        image: Image.Image = heif.HeifImageFile(stream)  # without making it known to every user of Pillow
        return image
    return Image.open(stream, formats=FORMATS)


def _reads_heif() -> bool:
    return importlib.util.find_spec("pillow_heif") is not None


def _page_numbers(image: Image.Image) -> list[int]:
    """The pages or frames of a file, without the reduced copies that a TIFF may hold of them (TIFF 6.0, tag 254)."""
    count = getattr(image, "n_frames", 1) if image.format in PAGED else 1
    if count == 1 or not isinstance(image, TiffImageFile):
        return list(range(count))
    numbers = []
    for number in range(count):
        image.seek(number)
        if not image.tag_v2.get(ExifTags.Base.NewSubfileType, 0) & 1:
            numbers.append(number)
    image.seek(0)
    return numbers or [0]


@contextlib.contextmanager
def _explained(stream: IO[bytes], name: str) -> Iterator[None]:
    """Errors of Pillow's readers as ours."""
    try:
        yield
    except errors.MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise errors.MediaError(f"{name}: expected at most {MAX_PIXELS:,} pixels; {error}; shrink it") from error
    # Pillow's readers raise almost anything on damaged files: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise errors.MediaError(f"{name}: {_what_is_wrong(stream, error)}") from error


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise errors.MediaError(f"{name}: expected at most {MAX_PIXELS:,} pixels, got {width} x {height}; shrink it")


def _check_work(image: Image.Image, stream: IO[bytes], name: str) -> None:
    """Refuse a picture of any size that would cost as much as one above ``MAX_PIXELS``."""
    if isinstance(image, TiffImageFile):
        # A tile is decoded whole, however small the picture that it holds.
        width, height = (int(image.tag_v2.get(tag, 0)) for tag in (ExifTags.Base.TileWidth, ExifTags.Base.TileLength))
        _check_size((width, height), f"{name}, a tile")
    if image.info.get("progressive"):
        stream.seek(0)
        scans = _count_scans(stream.read())
        if scans > MAX_SCANS:
            raise errors.MediaError(f"{name}: expected a JPEG of at most {MAX_SCANS} scans, got {scans}; save it again")


# A marker is FF and a byte; in compressed data 00 or a number of restart follows FF.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd8])")
_START_OF_SCAN, _END_OF_IMAGE = b"\xda", b"\xd9"


def _count_scans(content: bytes) -> int:
    """Scans of a JPEG, without those of the thumbnails in its metadata and of what follows it (ITU-T T.81, annex B)."""
    scans, position = 0, 0
    while (marker := _MARKER.search(content, position)) and marker[1] != _END_OF_IMAGE:
        scans += marker[1] == _START_OF_SCAN
        position = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2])
    return scans


def _what_is_wrong(stream: IO[bytes], error: Exception) -> str:
    stream.seek(0)
    head, remedy = stream.read(64), "save it again or leave it out"
    if not head:
        return f"expected a picture, got an empty file; {remedy}"
    if is_heif(head) and not _reads_heif():
        return f"expected a picture ({', '.join(FORMATS)}), got HEIC; {HEIC_REMEDY}"
    if isinstance(error, UnidentifiedImageError | KeyError):
        return f"expected a picture ({', '.join(FORMATS)}), got something else; {remedy}"
    return f"expected a whole picture, got a damaged one ({error}); {remedy}"


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF raises almost anything, and says nothing about the pixels
        return image
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Pixels of any mode of Pillow: -> uint8 ``(H, W, 3)``."""
    if image.mode.startswith("I"):  # 16 bits, also handed over as 32
        values = np.asarray(image).astype(np.int64)  # (H, W)
        highest = values.max()
        if values.min() < 0 or highest > 0xFFFF:
            raise errors.MediaError(
                f"{name}: expected at most 16 bits a pixel, got values up to {highest}; save it again"
            )
        return np.repeat(((values + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)  # (H, W) -> (H, W, 3)
    if image.mode == "F":
        raise errors.MediaError(f"{name}: expected whole numbers, got floating-point pixels; save it with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    return np.array(image.convert("RGB"))
