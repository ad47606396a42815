"""A picture file of any common kind -> upright RGB pixels. The header is judged before a pixel is decoded."""

import io
import threading
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from mien.errors import MediaError, MissingPathError

MAX_PIXELS = 100_000_000
"""Largest picture that is decoded: 300 MB as RGB."""

# Pillow's other readers are left out: EPS starts Ghostscript, PSD or ICO hold several pictures, and so on.
# AVIF stands last because Pillow before 11.3 does not know it.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")

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

# Pillow tells of oversized headers and odd metadata as warnings. They are silenced for the length of one decoding;
# the list of warning filters belongs to the whole process, hence the lock.
_WARNING_FILTERS = threading.Lock()


def read_picture(path: Path | str) -> NDArray[np.uint8]:
    """The pixels of a picture file: uint8 ``(H, W, 3)``, RGB, upright after its EXIF orientation.

    Grey stays exact (R = G = B). 16 bits become 8 by rounding ``v / 257``. Transparent parts lie on white, as on a
    page. CMYK and palettes are converted, colour profiles ignored. Of an animation comes the first frame.

    Raises:
        MissingPathError: there is no such file.
        MediaError: not a picture, truncated, empty, unreadable or above ``MAX_PIXELS``.
    """
    try:
        with open(path, "rb") as stream:
            return _decode(stream, str(path))
    except FileNotFoundError as error:
        raise MissingPathError(f"{path}: expected a picture, but there is no such file; check the path") from error
    except OSError as error:
        raise MediaError(
            f"{path}: expected a readable picture file, came {error.strerror or error}; check its kind and permissions"
        ) from error


def decode_picture(content: bytes, name: str) -> NDArray[np.uint8]:
    """``read_picture`` for a picture that is in memory; ``name`` stands in error messages.

    Raises:
        MediaError: as for ``read_picture``.
    """
    return _decode(io.BytesIO(content), name)


def check_picture(picture: NDArray[np.uint8]) -> None:
    """Refuse an array that is no picture: uint8 ``(H, W)``, or RGB ``(H, W, 3)``, with at least one pixel.

    Raises:
        MediaError: it is not.
    """
    shape = picture.shape
    if picture.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or 0 in shape:
        raise MediaError(
            f"expected a uint8 picture (H, W) or (H, W, 3), came {picture.dtype} {shape};"
            " read pictures with mien.face.pictures.read_picture"
        )


def _decode(stream: IO[bytes], name: str) -> NDArray[np.uint8]:
    try:
        with _WARNING_FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(stream, formats=FORMATS) as image:
                _check_size(image.size, name)
                image.load()
                return _to_rgb(_upright(image), name)
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"{name}: expected at most {MAX_PIXELS:,} pixels; {error}; shrink it") from error
    # Pillow's readers raise almost anything on damaged files: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise MediaError(f"{name}: {_what_came(stream, error)}; save it anew or leave it out") from error


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise MediaError(f"{name}: expected at most {MAX_PIXELS:,} pixels, came {width} x {height}; shrink it")


def _what_came(stream: IO[bytes], error: Exception) -> str:
    stream.seek(0)
    if not stream.read(1):
        return "expected a picture, came an empty file"
    if isinstance(error, UnidentifiedImageError | KeyError):
        return f"expected a picture ({', '.join(FORMATS)}), came something else"
    return f"expected a whole picture, came a damaged one ({error})"


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF raises almost anything, and says nothing about the pixels
        return image
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Pixels of any mode of Pillow: -> uint8 ``(H, W, 3)``."""
    if image.mode.startswith("I"):
        return np.repeat(_eight_bits(np.asarray(image), name)[..., None], 3, axis=2)  # (H, W) -> (H, W, 3)
    if image.mode == "F":
        raise MediaError(f"{name}: expected whole numbers, came floating-point pixels; save it with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        colours = image.convert("RGBA")
        white = Image.new("RGBA", colours.size, "white")
        image = Image.alpha_composite(white, colours)
    return np.array(image.convert("RGB"))


def _eight_bits(pixels: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    """16-bit grey ``(H, W)`` -> 8-bit. Pillow also hands 16 bits over as mode ``I``, 32-bit integers."""
    values = pixels.astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise MediaError(f"{name}: expected at most 16 bits a pixel, came values up to {values.max()}; save it anew")
    return ((values + 128) // 257).astype(np.uint8)
