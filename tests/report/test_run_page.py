"""The page of a run: nothing but itself, nothing that the run does not say, and no face that must not be there."""

import base64
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.fake_runs import Page, fake_metrics, fake_robustness, fake_run, note_look, read_page

from mien.data import FaceSamples
from mien.emotions import EMOTIONS
from mien.errors import DataError, MissingExtraError, RunError
from mien.evaluation import Predictions, load_predictions
from mien.evaluation.evaluate import measure
from mien.evaluation.robustness import save_robustness
from mien.report import run_page
from mien.report.evidence import Evidence, read_evidence, sample_groups
from mien.report.run_page import write_run_page
from mien.runs import Estimate, MetricRow, Report, Run, SplitResult, Subset

SPLITS = ("validation", "private_test")
CLASS_RATES = ("precision", "recall", "f1")
DASH = "\N{EN DASH}"

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "pydantic", "timm", "lightning_fabric"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from pathlib import Path
from mien.data.synthetic import read_synthetic
from mien.report.run_page import write_run_page
from mien.runs import Run
write_run_page(Run(Path(sys.argv[1])), read_synthetic(210))
"""


def percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def rate(found: Estimate) -> str:
    assert found.ci95 is not None
    return f"{percent(found.value)} ({100 * found.ci95[0]:.1f} to {100 * found.ci95[1]:.1f})"


def score(found: Estimate) -> str:
    assert found.ci95 is not None
    return f"{found.value:.3f} ({found.ci95[0]:.3f} to {found.ci95[1]:.3f})"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, drawn: FaceSamples) -> Run:
    """A run with results on validation and test, and a page with faces."""
    run = fake_run(tmp_path_factory.mktemp("runs") / "run", drawn, splits=SPLITS)
    note_look(run, "private_test", "mien evaluate run --split private_test")
    write_run_page(run, drawn)
    return run


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return read_page(run.path / "report.html")


def test_the_page_shows_the_numbers_of_the_report(run: Run, page: Page) -> None:
    report = run.load_report()
    shown = {row[0]: row for row in page.rows}
    titles = ("Validation", "PrivateTest", "PrivateTest, unseen")
    for name, found in zip(titles, report.results, strict=True):
        metrics = found.metrics
        before = percent(metrics["ece_uncalibrated"].value) if "ece_uncalibrated" in metrics else DASH
        assert shown[name] == [
            name, str(found.n), rate(metrics["accuracy"]), score(metrics["macro_f1"]), rate(metrics["ece"]), before,
            score(metrics["nll"]), score(metrics["brier"]), "1",
        ]  # fmt: skip
    found = report.headline()
    assert found.split == "private_test"
    for label, emotion in enumerate(EMOTIONS):
        cells = [score(found.classes[name][label]) for name in CLASS_RATES]
        assert shown[emotion] == [emotion, str(sum(found.confusion[label])), *cells]
    assert page.text.startswith(f"small: {percent(found.accuracy.value)}")
    assert shown["2026-01-02 03:04:05"] == [
        "2026-01-02 03:04:05", "PrivateTest", "mien evaluate run --split private_test",
    ]  # fmt: skip


def test_every_plot_is_also_a_file(run: Run, page: Page) -> None:
    files = {path.name: path.read_text() for path in (run.path / "figures").iterdir()}
    assert files.keys() == {"learning_curves.svg", "confusion_private_test.svg", "per_class_private_test.svg",
                            "reliability_private_test.svg", "abstention_private_test.svg",
                            "confusion_validation.svg"}  # fmt: skip
    assert sorted(page.plots) == sorted(files.values())


def test_without_torch_and_pydantic_the_same_bytes_come_out(run: Run, tmp_path: Path) -> None:
    for name in ("report.json", "metrics.jsonl", "looks.jsonl"):
        shutil.copyfile(run.path / name, tmp_path / name)
    shutil.copytree(run.path / "predictions", tmp_path / "predictions")
    subprocess.run([sys.executable, "-W", "error", "-c", BLOCKED, str(tmp_path)], check=True)
    for path in (run.path / "report.html", *(run.path / "figures").iterdir()):
        assert (tmp_path / path.relative_to(run.path)).read_bytes() == path.read_bytes(), path.name


def test_faces_stand_on_the_page_only_where_they_are_wanted_and_known(
    run: Run, page: Page, drawn: FaceSamples, tmp_path: Path
) -> None:
    predictions = load_predictions(run.predictions_path("private_test"))
    chosen = [sample for group in sample_groups(predictions, drawn) for sample in group.samples]
    assert page.faces == [sample.picture for sample in chosen]
    face = Image.open(io.BytesIO(base64.b64decode(page.faces[0].partition(",")[2])))
    assert (np.asarray(face) == drawn.images[drawn.rows == chosen[0].row]).all()

    path = write_run_page(fake_run(tmp_path, drawn, splits=("private_test",)), drawn, pictures=False)
    assert not read_page(path).faces
    rows = read_page(path).rows
    for sample in chosen:
        assert [str(sample.row), sample.label, sample.prediction, percent(sample.confidence)] in rows

    for other in (
        dataclasses.replace(drawn, labels=(drawn.labels + 1) % 7),
        dataclasses.replace(drawn, rows=drawn.rows + 1),
        dataclasses.replace(drawn, rows=drawn.rows + 1000),
    ):
        assert all(sample.picture is None for group in sample_groups(predictions, other) for sample in group.samples)


def test_groups_are_what_their_names_say(drawn: FaceSamples) -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 3], np.int8)
    predicted = np.array([0, 0, 0, 2, 2, 2, 2, 4])
    confidence = np.array([0.5, 0.9, 0.6, 0.7, 0.99, 0.8, 0.6, 0.4])
    probabilities = np.repeat((1 - confidence[:, None]) / 6, 7, axis=1)
    probabilities[np.arange(8), predicted] = confidence
    predictions = Predictions(np.arange(10, 18, dtype=np.int32), labels, probabilities.astype(np.float32))
    groups = sample_groups(predictions, each=2)
    assert {group.kind: [sample.row for sample in group.samples] for group in groups} == {
        "confident_correct": [11, 16],
        "even_mistakes": [15, 17],  # of 14, 15, 13, 17: the middles of the halves
        "confident_mistakes": [14, 15],
    }
    sample = groups[2].samples[0]
    assert (sample.label, sample.prediction, sample.correct, sample.picture) == ("disgust", "fear", False, None)
    assert [group.kind for group in sample_groups(predictions.subset(predicted == labels))] == ["confident_correct"]


def test_classes_without_faces_are_shown_as_absent(tmp_path: Path, drawn: FaceSamples) -> None:
    """As in CK+, which has no neutral faces: no rate of them, and no part in the macro-F1."""
    counts = np.diag([4, 0, 4, 4, 4, 4, 0])
    counts[0, 6] = 2  # neutral is predicted, though
    run = fake_run(tmp_path, drawn, stored=False)
    result = result_of(counts)
    assert result.metrics["macro_f1"].value == pytest.approx((2 * 4 / (6 + 4) + 4) / 5)
    run.load_report().with_results([result]).save(run.report_path)
    shown = {row[0]: row for row in read_page(write_run_page(run)).rows}
    assert shown["neutral"] == ["neutral", "no faces", DASH, DASH, DASH]
    assert shown["disgust"] == ["disgust", "no faces", DASH, DASH, DASH]
    assert shown["angry"][1:3] == ["6", score(result.classes["precision"][0])]
    for name in ("confusion_validation", "per_class_validation"):
        assert (tmp_path / "figures" / f"{name}.svg").read_text().count("no faces") == 2
    assert (tmp_path / "model_card.md").read_text().count("no faces") == 2


def test_a_report_alone_suffices(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn, stored=False)
    page = read_page(write_run_page(run, drawn))
    assert [path.name for path in sorted((tmp_path / "figures").iterdir())] == [
        "confusion_validation.svg", "per_class_validation.svg",
    ]  # fmt: skip
    assert (len(page.plots), page.faces) == (2, [])
    assert "Confusion on 21 validation images" in page.text


def test_reports_from_before_there_were_intervals_are_shown_without(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn)
    report = run.load_report()
    found = report.headline()
    old = dataclasses.replace(
        found,
        metrics={name: each if name == "accuracy" else Estimate(each.value) for name, each in found.metrics.items()},
        classes={name: tuple(Estimate(each.value) for each in rates) for name, rates in found.classes.items()},
    )
    report.with_results([old]).save(run.report_path)
    shown = {row[0]: row for row in read_page(write_run_page(run)).rows}
    assert shown["Validation"][3:5] == [f"{found.metrics['macro_f1'].value:.3f}", percent(found.metrics["ece"].value)]
    assert shown["happy"][2] == f"{found.classes['precision'][3].value:.3f}"


def test_results_by_ferplus_are_shown_beside_the_official_ones(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn, splits=SPLITS)
    stored = load_predictions(run.predictions_path("private_test"))
    votes = np.zeros((len(stored), 10), np.uint8)
    votes[:, 0], votes[:3, 7], votes[3, 4] = 5, 9, 5  # neutral; three for contempt; one level with anger
    voted = measure("private_test", stored, votes=votes)[-1]
    assert (voted.subset, voted.n, voted.tied, voted.left_out) == (Subset.FERPLUS, 18, 1, 3)
    run.load_report().with_results([voted]).save(run.report_path)
    page = read_page(write_run_page(run))
    shown = {row[0]: row for row in page.rows}
    assert shown["PrivateTest, FER+ labels"][1:3] == ["18", rate(voted.accuracy)]
    assert "(1 of these PrivateTest images)" in page.text
    for name in ("kl_divergence", "cross_entropy"):
        found = voted.metrics[name]
        assert found.ci95 is not None
        assert f"{found.value:.3f}" in page.text
        assert f"({found.ci95[0]:.3f} to {found.ci95[1]:.3f})" in page.text
    official = run.load_report().result("private_test")
    assert official is not None
    assert page.text.startswith(f"small: {percent(official.accuracy.value)}")


def test_what_a_run_holds_is_text_and_nothing_else(tmp_path: Path, drawn: FaceSamples) -> None:
    evil = '<script>alert("1")<!-- & $x$'
    run = fake_run(
        tmp_path, drawn, stored=False, **dict.fromkeys(("recipe", "model", "data", "command", "machine"), evil)
    )
    note_look(run, evil, evil)
    page = read_page(write_run_page(run))
    assert page.text.count(evil) >= 8
    assert [attributes for tag, attributes in page.tags if tag == "meta"][-1]["content"] == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    )


def test_runs_that_cannot_be_shown(tmp_path: Path, drawn: FaceSamples) -> None:
    with pytest.raises(RunError, match=r"no report\.json"):
        write_run_page(Run(tmp_path / "nothing"))
    empty = fake_run(tmp_path / "empty", drawn, splits=())
    with pytest.raises(RunError, match="no results"):
        write_run_page(empty)
    damaged = fake_run(tmp_path / "damaged", drawn)
    damaged.predictions_path("validation").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"validation\.npz"):
        write_run_page(damaged)


@pytest.mark.parametrize("module", ["matplotlib", "jinja2"])
def test_what_is_not_installed_is_named(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    run = fake_run(tmp_path, drawn, stored=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingExtraError, match=re.escape(f'{module} is not installed; run: pip install "mien[report]"')
    ):
        write_run_page(run)


def result_of(counts: Any) -> SplitResult:
    """Results on as many validation faces as ``counts`` ``(7, 7)`` says."""
    pairs = [(line, column) for line, column in np.ndindex(7, 7) for _ in range(int(counts[line, column]))]
    labels, predicted = np.array(pairs, np.int8).T
    probabilities = np.full((len(pairs), 7), 0.05, np.float32)
    probabilities[np.arange(len(pairs)), predicted] = 0.7
    predictions = Predictions(np.arange(len(pairs), dtype=np.int32), labels, probabilities)
    return measure("validation", predictions, uncalibrated=probabilities)[0]


def test_plots_know_the_best_the_worst_and_the_confusions() -> None:
    counts = np.diag([10, 4, 8, 40, 9, 7, 10])
    counts[0, 6] = 90  # 90 % of angry
    counts[1, 0], counts[4, 2], counts[3, 5] = 6, 6, 10  # 60 % of disgust, 40 % of sad, 20 % of happy
    result = result_of(counts)
    assert run_page.confusion_plot(result).numbers["confusions"] == [
        ("angry", "neutral", 0.9), ("disgust", "angry", 0.6), ("sad", "fear", 0.4),
    ]  # fmt: skip
    told, f1 = run_page.per_class_plot(result).numbers, [each.value for each in result.classes["f1"]]
    assert told["best"] == (["happy"], f1[3])
    assert told["worst"] == (["angry"], f1[0])
    assert told["never"] == []


def test_plots_of_emotions_that_are_not_there() -> None:
    counts = np.zeros((7, 7), int)
    counts[3, 3], counts[4, 4], counts[5, 3] = 9, 5, 1  # happy, sad, and a surprise that is never named
    told = run_page.per_class_plot(result_of(counts)).numbers
    assert (told["best"], told["worst"], told["never"]) == ((["sad"], 1.0), (["surprise"], 0.0), ["surprise"])
    counts[4, 4], counts[4, 5] = 0, 5  # sad is never found either
    told = run_page.per_class_plot(result_of(counts)).numbers
    assert told["worst"] == (["sad", "surprise"], 0.0)
    assert run_page.confusion_plot(result_of(np.diag([2] * 7))).numbers["confusions"] == []


def evidence_of(metrics: list[dict[str, Any]], **report: Any) -> Evidence:
    rows = [MetricRow(**row) for row in metrics]
    result = result_of(np.eye(7))
    return Evidence(Run(Path()), Report(model="m", recipe="r", **report), result, rows, None, None, [])


@pytest.mark.parametrize(
    ("training", "validation", "overfits"),
    [([0.5, 0.9], [0.6, 0.5], True), ([0.5, 0.54], [0.6, 0.5], False), ([0.5, 0.4], [0.6, 0.5], False)],
)
def test_the_gap_between_training_and_validation(
    training: list[float], validation: list[float], overfits: bool
) -> None:
    metrics = fake_metrics(training=training, validation=validation)
    best = run_page.curves_plot(evidence_of(metrics, weights="best", best_epoch=1))
    assert best is not None
    assert best.numbers["kept"] == (1, 0.6)
    assert best.numbers["ends"] == (0.5, training[-1])
    assert best.numbers["overfits"] == overfits
    last = run_page.curves_plot(evidence_of(metrics, weights="last", best_epoch=1))
    assert last is not None
    assert last.numbers["kept"] is None
    assert run_page.curves_plot(evidence_of([])) is None


def test_calibration_is_shown_with_its_temperature(run: Run, page: Page) -> None:
    plot = run_page.reliability_plot(read_evidence(run, "validation"))
    assert plot is not None
    assert (plot.name, plot.numbers["temperature"]) == ("reliability_validation", 1.25)
    assert "before the temperature of 1.25" in page.text


def test_the_page_of_other_classes_speaks_of_images(tmp_path: Path, drawn: FaceSamples) -> None:
    shapes = ["circle", "cross", "disc", "line", "ring", "square", "star"]
    run = fake_run(tmp_path, drawn, labels=shapes, data="folder:shapes")
    page = read_page(write_run_page(run, drawn))
    assert not re.search(r"\b(faces?|emotions?)\b", page.text, re.IGNORECASE)
    assert "number of images" in (tmp_path / "figures" / "confusion_validation.svg").read_text()


def test_robustness_is_shown_with_the_weakest_corruption(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn, stored=False)
    assert run_page.robustness_plot(read_evidence(run)) is None
    save_robustness(run.path, fake_robustness(0.7, mouth=0.5))
    plot = run_page.robustness_plot(read_evidence(run))
    assert plot is not None
    assert (plot.numbers["weakest"], plot.numbers["weakest_kept"]) == ("Mouth hidden", 0.5)
    assert "Eyes hidden" in plot.svg
    assert plot.svg in read_page(write_run_page(run)).plots
    both = run_page.robustness_compared_plot({"one": fake_robustness(0.7), "other": fake_robustness(0.8)})
    assert (both.numbers["best"], both.numbers["worst"]) == (("other", 0.8), ("one", 0.7))


@pytest.mark.parametrize("weights", ["best", "last", "ema"])
def test_how_the_weights_were_chosen(tmp_path: Path, drawn: FaceSamples, weights: str) -> None:
    page = read_page(write_run_page(fake_run(tmp_path, drawn, stored=False, weights=weights)))
    assert ("epoch 2 of 3" in page.text) == (weights == "best")
    assert ("EMA) over 3 epochs" in page.text) == (weights == "ema")
    assert ("chosen on these images" in page.text) == (weights == "best")


def test_a_held_out_fold_is_told(tmp_path: Path, drawn: FaceSamples) -> None:
    words = "fold 2 of Training, counted from 0"
    assert words in read_page(write_run_page(fake_run(tmp_path / "fold", drawn, stored=False, fold=2, folds=5))).text
    assert words not in read_page(write_run_page(fake_run(tmp_path / "none", drawn, stored=False))).text


def test_looks_are_counted(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path / "validated", drawn, stored=False)
    assert read_evidence(run).is_test_untouched
    note_look(run, "private_test")  # of a file that was made of this run
    assert not read_evidence(run).is_test_untouched
    assert "The test images were not evaluated." not in read_page(write_run_page(run)).text
    run = fake_run(tmp_path / "tested", drawn, splits=SPLITS, stored=False)
    assert read_evidence(run).test_looks == 0
    for split in ("private_test", "public_test", "private_test"):
        note_look(run, split)
    assert read_evidence(run).test_looks == 2
    assert not read_evidence(run, "validation").is_test_untouched
    assert "They were evaluated 2 times." in read_page(write_run_page(run)).text


def test_a_run_at_chance_level_is_told_so_before_its_gap_is_judged(tmp_path: Path, drawn: FaceSamples) -> None:
    """A large gap between training and validation is overfitting only of a network that has learnt something."""
    pages = {}
    for name, skill in (("chance", 0.0), ("learnt", 5.0)):
        run = fake_run(tmp_path / name, drawn, skill=skill, most_frequent="happy", batch_size=24)
        rows = [MetricRow(0, "training", "accuracy", 0.9), MetricRow(0, "validation", "accuracy", 0.2)]
        run.metrics_path.write_text("".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows))
        pages[name] = " ".join(read_page(write_run_page(run)).text.split())
    assert "is overfitting" not in pages["chance"]
    assert pages["chance"].count("not shown to be better than always answering happy, which reaches 14.3 %") == 2
    assert "is overfitting" in pages["learnt"]
    assert "always answering" not in pages["learnt"]
    assert all("An epoch has only 7 steps (168 images in batches of 24)" in text for text in pages.values())
    report = Run(tmp_path / "chance").load_report()
    assert len(run_page.chance_words(report)) == 2
    enough = dataclasses.replace(report, batch_size=18)  # ten steps
    assert run_page.few_steps(enough) is None
    assert run_page.few_steps(dataclasses.replace(report, batch_size=19)) == (9, 168, 19)
