"""Training of a face detector: what it learns, that it goes on to the bit, and the graph that comes out."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests.conftest import SHARED
from tests.detection_tables import write_tables

from mien.data.detection import DetectionSamples, Faces
from mien.detector_recipe import DetectorRecipe, load_detector_recipe
from mien.errors import DataError, Interrupted, MissingPathError, ModelError, RecipeError, RunExistsError
from mien.evaluation.detection import open_graph
from mien.export.faces import export_detector
from mien.face.images import read_image
from mien.models.face_detector import FaceDetectorNet, Found
from mien.recipe import brought, find_recipe
from mien.runs.detector import load_detector
from mien.training import detector, detector_loss
from mien.training.detector_teacher import Teacher, follow, matches

TINY = ["detector.stem=[4,8]", "detector.widths=[8,8,8]", "detector.depths=[1,1,1]", "detector.pyramid=8"]
SHORT = ["training.steps=3", "training.batch_size=1", "training.minutes=none", "training.epochs=2"]
PLAIN = ["training.precision=float32", "training.channels_last=false", "collages.sizes=[64,96]"]
YUNET = SHARED.parent / "weights" / "yunet_s_dynamic.onnx"


def recipe(*overrides: str) -> DetectorRecipe:
    return load_detector_recipe(find_recipe("detector/faces"), [*TINY, *SHORT, *PLAIN, *overrides])


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> DetectionSamples:
    return write_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def run(samples: DetectionSamples, tmp_path_factory: pytest.TempPathFactory):
    return detector.fit_detector(recipe(), samples, tmp_path_factory.mktemp("run") / "a", accelerator="cpu")


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_detector(path)[0].state_dict()


def test_a_run_that_was_stopped_ends_with_the_same_weights_to_the_bit(run, samples, tmp_path: Path) -> None:
    steps = iter(range(100))
    with pytest.raises(Interrupted, match="the state is saved"):
        detector.fit_detector(
            recipe(), samples, tmp_path, accelerator="cpu", stop_signal=lambda: 15 if next(steps) == 3 else None
        )
    again = detector.fit_detector(recipe(), samples, tmp_path, resume=True, accelerator="cpu")
    for name in ("last_checkpoint", "best_checkpoint"):
        one, other = weights_of(getattr(run, name)), weights_of(getattr(again, name))
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert [row.epoch for row in again.load_metrics() if row.name == "loss"] == [0, 1]


def test_held_out_pictures_are_measured_and_not_learnt_from(run, samples, tmp_path: Path) -> None:
    names = {row.name for row in run.load_metrics() if row.split == "validation"}
    assert {"drawn_recall_0.5_48", "drawn_false_per_100", "noise_false_per_100"} <= names
    black = write_tables(tmp_path / "tables").pictures
    held_out = [each for each in black if each.is_held_out]
    assert held_out
    poisoned = [
        type(each)(each.set, each.name, each.group, black[0].content if each.is_held_out else each.content, each.faces)
        for each in black
    ]
    other = DetectionSamples(tuple(poisoned), samples.sha256)
    again = detector.fit_detector(recipe(), other, tmp_path / "run", accelerator="cpu")
    one, two = weights_of(run.last_checkpoint), weights_of(again.last_checkpoint)
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_another_recipe_or_other_pictures_do_not_go_on(run, samples, tmp_path: Path) -> None:
    with pytest.raises(RunExistsError, match="add --resume"):
        detector.fit_detector(recipe(), samples, run.path, accelerator="cpu")
    with pytest.raises(RunExistsError, match="got another"):
        detector.fit_detector(recipe("seed=1"), samples, run.path, resume=True, accelerator="cpu")
    with pytest.raises(DataError, match="got others"):
        detector.fit_detector(recipe(), write_tables(tmp_path, count=10), run.path, resume=True, accelerator="cpu")


def test_the_graph_of_faces_says_what_the_network_says(run, tmp_path: Path) -> None:
    written = export_detector(run, tmp_path / "faces.onnx", threshold=0.4, license="Apache-2.0")
    assert written.difference <= 1e-4
    told = {each.key: each.value for each in onnx.load(written.path).metadata_props}
    assert (told["license"], told["threshold"], told["model"]) == ("Apache-2.0", "0.4", "face_detector")
    (graph, _), (network, _) = open_graph(written.path), load_detector(run.best_checkpoint)
    for shape in ((75, 131, 3), (64, 64), (200, 33, 3)):
        picture = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        ours, theirs = detector.find(network, picture), graph(picture)
        assert theirs.scores == pytest.approx(ours.scores, abs=1e-4)
        assert theirs.boxes == pytest.approx(ours.boxes, abs=0.02)
        assert theirs.points == pytest.approx(ours.points, abs=0.02)


def test_what_is_shipped_is_small_and_has_a_recipe() -> None:
    assert "detector/faces" in brought("recipes")
    parameters = sum(each.numel() for each in FaceDetectorNet().parameters())
    assert 75_000 <= parameters <= 150_000


def test_each_face_has_a_place_of_its_size() -> None:
    places, strides = detector_loss.grid(320)
    for size, expected in ((12, {8}), (30, {8, 16}), (60, {16}), (100, {16, 32}), (250, {32})):
        kinds, owners = detector_loss.assign(Faces.of([20, 30, size, size]), places, strides)
        assert set(strides[kinds == detector_loss.FACE]) == expected
        assert set(owners[kinds == detector_loss.FACE]) == {0}
    both = Faces.of([[100, 100, 60, 60], [110, 110, 20, 20]])
    kinds, owners = detector_loss.assign(both, places, strides)
    inner = np.flatnonzero((places == (120, 120)).all(1) & (strides == 8))
    assert owners[inner].tolist() == [1]  # of two faces the smaller one
    unknown = Faces(both.boxes, both.points, np.array([False, False]))
    kinds, _ = detector_loss.assign(unknown, places, strides)
    assert set(kinds.tolist()) == {detector_loss.BACKGROUND, detector_loss.UNKNOWN}


def perfect(size: int = 96) -> tuple[Found, detector_loss.Targets]:
    """One face, said exactly right at its places and nowhere else."""
    places, strides = detector_loss.grid(size)
    points = np.array([[(40, 40), (55, 40), (48, 50), (42, 58), (54, 58)]], np.float32)
    faces = Faces.of([30, 30, 36, 40], points)
    kinds, _ = detector_loss.assign(faces, places, strides)
    count = len(places)
    boxes = torch.tensor([[[48.0, 50, 36, 40]]]).repeat(1, count, 1)
    marked = torch.from_numpy(points).repeat(1, count, 1, 1).view(1, count, 5, 2)
    logits = torch.where(torch.from_numpy(kinds == detector_loss.FACE), 20.0, -20.0)[None]
    targets = detector_loss.Targets(torch.from_numpy(kinds)[None], boxes, marked, torch.zeros(1, count))
    return Found(logits, boxes.clone(), marked.clone()), targets


def test_the_loss_is_nothing_where_all_is_right_and_counts_what_is_not() -> None:
    found, targets = perfect()
    assert detector_loss.loss_of(found, targets)[0].item() == pytest.approx(0, abs=1e-5)
    _, parts = detector_loss.loss_of(found._replace(points=found.points + 2), targets)
    assert parts["points"] > 0.1
    assert parts["box"] == pytest.approx(0, abs=1e-5)
    _, parts = detector_loss.loss_of(found._replace(boxes=found.boxes * 1.1), targets)
    assert parts["box"] > 0.1
    _, parts = detector_loss.loss_of(found._replace(logits=-found.logits), targets)
    assert parts["score"] > 1


def test_a_teacher_counts_within_a_face_alone_and_unknown_places_not_at_all() -> None:
    found, targets = perfect()
    everywhere = torch.full_like(targets.scores, 0.9)
    taught = detector_loss.Targets(targets.kinds, targets.boxes, targets.points, everywhere)
    logits = torch.where(targets.kinds == detector_loss.BACKGROUND, -20.0, 2.2)  # sigmoid(2.2) is 0.9
    _, parts = detector_loss.loss_of(found._replace(logits=logits), taught)
    face = targets.kinds == detector_loss.FACE
    _, right = detector_loss.loss_of(found._replace(logits=torch.where(face, 20.0, logits)), taught)
    assert right["score"] == pytest.approx(0, abs=1e-3)
    assert parts["score"] < 0.1
    unknown = detector_loss.Targets(torch.full_like(targets.kinds, 3), targets.boxes, targets.points, targets.scores)
    assert detector_loss.loss_of(found, unknown)[0].item() == 0


def test_boxes_by_hand_are_paired_once_and_follow_a_rule() -> None:
    hand = np.array([[0, 0, 10, 10], [20, 0, 10, 10]], np.float32)
    theirs = np.array([[21, 0, 10, 10], [1, 0, 10, 10], [2, 0, 10, 10]], np.float32)
    assert matches(hand, theirs).tolist() == [[0, 1], [1, 0]]
    rule = np.array([0, -0.1, 1, 1.2])
    assert follow(hand[:1], rule).tolist() == [[0, pytest.approx(-2), 10, pytest.approx(12)]]


def test_refusals(samples: DetectionSamples, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"collages\.faces needs training\.teacher"):
        recipe('collages.faces=["synthetic:70"]')
    with pytest.raises(RecipeError, match=r"unknown key 'collages.size'. Did you mean 'sizes'"):
        recipe("collages.size=3")
    with pytest.raises(MissingPathError, match=r"nowhere\.onnx"):
        detector.fit_detector(recipe("training.teacher=nowhere.onnx"), samples, tmp_path / "a", accelerator="cpu")
    (tmp_path / "other.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match="expected a YuNet network"):
        Teacher(tmp_path / "other.onnx")
    empty = DetectionSamples(tuple(each for each in samples.pictures if each.set == "noise"), "0")
    with pytest.raises(DataError, match="expected pictures with faces"):
        detector.fit_detector(recipe(), empty, tmp_path / "b", accelerator="cpu")


@pytest.mark.shared
@pytest.mark.skipif(not YUNET.exists(), reason="needs the real YuNet beside the project")
def test_the_real_yunet_teaches(samples: DetectionSamples, tmp_path: Path) -> None:
    found = Teacher(YUNET).find(read_image(SHARED / "photos" / "obama.jpg"))
    assert (found.scores >= 0.6).sum() == 1
    left, right = found.points[0, :2]
    assert left[0] < right[0]
    taught = recipe(f"training.teacher={YUNET}", 'collages.faces=["synthetic:70"]', "training.epochs=1")
    run = detector.fit_detector(taught, samples, tmp_path / "run", accelerator="cpu")
    assert run.best_checkpoint.exists()
