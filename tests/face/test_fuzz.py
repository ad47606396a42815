"""Damaged files and odd arrays, by the hundred: what comes back is an answer of the right form, or an error of ours.

A bounded and repeatable part of what ran for longer while the recognizer was written.
"""

import functools
import io
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from tests.face.drawn_yunet import yunet_bytes
from tests.face.tiny_network import write_network

from mien import Recognizer
from mien.errors import MediaError, ModelError
from mien.face.crop import Framing, crop_face
from mien.face.detect import create_detector
from mien.face.images import MAX_PIXELS, decode_image
from mien.face.network import EmotionNetwork
from mien.face.quality import face_quality

REPEATABLE = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=timedelta(seconds=20),  # on a busy machine too, nothing here takes a second of work
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM")
SIGNATURE = 12
"""Bytes at the beginning that are left alone, or no reader would look at the rest."""

Edit = tuple[str, int, int]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(("set", "cut", "remove", "repeat", "number")),
        st.integers(0, 2**16),
        st.sampled_from((0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 10**5, 2**31 - 1, 2**31, 2**32 - 1)),
    ),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, edits: list[Edit], spared: int) -> bytes:
    """``content`` after some edits; half of them fall among the first 300 bytes, where the headers are."""
    kept, rest = content[:spared], bytearray(content[spared:])
    for what, place, value in edits:
        if not rest:
            break
        at = place % min(len(rest), 300) if place % 2 else place % len(rest)
        if what == "set":
            rest[at] = value & 0xFF
        elif what == "cut":
            del rest[at:]
        elif what == "remove":
            del rest[at : at + 1 + value % 8]
        elif what == "repeat":
            rest[at:at] = 3 * rest[at : at + 1 + value % 64]
        else:
            size = (2, 4)[place % 3 % 2]
            order = "big" if place % 5 < 2 else "little"
            rest[at : at + size] = (value % 256**size).to_bytes(size, order)  # type: ignore[arg-type]
    return kept + bytes(rest)


@functools.cache
def pictures(kind: str) -> list[bytes]:
    """Whole files of a kind: colours, grey, a palette, and pictures that turn."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    found = []
    for image in (noise, noise.convert("L"), *([noise.convert("P")] if kind in ("PNG", "GIF", "TIFF", "BMP") else [])):
        stream = io.BytesIO()
        extra = {"exif": exif.tobytes()} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
        image.save(stream, kind, **extra)
        found.append(stream.getvalue())
    return found


@pytest.mark.parametrize("kind", KINDS)
@REPEATABLE
@given(data=st.data())
def test_damaged_pictures(kind: str, data: st.DataObject) -> None:
    content = damaged(data.draw(st.sampled_from(pictures(kind))), data.draw(EDITS), SIGNATURE)
    try:
        pixels = decode_image(content, "x")
    except MediaError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS


ARRAYS = st.one_of(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 60), st.integers(1, 60))),
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 60), st.integers(1, 60), st.just(3))),
    hnp.arrays(
        st.one_of(hnp.scalar_dtypes(), st.just(np.dtype("O")), st.just(np.dtype([("red", "u1")]))),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9),
    ),
)
VIEWS = st.lists(st.sampled_from(("flip", "step", "turn", "stretch", "masked", "read-only")), max_size=3)
NUMBERS = st.integers(-80, 80) | st.sampled_from((10**5, 2**31, -(2**31), 2**63, -(2**63)))


def viewed(array: np.ndarray, views: list[str]) -> np.ndarray:
    """The same pixels, or some of them, with other strides."""
    for view in views:
        if array.ndim == 0:
            break
        if view == "flip":
            array = array[..., ::-1]
        elif view == "step":
            array = array[::2]
        elif view == "turn":
            array = array.T
        elif view == "stretch" and array.size:
            array = np.broadcast_to(array[:1], (5000, *array.shape[1:]))
        elif view == "masked":
            array = np.ma.masked_array(array)
        elif view == "read-only":
            array = array.view()
            array.flags.writeable = False
    return array


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with networks: ``tiny.onnx`` names emotions, ``yunet.onnx`` finds faces."""
    folder = tmp_path_factory.mktemp("networks")
    write_network(folder / "tiny.onnx", size=8)
    (folder / "yunet.onnx").write_bytes(yunet_bytes())
    return folder


@pytest.fixture(scope="module", params=["libfacedetection", "none", "yunet"])
def recognizer(request: pytest.FixtureRequest, files: Path) -> Recognizer:
    detector = f"yunet:{files / 'yunet.onnx'}" if request.param == "yunet" else request.param
    return Recognizer(files / "tiny.onnx", detector, threads=1)


@settings(REPEATABLE, max_examples=25)
@given(array=ARRAYS, views=VIEWS, order=st.sampled_from(("rgb", "bgr")))
def test_odd_arrays_are_recognized_as_their_copies_or_refused(
    recognizer: Recognizer, array: np.ndarray, views: list[str], order: str
) -> None:
    pixels = viewed(array, views)
    try:
        found = recognizer.recognize(pixels, color_order=order)  # type: ignore[call-overload]
    except MediaError:
        grey_or_rgb = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
        assert pixels.dtype != np.uint8 or not grey_or_rgb or not pixels.size
    else:
        assert (found.height, found.width) == pixels.shape[:2]
        assert found == recognizer.recognize(np.array(pixels, order="C"), color_order=order)  # type: ignore[call-overload]


@REPEATABLE
@given(
    array=ARRAYS,
    views=VIEWS,
    box=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    size=st.integers(-1, 60),
    framing=st.sampled_from((None, Framing(scale=1.05))),
)
def test_odd_boxes_are_cropped_or_refused(
    array: np.ndarray, views: list[str], box: tuple[int, int, int, int], size: int, framing: object
) -> None:
    pixels = viewed(array, views)
    try:
        face = crop_face(pixels, box, size, framing)  # type: ignore[arg-type]
        quality = face_quality(pixels, box, framing)  # type: ignore[arg-type]
    except MediaError:
        return
    assert face.shape == (size, size)
    assert face.dtype == np.uint8
    assert 0 <= quality.value <= 1


@pytest.mark.parametrize("network", ["tiny", "yunet"])
@REPEATABLE
@given(edits=EDITS)
def test_damaged_networks(files: Path, network: str, edits: list[Edit]) -> None:
    path = files / f"damaged-{network}.onnx"
    path.write_bytes(damaged((files / f"{network}.onnx").read_bytes(), edits, 0))
    try:
        if network == "yunet":
            create_detector(f"yunet:{path}").detect(np.zeros((64, 64), np.uint8))
            return
        found = EmotionNetwork(path, threads=1)
        probabilities = found.probabilities(np.zeros((3, found.size, found.size), np.uint8))
    except ModelError:
        return
    assert probabilities.shape == (3, 7)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-3)
