"""Classes of one's own, two to fifty, from data to every answer: runs, files, tables, videos, pages."""

import csv
import dataclasses
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mien.cli import main
from mien.data import FaceSamples, Split
from mien.data.samples import SEVEN, Usage
from mien.data.synthetic import read_synthetic
from mien.emotions import EMOTIONS, Emotion, as_classes
from mien.errors import DataError, ModelError
from mien.evaluation import load_predictions
from mien.evaluation.compare import load_entries
from mien.evaluation.ensemble import write_ensemble
from mien.evaluation.evaluate import evaluate, evaluate_and_store
from mien.evaluation.label_issues import LabelIssues
from mien.evaluation.predictor import OnnxPredictor, open_predictor
from mien.evaluation.robustness import measure_robustness
from mien.explain.explain import explain_pictures, explain_split
from mien.export import export_onnx
from mien.face import draw
from mien.face.detect import create_detector
from mien.face.network import EmotionNetwork
from mien.face.recognizer import Recognizer
from mien.face.result import Box, Face, Picture, TrackedFace, VideoFrame, picture_columns, video_columns
from mien.face.video import FrameDrawing
from mien.face.video.plots import TrackSeries, plot_svg
from mien.face.writers import writing_pictures
from mien.models import create_classifier
from mien.report import audit_page, explain_page, plots, run_page
from mien.runs import Report, Run
from mien.runs.checkpoint import Checkpoint, create_run, load_checkpoint, save_checkpoint
from mien.training import fit
from tests.conftest import small_recipe
from tests.face.tiny_network import write_network

FIVE = ("<script>alert(1)", "Größe, klein", 'say "cheese"', "UPPER Case", "path")
NET = {"name": "compact_resnet", "widths": [8, 16], "depths": [1, 1], "input_size": 48}


