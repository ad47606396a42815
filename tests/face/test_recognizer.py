"""Pictures in, faces out: order, batches, colours, threads, and files that cannot be read."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import SHARED
from tests.face.tiny_network import LABELS, band, write_network

import mien
from mien import Recognizer
from mien.data import draw_faces
from mien.errors import MediaError, MissingPathError, ModelError
from mien.face import quality
from mien.face import recognizer as recognizer_module
from mien.face.crop import REFERENCE, crop_face
from mien.face.detect import Detection
from mien.face.quality import face_quality
from mien.face.result import Box, Picture


class Tiles:
    """A detector: every 48x48 tile of the picture that is not black is a face."""

    name = "tiles"
    framing = None

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        height, width = picture.shape[:2]
        places = [(x, y) for y in range(0, height, 48) for x in range(0, width, 48)]
        return [Detection(Box(x, y, 48, 48), 0.9) for x, y in places if picture[y : y + 48, x : x + 48].any()]


@pytest.fixture
def recognizer(tmp_path: Path) -> Recognizer:
    return Recognizer(write_network(tmp_path / "tiny.onnx"), Tiles(), threads=2)


def tiled(*emotions: str) -> NDArray[np.uint8]:
    """A grey picture ``(48, 48 n)`` with these faces side by side."""
    return np.concatenate([band(name) for name in emotions] or [np.zeros((48, 48), np.uint8)], axis=1)


def named(picture: Picture) -> list[str]:
    return [face.emotion.value for face in picture.faces]


def test_one_picture_of_every_form_gives_the_same_faces(recognizer: Recognizer, tmp_path: Path) -> None:
    grey = tiled("happy", "sad", "fear")
    Image.fromarray(grey).save(tmp_path / "faces.png")
    for image in (grey, np.repeat(grey[..., None], 3, axis=2), tmp_path / "faces.png", str(tmp_path / "faces.png")):
        found = recognizer.recognize(image)
        assert isinstance(found, Picture)
        assert (found.width, found.height) == (144, 48)
        assert named(found) == ["happy", "sad", "fear"]
        np.testing.assert_array_equal(found.faces[1].crop, band("sad"))
        assert found.path == (None if isinstance(image, np.ndarray) else str(image))


def test_faces_of_many_pictures_are_pooled_and_stay_in_order(recognizer: Recognizer) -> None:
    generator = np.random.default_rng(0)
    expected = [list(generator.choice(LABELS, generator.integers(0, 5))) for _ in range(150)]
    batches: list[int] = []
    inner = recognizer.network.probabilities

    def counted(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        batches.append(len(faces))
        return inner(faces)

    recognizer.network.probabilities = counted  # type: ignore[method-assign]
    found = recognizer.recognize([tiled(*names) for names in expected])
    assert [named(picture) for picture in found] == expected
    assert len(batches) <= sum(batches) / 40


def test_pictures_are_taken_as_they_are_needed(recognizer: Recognizer) -> None:
    taken = 0

    def endless() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        while True:
            taken += 1
            yield tiled("happy")

    stream = recognizer.stream(endless())
    for _ in range(10):
        assert named(next(stream)) == ["happy"]
    assert taken < 100
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mien-detect")]


def test_colours_are_read_in_the_order_that_is_said(tmp_path: Path) -> None:
    recognizer = Recognizer(write_network(tmp_path / "tiny.onnx"), Tiles())
    red = np.zeros((48, 48, 3), np.uint8)
    red[..., 0] = 200
    as_rgb, as_bgr = (recognizer.recognize(red, color_order=order).faces[0].crop for order in ("rgb", "bgr"))
    assert as_rgb[0, 0] == 60  # 0.299 * 200
    assert as_bgr[0, 0] == 23  # 0.114 * 200
    with pytest.raises(ValueError, match="'rgb' or 'bgr'"):
        recognizer.recognize(red, color_order="RGB")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((48, 48, 3), np.float32),
        np.full((48, 48), np.nan),
        np.zeros((48, 48, 4), np.uint8),
        np.zeros((2, 48, 48, 3), np.uint8),
        np.zeros((0, 48, 3), np.uint8),
        np.zeros((48, 48, 3), np.int64),
    ],
)
def test_wrong_arrays_are_errors_alone_and_in_a_list(recognizer: Recognizer, pixels: np.ndarray) -> None:
    with pytest.raises(MediaError):
        recognizer.recognize(pixels)
    with pytest.raises(MediaError):
        recognizer.recognize([tiled("happy"), pixels])


@pytest.mark.parametrize(
    "image", [None, 0, b"photo.jpg", {"photo.jpg"}, Image.new("L", (48, 48)), [0], [[1, 2], [3, 4]], [None]]
)
def test_what_is_neither_pixels_nor_a_path_is_an_error(recognizer: Recognizer, image: Any) -> None:
    with pytest.raises(MediaError, match="expected pixels, a path or a list of these, got"):
        recognizer.recognize(image)


@pytest.mark.parametrize("images", ["photo.jpg", Path("photo.jpg"), np.zeros((48, 48, 3), np.uint8)])
def test_one_image_is_no_stream(recognizer: Recognizer, images: Any) -> None:
    with pytest.raises(MediaError, match="put it into a list"):
        next(recognizer.stream(images))


def test_arrays_above_the_limit_are_refused_though_they_take_no_memory(recognizer: Recognizer) -> None:
    with pytest.raises(MediaError, match="at most 100,000,000 pixels, got 20000 x 10000"):
        recognizer.recognize(np.broadcast_to(np.uint8(0), (10_000, 20_000)))


def test_one_pixel_holds_no_face(tmp_path: Path) -> None:
    found = Recognizer(write_network(tmp_path / "tiny.onnx")).recognize(np.full((1, 1, 3), 90, np.uint8))
    assert (found.width, found.height, found.faces) == (1, 1, ())


def test_negative_strides_are_pixels_like_any_other(recognizer: Recognizer) -> None:
    assert named(recognizer.recognize(tiled("happy", "sad")[:, ::-1])) == ["sad", "happy"]


def test_a_bad_file_does_not_stop_the_others(recognizer: Recognizer, tmp_path: Path) -> None:
    Image.fromarray(tiled("happy")).save(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_text("no picture")
    files = [tmp_path / "good.png", tmp_path / "bad.jpg", tmp_path / "none.png", tmp_path, tmp_path / "good.png"]
    found = recognizer.recognize(files)
    assert [picture.error is None for picture in found] == [True, False, False, False, True]
    assert [picture.path for picture in found] == [str(path) for path in files]
    assert found[1].to_rows()[0]["emotion"] is None
    with pytest.raises(MediaError, match=r"bad\.jpg"):
        recognizer.recognize(tmp_path / "bad.jpg")
    with pytest.raises(MissingPathError):
        recognizer.recognize(tmp_path / "none.png")


def test_a_file_whose_face_cannot_be_cropped_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((1, 20_000), np.uint8)).save(tmp_path / "thin.png")
    recognizer = Recognizer(detector="none")
    assert recognizer.recognize([tmp_path / "thin.png"])[0].error == (
        f"{tmp_path / 'thin.png'}: expected a box of at most 100,000,000 pixels, got a square of side 20000"
    )
    with pytest.raises(MediaError, match=r"^expected a box"):
        recognizer.recognize(np.zeros((1, 20_000), np.uint8))


class Forgetful(Recognizer):
    """A recognizer that threads cannot share: it keeps what it found on itself."""

    def _find(self, *arguments: Any) -> Any:
        self.found = super()._find(*arguments)
        time.sleep(0.001)
        return self.found


def check_threads(recognizer: Recognizer, pictures: list[NDArray[np.uint8]]) -> None:
    """Fails where a picture gives other faces among four threads than alone."""
    alone = [recognizer.recognize(picture) for picture in pictures]
    assert len({str(picture) for picture in alone}) == len(pictures)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(recognizer.recognize, 3 * pictures))
    for picture, expected in zip(together, 3 * alone, strict=True):
        assert [face.box for face in picture.faces] == [face.box for face in expected.faces]
        for face, other in zip(picture.faces, expected.faces, strict=True):
            np.testing.assert_array_equal(face.crop, other.crop)
            np.testing.assert_allclose(list(face.probabilities.values()), list(other.probabilities.values()), atol=1e-6)


def noisy_tiles() -> list[NDArray[np.uint8]]:
    return [np.random.default_rng(seed).integers(1, 256, (96, 144), dtype=np.uint8) for seed in range(24)]


def test_four_threads_get_the_answers_of_one(recognizer: Recognizer) -> None:
    check_threads(recognizer, noisy_tiles())


def test_four_threads_get_the_answers_of_one_from_the_default_detector(tmp_path: Path) -> None:
    faces = draw_faces(12, seed=3).images
    scenes = []
    for number, face in enumerate(faces):
        scene = np.full((300, 400), 128, np.uint8)
        scene[40 : 40 + 192, 10 * number : 10 * number + 192] = cv2.resize(face, (192, 192))
        scenes.append(scene)
    recognizer = Recognizer(write_network(tmp_path / "tiny.onnx"))
    assert all(len(recognizer.recognize(scene).faces) == 1 for scene in scenes)
    check_threads(recognizer, scenes)


def test_the_check_of_threads_tells_shared_state(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check_threads(Forgetful(write_network(tmp_path / "tiny.onnx"), Tiles(), threads=2), noisy_tiles())


def test_faces_of_low_confidence_are_abstained(tmp_path: Path) -> None:
    model = write_network(tmp_path / "tiny.onnx")
    grey = np.full((48, 48), 100, np.uint8)  # every band alike: one seventh each
    both = [band("happy"), grey]
    assert [
        picture.faces[0].abstained for picture in Recognizer(model, Tiles(), min_confidence=0.5).recognize(both)
    ] == [
        False,
        True,
    ]
    assert not Recognizer(model, Tiles()).recognize(grey).faces[0].abstained


def test_a_wanted_accuracy_is_a_least_confidence(tmp_path: Path) -> None:
    model = write_network(tmp_path / "a.onnx", abstention="[[0.9, 0.75, 0.5]]")
    assert Recognizer(model, "none", min_accuracy=0.9).min_confidence == 0.75
    assert Recognizer(model, "none", min_accuracy=0.9, min_confidence=0.8).min_confidence == 0.8


@pytest.mark.parametrize("options", [{"threads": 0}, {"min_confidence": 1.5}, {"min_confidence": float("nan")}])
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Recognizer(write_network(tmp_path / "tiny.onnx"), Tiles(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "crops"), [(48, 1), (64, 2)])
def test_a_face_is_cropped_once_at_each_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, crops: int
) -> None:
    recognizer = Recognizer(detector=Tiles())
    recognizer.network.size = size
    monkeypatch.setattr(recognizer.network, "probabilities", lambda faces: np.full((len(faces), 7), 1 / 7, np.float32))
    cropped: list[int] = []
    for module in (recognizer_module, quality):
        monkeypatch.setattr(
            module, "crop_face", lambda *given, **how: cropped.append(given[2]) or crop_face(*given, **how)
        )
    assert recognizer.recognize(tiled("happy")).faces[0].quality == face_quality(tiled("happy"), (0, 0, 48, 48)).value
    assert len(cropped) == crops + 1  # and once by the line above


def test_what_the_package_exports_is_there_and_is_imported_when_it_is_used() -> None:
    for package in (mien, mien.face):
        for name in package.__all__:
            assert getattr(package, name) is not None
    assert set(mien.__all__) == {*mien.face.__all__, "EMOTIONS", "Emotion", "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'Recognitor'"):
        _ = mien.Recognitor


UPRIGHT = np.array(REFERENCE)


def test_a_callers_own_boxes_are_named_without_a_search(recognizer: Recognizer) -> None:
    picture = tiled("happy", "sad", "fear")
    recognizer.detector.detect = None  # type: ignore[assignment, method-assign]
    found = recognizer.recognize(picture, boxes=[(96, 0, 48, 48), (0, 0, 48, 48)])
    assert named(found) == ["fear", "happy"]
    assert found.faces[0] == replace(found.faces[0], box=Box(96, 0, 48, 48), detection_confidence=1.0, points=None)
    assert named(recognizer.recognize(picture, boxes=np.array([[48.3, 0, 47.9, 48]]))) == ["sad"]
    for nothing in ([], np.empty((0, 4))):
        assert recognizer.recognize(picture, boxes=nothing).faces == ()


def test_a_callers_own_points_turn_faces_upright(recognizer: Recognizer) -> None:
    picture = np.rot90(tiled("happy", "sad"), -1)  # clockwise: happy is above
    turned = [np.stack([48 - UPRIGHT[:, 1], 48 * number + UPRIGHT[:, 0]], 1) for number in (0, 1)]
    found = recognizer.recognize(picture, points=turned)
    assert named(found) == ["happy", "sad"]
    assert [face.roll for face in found.faces] == pytest.approx([90, 90])
    assert [face.box for face in found.faces] == [Box(0, 0, 48, 48), Box(0, 48, 48, 48)]
    np.testing.assert_array_equal(found.faces[1].crop, band("sad"))
    assert "turned" in found.faces[0].reasons
    both = recognizer.recognize(picture, boxes=[(1, 2, 3, 4)], points=turned[:1])
    assert (both.faces[0].box, named(both)) == (Box(1, 2, 3, 4), ["happy"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"boxes": [(0, 0, 48)]}, r"expected boxes \(N, 4\)"),
        ({"boxes": (0, 0, 48, 48)}, r"expected boxes \(N, 4\)"),
        ({"boxes": [(0, 0, 48, float("nan"))]}, r"expected boxes \(N, 4\), finite"),
        ({"boxes": [(0, 0, 48, "wide")]}, r"expected boxes \(N, 4\)"),
        ({"boxes": [(0, 0, 0, 48)]}, "box of at least 1 x 1"),
        ({"boxes": [(500, 0, 48, 48)]}, "lies outside"),
        ({"points": UPRIGHT}, r"expected points \(N, 5, 2\)"),
        ({"points": [UPRIGHT + 1000]}, "outside"),
        ({"points": [UPRIGHT * 0]}, "face of 1 to"),
        ({"boxes": [(0, 0, 48, 48)] * 2, "points": [UPRIGHT]}, "as many boxes as points, got 2 and 1"),
    ],
)
def test_boxes_and_points_that_are_none(recognizer: Recognizer, given: dict[str, Any], message: str) -> None:
    with pytest.raises(MediaError, match=message):
        recognizer.recognize(tiled("happy"), **given)
    with pytest.raises(MediaError):
        recognizer.recognize([tiled("happy")], **given)


def test_importing_brings_neither_torch_nor_a_network() -> None:
    script = """
import socket, sys
def refuse(*_): raise AssertionError("network")
socket.socket.connect = refuse
import mien, mien.face.recognizer, mien.cli
heavy = {"torch", "onnxruntime", "matplotlib", "sklearn", "pydantic", "timm", "pyarrow"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "photos").exists(), reason="the photographs are not beside the project")
def test_natural_photographs_hold_the_faces_that_are_there(tmp_path: Path) -> None:
    recognizer = Recognizer(write_network(tmp_path / "tiny.onnx"))
    photos = sorted((SHARED / "photos").glob("*.jpg"))
    counts = {Path(str(picture.path)).stem: len(picture.faces) for picture in recognizer.recognize(photos)}
    assert counts == {"biden": 1, "obama": 1, "obama_and_biden": 3}


def test_a_missing_model_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises((ModelError, MissingPathError)):
        Recognizer(tmp_path / "none.onnx", Tiles())