def named(classes: tuple[str, ...], count: int = 210) -> FaceSamples:
    """Drawn faces whose classes have other names; those of further emotions share them."""
    drawn = read_synthetic(count)
    labels = (drawn.labels.astype(int) + 7 * (np.arange(len(drawn)) // 7)) % len(classes)
    return dataclasses.replace(drawn, labels=labels.astype(np.int8), classes=classes, name="folder:mine")


@pytest.fixture(scope="module")
def samples() -> FaceSamples:
    return named(FIVE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, samples: FaceSamples) -> Run:
    return fit(small_recipe(model=NET), samples, tmp_path_factory.mktemp("own") / "run", accelerator="cpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, trained: Run) -> Path:
    return export_onnx(trained, tmp_path_factory.mktemp("own") / "five.onnx").path


@pytest.fixture(scope="module")
def emotional(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(small_recipe(model=NET), read_synthetic(210), tmp_path_factory.mktemp("seven") / "run")


def test_the_seven_are_emotions_and_others_are_names() -> None:
    assert as_classes(SEVEN) is EMOTIONS
    assert as_classes(["b", "a"]) == ("b", "a")
    wrong = [(["a"], "two"), (["a", " "], "printable"), (["a", "b\n"], "printable"), (["a", "a"], "a twice")]
    for names, message in wrong:
        with pytest.raises(ValueError, match=message):
            as_classes(names)
    with pytest.raises(ValueError, match="in this order"):
        as_classes(SEVEN[::-1])


def test_a_run_names_its_classes_wherever_it_is_read(trained: Run) -> None:
    report, kept = trained.load_report(), load_checkpoint(trained.best_checkpoint)
    stored = load_predictions(trained.predictions_path("validation"))
    assert report.classes == kept.labels == stored.classes == FIVE
    assert json.loads(trained.report_path.read_text())["labels"] == list(FIVE)
    result = report.headline()
    assert result.counts.shape == (5, 5)
    assert len(result.classes["recall"]) == 5
    assert stored.probabilities.shape[1] == 5


def test_the_seven_are_written_nowhere(emotional: Run) -> None:
    assert "labels" not in json.loads(emotional.report_path.read_text())
    with np.load(emotional.predictions_path("validation")) as arrays:
        assert set(arrays) == {"row", "label", "probabilities"}
    assert load_checkpoint(emotional.best_checkpoint).labels == SEVEN


def test_a_class_without_a_training_face_is_named(tmp_path: Path, samples: FaceSamples) -> None:
    wider = samples.with_classes((*FIVE, "never"))
    with pytest.raises(DataError, match="got none of never"):
        fit(small_recipe(), wider, tmp_path / "run")


def test_a_run_goes_on_with_its_own_classes_only(tmp_path: Path, samples: FaceSamples) -> None:
    run = fit(small_recipe(training={"epochs": 1}), samples, tmp_path / "run")
    state = torch.load(run.last_checkpoint, weights_only=True)
    state["labels"][0] = "other"
    torch.save(state, run.last_checkpoint)
    with pytest.raises(DataError, match="expected the classes that it was begun with, other, "):
        fit(small_recipe(training={"epochs": 1}), samples, tmp_path / "run", resume=True)


@pytest.mark.parametrize("count", [5, 7])
def test_weights_of_other_classes_keep_all_but_the_last_layer(
    tmp_path: Path, emotional: Run, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    start = {**NET, "weights": str(emotional.best_checkpoint)}
    classes = tuple(f"class {number}" for number in range(count))
    still = {"lr": 1e-12}
    run = fit(small_recipe(model=start, optimizer=still, training={"epochs": 1}), named(classes), tmp_path / "run")
    assert "its last layer begins anew" in caplog.text
    before, after = load_checkpoint(emotional.best_checkpoint).weights, load_checkpoint(run.best_checkpoint).weights
    trained = {key for key in before if key.endswith("weight") and before[key].ndim == 4}
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in trained)
    head = next(key for key in after if after[key].ndim == 2 and len(after[key]) == count)
    assert before[head].shape != after[head].shape or not torch.allclose(before[head], after[head], atol=1e-3)


def test_a_teacher_for_other_classes_is_refused(tmp_path: Path, samples: FaceSamples, emotional: Run) -> None:
    for teacher in (str(emotional.best_checkpoint), str(export_onnx(emotional, tmp_path / "seven.onnx").path)):
        recipe = small_recipe(training={"teachers": [teacher], "teacher_weight": 0.5})
        with pytest.raises(ModelError, match="expected a teacher for the classes of the data, <script>"):
            fit(recipe, samples, tmp_path / "run")


def test_evaluation_by_run_and_by_file_is_the_same(
    tmp_path: Path, trained: Run, file: Path, samples: FaceSamples
) -> None:
    by_run = evaluate_and_store(open_predictor(trained.path), samples, Split.PUBLISHED_TEST, out=tmp_path / "run")
    by_file = evaluate_and_store(open_predictor(file), samples, Split.PUBLISHED_TEST, out=tmp_path / "file")
    assert by_run.report.classes == by_file.report.classes == FIVE
    one, other = (found.predictions["published_test"] for found in (by_run, by_file))
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)
    assert set(measure_robustness(open_predictor(file), samples)["corruptions"]) == set(
        measure_robustness(open_predictor(trained.path), samples)["corruptions"]
    )


@pytest.mark.parametrize("data", [{"protocol": "published", "group": "(x)"}, {"fold": 1, "folds": 4, "group": "(x)"}])
def test_a_file_splits_data_as_its_run_did(tmp_path: Path, samples: FaceSamples, data: dict[str, object]) -> None:
    subjects = dataclasses.replace(samples, groups=(np.arange(len(samples)) % 20).astype(np.int32))
    run = fit(small_recipe(model=NET, data=data, training={"epochs": 1}), subjects, tmp_path / "run")
    file = open_predictor(export_onnx(run, tmp_path / "file.onnx").path)
    assert (file.stored.group, file.report.group) == ("(x)", "(x)")
    assert (file.report.fold, file.report.folds) == (data.get("fold"), data.get("folds"))
    for split in (Split.TRAINING, Split.VALIDATION):
        by_run, by_file = (evaluate(each, subjects, split) for each in (open_predictor(run.path), file))
        np.testing.assert_array_equal(by_run.predictions[split].row, by_file.predictions[split].row)
    for key, wrong in (("fold", "7"), ("folds", "x"), ("protocol", "train")):
        network = EmotionNetwork(file.path)
        network.metadata |= {"fold": "1", "folds": "4", key: wrong}
        with pytest.raises(ModelError, match=f"{key} '{wrong}'"):
            OnnxPredictor(network)


def test_data_may_have_fewer_classes_than_the_network_but_no_others(file: Path, samples: FaceSamples) -> None:
    chosen = np.flatnonzero(np.isin(samples.labels, (1, 3)) & (samples.usages == Usage.PRIVATE_TEST))
    fewer = dataclasses.replace(
        samples,
        **{name: getattr(samples, name)[chosen] for name in ("images", "rows", "usages")},
        labels=(samples.labels[chosen] == 1).astype(np.int8),  # another order, too
        classes=(FIVE[3], FIVE[1]),
    )
    found = evaluate_and_store(open_predictor(file), fewer, Split.PUBLISHED_TEST)
    np.testing.assert_array_equal(found.predictions["published_test"].label, samples.labels[chosen])
    with pytest.raises(DataError, match=r"got some of .*sad"):
        evaluate_and_store(open_predictor(file), read_synthetic(70), Split.PRIVATE_TEST)
    unlabelled = dataclasses.replace(fewer, labels=np.full(len(chosen), -1, np.int8))
    assert set(unlabelled.with_classes(FIVE).labels.tolist()) == {-1}


def test_runs_of_other_classes_are_neither_compared_nor_averaged(
    tmp_path: Path, trained: Run, emotional: Run, samples: FaceSamples
) -> None:
    with pytest.raises(DataError, match="expected the classes of"):
        load_entries([trained.predictions_path("validation"), emotional.predictions_path("validation")])
    with pytest.raises(DataError, match="expected members with the same"):
        write_ensemble([trained.path, emotional.path], tmp_path / "out")
    again = fit(small_recipe(model=NET, seed=1), samples, tmp_path / "again")
    assert write_ensemble([trained.path, again.path], tmp_path / "both").classes == FIVE
    assert load_predictions(tmp_path / "both" / "predictions" / "validation.npz").classes == FIVE


def test_predictions_of_other_classes_need_their_names(tmp_path: Path) -> None:
    arrays = {"row": np.arange(3), "label": np.array([0, 1, 1]), "probabilities": np.full((3, 2), 0.5, np.float32)}
    np.savez(tmp_path / "bare.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"save the names .* as classes \(K,\)"):
        load_predictions(tmp_path / "bare.npz")
    np.savez(tmp_path / "named.npz", **arrays, classes=["no", "yes"])  # type: ignore[arg-type]
    assert load_predictions(tmp_path / "named.npz").classes == ("no", "yes")
    np.savez(tmp_path / "twice.npz", **arrays, classes=["no", "no"])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no twice"):
        load_predictions(tmp_path / "twice.npz")


def test_the_file_holds_names_and_leaves_the_licence_open(trained: Run, emotional: Run, tmp_path: Path) -> None:
    own = EmotionNetwork(export_onnx(trained, tmp_path / "own.onnx").path)
    assert own.classes == FIVE
    assert json.loads(own.metadata["labels"]) == list(FIVE)
    assert (own.metadata["license"], own.metadata["training_data"]) == ("NOASSERTION", "folder:mine")
    chosen = EmotionNetwork(export_onnx(trained, tmp_path / "mit.onnx", license="MIT").path)
    assert chosen.metadata["license"] == "MIT"
    seven = EmotionNetwork(export_onnx(emotional, tmp_path / "seven.onnx").path)
    assert (seven.metadata["license"], seven.classes) == ("Apache-2.0", EMOTIONS)


def test_int8_is_refused_with_data_of_other_classes_by_their_names(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["mien", "export", str(trained.path), "--out", str(tmp_path / "x.onnx"), "--int8", "--data", "synthetic:210"]
    monkeypatch.setattr(sys, "argv", call)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "got synthetic with angry, disgust, fear" in capsys.readouterr().err


def test_int8_keeps_the_classes(trained: Run, samples: FaceSamples, tmp_path: Path) -> None:
    network = EmotionNetwork(export_onnx(trained, tmp_path / "int8.onnx", int8=samples).path)
    assert network.classes == FIVE
    assert network.probabilities(samples.images[:65]).shape == (65, 5)


def test_the_recognizer_names_them(file: Path, samples: FaceSamples) -> None:
    recognizer = Recognizer(file, "none")
    (face,) = recognizer.recognize(samples.images[0]).faces
    assert face.emotion in FIVE
    assert not isinstance(face.emotion, Emotion)
    assert tuple(face.to_json()["probabilities"]) == FIVE
    assert isinstance(Recognizer("nano", "none").recognize(samples.images[0]).faces[0].emotion, Emotion)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(list("abcdef"), "a label for each of its 7"), (list("abcdeff"), "f twice"), (["a", "b", 3], "two class names")],
)
def test_labels_that_do_not_fit_the_graph(tmp_path: Path, labels: list[object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        EmotionNetwork(write_network(tmp_path / "tiny.onnx", labels=labels))


def test_a_network_that_sees_colour_gets_colour(tmp_path: Path) -> None:
    recipe = small_recipe(model={**NET, "in_chans": 3}, data={"size": 64, "color": True})
    run = create_run(tmp_path / "run", recipe)
    classifier = create_classifier(recipe.model, len(FIVE))
    save_checkpoint(run.best_checkpoint, Checkpoint(recipe, classifier.state_dict(), 0.05, FIVE))
    Report(model="x", recipe="x", data="folder:mine", labels=FIVE, initialization="scratch").save(run.report_path)
    network = EmotionNetwork(export_onnx(run, tmp_path / "color.onnx").path)
    assert (network.color, network.size, network.classes) == (True, 64, FIVE)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = network.probabilities(np.stack([picture, picture[..., ::-1]]))
    with torch.no_grad():
        planes = torch.from_numpy(picture.transpose(2, 0, 1)[None].copy())
        expected = (classifier.eval()(planes) / 0.05).softmax(1).numpy()
    np.testing.assert_allclose(found[:1], expected, atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 1e-3  # red is not blue
    with pytest.raises(ValueError, match=r"\(N, 64, 64, 3\)"):
        network.probabilities(picture[None, ..., 0])
    (face,) = Recognizer(network.path, "none").recognize(picture).faces
    np.testing.assert_array_equal(face.crop, picture)
    views = OnnxPredictor(network).predict(picture[None], views=2)[0]
    np.testing.assert_allclose(
        views[0], network.probabilities(np.stack([picture, picture[:, ::-1]])).mean(0), atol=1e-6
    )
    with pytest.raises(DataError, match="in colour, got 64 x 64"):
        OnnxPredictor(network).predict(picture[None, ..., 0])
    Image.fromarray(picture).save(tmp_path / "one.png")
    explanation = explain_pictures(run, [str(tmp_path / "one.png")], create_detector("none"), accelerator="cpu")
    (shown,) = explanation.pictures[0].faces
    np.testing.assert_array_equal(shown.face, picture)
    assert (shown.maps.shape, shown.emotion) == ((5, 64, 64), FIVE[int(found[0].argmax())])
    assert "one.png" in explain_page.write_explain_page(tmp_path / "page", explanation).read_text()


def of(classes: tuple[str, ...]) -> Face:
    """A face that shows the last class."""
    probabilities = dict.fromkeys(classes, 0.0) | {classes[-1]: 1.0}
    return Face(Box(5, 5, 30, 30), 0.9, probabilities, np.zeros((48, 48), np.uint8))


def test_tables_have_a_column_of_each_class() -> None:
    stream = io.BytesIO()
    with writing_pictures(stream, "csv", FIVE) as add:
        add(Picture("a.jpg", 60, 60, (of(FIVE),)))
        add(Picture("b.jpg", 60, 60))
    seen, empty = csv.DictReader(io.StringIO(stream.getvalue().decode()))
    assert list(seen) == list(picture_columns(FIVE))
    assert (seen["path"], seen["emotion"], seen["probability_path"]) == ("a.jpg", "path", "1.0")
    assert seen["Größe, klein"] == "0.0"
    assert empty["probability_path"] == ""


@pytest.mark.parametrize("classes", [("x", "probability_x"), ("smoothed_y", "y"), ("error", "track"), ("a", "A")])
def test_no_class_takes_the_column_of_something_else(classes: tuple[str, ...]) -> None:
    two = ("b", "c")
    assert len(picture_columns(classes, abstaining=True)) == len(picture_columns(two, abstaining=True)) == 28
    assert len(video_columns(classes)) == len(video_columns(two)) == 28


def test_video_rows_drawings_and_plots_follow_the_classes() -> None:
    fifty = tuple(f"class {number}" for number in range(50))
    for classes in (FIVE, fifty, ("no", "yes")):
        pixels = np.full((240, 640, 3), 90, np.uint8)
        tracked = TrackedFace(of(classes), 1, of(classes).probabilities)
        frame = VideoFrame(0, 0.0, (tracked,), pixels)
        (row,) = frame.to_rows(classes)
        assert list(row) == list(video_columns(classes))
        assert list(VideoFrame(0, 0.0, (), pixels).to_rows(classes)[0]) == list(video_columns(classes))
        drawn = FrameDrawing(classes).draw(frame)
        assert (drawn == draw.colors_of(classes)[-1]).all(-1).any()
        series = TrackSeries(0.0, classes)
        series.add(list(tracked.smoothed.values()), 2.0)
        svg = plot_svg(series, "one")
        assert svg.count("<path fill=") == len(classes)
        assert "<script>" not in svg
    assert len(set(draw.colors_of(fifty))) == 50
    assert draw.colors_of(EMOTIONS) == tuple(draw.COLORS.values())


def test_pages_name_and_escape_them(trained: Run, samples: FaceSamples, tmp_path: Path) -> None:
    page = run_page.write_run_page(trained, samples).read_text()
    card = (trained.path / "model_card.md").read_text()
    for text in (page, card):
        assert "&lt;script&gt;alert(1)" in text
        assert "<script>" not in text
        assert "Größe, klein" in text
    assert 'license: "unknown"' in card
    assert "apache" not in card.lower()
    for absent in ("FER-2013", "emotion-recognition", "disgust"):
        assert absent not in card


def test_explanations_and_audits_name_them(trained: Run, samples: FaceSamples, tmp_path: Path) -> None:
    explanation = explain_split(trained, samples, Split.VALIDATION, accelerator="cpu")
    found = explain_page.explanation_rows(explanation)
    named = {name for method in found["methods"] for name in method["emotions"]}  # type: ignore[attr-defined]
    assert named <= set(FIVE)
    assert "<script>" not in explain_page.write_explain_page(tmp_path, explanation).read_text()
    issues = LabelIssues(2, 0.5, *(np.array([each]) for each in (1, 0, 4, 0.1)), classes=FIVE)  # type: ignore[arg-type]
    assert issues.rows()["found"][0]["suggested"] == "path"
    from mien.data.audit import audit

    content = audit_page.audit_content(samples, audit(samples))
    assert list(content["counts"]["training"]) == list(FIVE)  # type: ignore[index]


def test_fifty_classes_fit_on_the_plots() -> None:
    classes = [f"class {number} $" for number in range(50)]
    shown = plots.Plot.of(plots.confusion(np.eye(50, dtype=int), classes), "confusion")
    assert shown.wide
    assert not plots.Plot.of(plots.confusion(np.eye(7, dtype=int)), "confusion").wide
    assert all(shown.svg.count(f">class {number} $<") >= 1 for number in range(50))
    bars = plots.per_class([0.1] * 50, [0.2] * 50, [0.3] * 50, classes)
    assert bars.get_figheight() / 50 > 0.3
