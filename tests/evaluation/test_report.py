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
from tests.fake_runs import Page, fake_metrics, fake_run, note_look, plain, read_page

from mien.data import FaceSamples
from mien.emotions import EMOTIONS
from mien.errors import DataError, MissingExtraError, RunError
from mien.evaluation import Predictions, load_predictions
from mien.evaluation.facts import choice_words
from mien.evaluation.panels import confusion_panel, curves_panel, per_class_panel, reliability_panel
from mien.evaluation.pictures import sample_groups
from mien.evaluation.report import write_report
from mien.evaluation.results import ferplus_figures, figures
from mien.runs import Run

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
from mien.evaluation.report import write_report
from mien.runs import Run
write_report(Run(Path(sys.argv[1])), read_synthetic(210))
"""


def percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def within(interval: list[float], digits: int = 3, scale: int = 1) -> str:
    return f"({scale * interval[0]:.{digits}f} to {scale * interval[1]:.{digits}f})"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, drawn: FaceSamples) -> Run:
    """A run with validation and test figures and a page with faces."""
    run = fake_run(tmp_path_factory.mktemp("runs") / "run", drawn, splits=SPLITS)
    note_look(run, "private_test", "mien evaluate run --split private_test")
    write_report(run, drawn)
    return run


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return read_page(run.path / "report.html")


def test_the_page_shows_the_figures_of_the_report(run: Run, page: Page) -> None:
    results = run.report()["results"]
    shown = {row[0]: row for row in page.rows}
    for name, split in (
        ("Validation", "validation"), ("PrivateTest", "private_test"), ("PrivateTest, unseen", "private_test_unseen")
    ):  # fmt: skip
        found = results[split]
        before = percent(found["ece_uncalibrated"]) if "ece_uncalibrated" in found else DASH
        rates = {key: f"{percent(found[key])} {within(found[f'{key}_ci95'], 1, 100)}" for key in ("accuracy", "ece")}
        scores = {key: f"{found[key]:.3f} {within(found[f'{key}_ci95'])}" for key in ("macro_f1", "nll", "brier")}
        assert shown[name] == [
            name, str(found["n"]), rates["accuracy"], scores["macro_f1"], rates["ece"], before, scores["nll"],
            scores["brier"], "1",
        ]  # fmt: skip
    found = results["private_test"]
    for label, emotion in enumerate(EMOTIONS):
        cells = [f"{found[name][label]:.3f} {within(found[f'{name}_ci95'][label])}" for name in CLASS_RATES]
        assert shown[emotion] == [emotion, str(sum(found["confusion"][label])), *cells]
    accuracy = percent(found["accuracy"])
    assert f"Of 21 PrivateTest pictures the network names the emotion of {accuracy} as labelled." in page.text
    assert (
        "epoch 2 of 3, the best on validation. Nothing was chosen on the test pictures. They were looked at once."
        in (page.text)
    )
    assert shown["2026-01-02 03:04:05"] == [
        "2026-01-02 03:04:05", "private_test", "mien evaluate run --split private_test",
    ]  # fmt: skip


def test_every_figure_is_also_a_file(run: Run) -> None:
    names = {path.name for path in (run.path / "figures").iterdir()}
    assert names == {"learning_curves.svg", "confusion_private_test.svg", "per_class_private_test.svg",
                     "reliability_private_test.svg", "abstention_private_test.svg",
                     "confusion_validation.svg"}  # fmt: skip
    assert len([tag for tag, _ in read_page(run.path / "report.html").tags if tag == "svg"]) == len(names)


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

    path = write_report(fake_run(tmp_path, drawn, splits=("private_test",)), drawn, pictures=False)
    assert "data:image" not in path.read_text()
    rows = read_page(path).rows
    for sample in chosen:
        assert [str(sample.row), sample.label, sample.prediction, percent(sample.confidence)] in rows

    for other in (
        dataclasses.replace(drawn, labels=(drawn.labels + 1) % 7),
        dataclasses.replace(drawn, rows=drawn.rows + 1),
        dataclasses.replace(drawn, rows=drawn.rows + 1000),
    ):
        assert all(sample.picture is None for group in sample_groups(predictions, other) for sample in group.samples)


def test_groups_are_what_their_captions_say(drawn: FaceSamples) -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 3], np.int8)
    predicted = np.array([0, 0, 0, 2, 2, 2, 2, 4])
    confidence = np.array([0.5, 0.9, 0.6, 0.7, 0.99, 0.8, 0.6, 0.4])
    probabilities = np.repeat((1 - confidence[:, None]) / 6, 7, axis=1)
    probabilities[np.arange(8), predicted] = confidence
    predictions = Predictions(np.arange(10, 18, dtype=np.int32), labels, probabilities.astype(np.float32))
    right, ordinary, sure = sample_groups(predictions, each=2)
    assert [sample.row for sample in right.samples] == [11, 16]
    assert [sample.row for sample in ordinary.samples] == [15, 17]  # of 14, 15, 13, 17: the middles of the halves
    assert [sample.row for sample in sure.samples] == [14, 15]
    sample = sure.samples[0]
    assert (sample.label, sample.prediction, sample.right, sample.picture) == ("disgust", "fear", False, None)
    assert [group.title for group in sample_groups(predictions.subset(predicted == labels))] == [right.title]


def test_a_report_alone_suffices(tmp_path: Path, drawn: FaceSamples) -> None:
    page = read_page(write_report(fake_run(tmp_path, drawn, stored=False), drawn))
    assert "The predictions of this split are not stored here." in page.text
    assert "Learning curves" not in page.text
    assert "Confusion on 21 validation pictures" in page.text
    assert "The test pictures were not looked at." in page.text
    assert "chosen on these very pictures" in page.text


def test_reports_from_before_there_were_intervals_are_shown_without(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn)
    report = run.report()
    found = report["results"]["validation"]
    old = {key: value for key, value in found.items() if key == "accuracy_ci95" or not key.endswith("_ci95")}
    run.write_report({**report, "results": {"validation": old}})
    shown = {row[0]: row for row in read_page(write_report(run)).rows}
    assert shown["Validation"][3:5] == [f"{found['macro_f1']:.3f}", percent(found["ece"])]
    assert shown["happy"][2] == f"{found['precision'][3]:.3f}"


def test_the_view_by_ferplus_is_shown_beside_the_official_figure(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn, splits=SPLITS)
    stored = load_predictions(run.predictions_path("private_test"))
    votes = np.zeros((len(stored), 10), np.uint8)
    votes[:, 0], votes[:3, 7], votes[3, 4] = 5, 9, 5  # neutral; three for contempt; one level with anger
    voted = ferplus_figures(stored, votes)
    report = run.report()
    run.write_report({**report, "results": {**report["results"], "private_test_ferplus": voted}})
    page = read_page(write_report(run))
    shown = {row[0]: row for row in page.rows}
    accuracy = f"{percent(voted['accuracy'])} {within(voted['accuracy_ci95'], 1, 100)}"
    assert shown["PrivateTest, FER+ labels"][1:3] == ["18", accuracy]
    assert "several have as many (1 of these PrivateTest pictures)" in page.text
    assert "the picture is left out (3)" in page.text
    divergence = f"{voted['kl_divergence']:.3f} nats away {within(voted['kl_divergence_ci95'])}"
    assert divergence in page.text
    assert page.text.startswith("small: ")  # the headline is the official figure
    assert "on 18 that have one" in page.text


def test_what_a_run_holds_is_text_and_nothing_else(tmp_path: Path, drawn: FaceSamples) -> None:
    evil = '<script>alert("1")<!-- & $x$'
    run = fake_run(
        tmp_path, drawn, stored=False, **dict.fromkeys(("recipe", "model", "data", "command", "machine"), evil)
    )
    note_look(run, evil, evil)
    page = read_page(write_report(run))
    assert page.text.count(evil) >= 8
    assert [attributes for tag, attributes in page.tags if tag == "meta"][-1]["content"] == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    )


def test_runs_that_cannot_be_shown(tmp_path: Path, drawn: FaceSamples) -> None:
    with pytest.raises(RunError, match=r"no report\.json"):
        write_report(Run(tmp_path / "nothing"))
    empty = fake_run(tmp_path / "empty", drawn, splits=())
    with pytest.raises(RunError, match="no results"):
        write_report(empty)
    damaged = fake_run(tmp_path / "damaged", drawn)
    damaged.predictions_path("validation").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"validation\.npz"):
        write_report(damaged)


@pytest.mark.parametrize("module", ["matplotlib", "jinja2"])
def test_what_is_not_installed_is_named(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    run = fake_run(tmp_path, drawn, stored=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingExtraError, match=re.escape(f'{module} is not installed; run: pip install "mien[report]"')
    ):
        write_report(run)


def found_of(counts: Any) -> dict[str, Any]:
    """Figures of as many faces as ``counts`` ``(7, 7)`` says."""
    pairs = [(line, column) for line, column in np.ndindex(7, 7) for _ in range(int(counts[line, column]))]
    labels, predicted = np.array(pairs, np.int8).T
    probabilities = np.full((len(pairs), 7), 0.05, np.float32)
    probabilities[np.arange(len(pairs)), predicted] = 0.7
    return figures(Predictions(np.arange(len(pairs), dtype=np.int32), labels, probabilities), probabilities)


def test_captions_name_the_best_the_least_and_the_mistakes() -> None:
    counts = np.diag([10, 4, 8, 40, 9, 7, 10])
    counts[0, 6] = 90  # 90 % of angry
    counts[1, 0], counts[4, 2], counts[3, 5] = 6, 6, 10  # 60 % of disgust, 40 % of sad, 20 % of happy
    report = {"results": {"validation": found_of(counts)}, "temperature": 1.5}
    found = report["results"]["validation"]
    confused = confusion_panel(report, "validation")
    assert confused.title == f"Confusion on {counts.sum()} validation pictures"
    assert plain(confused.caption).endswith(
        "mistakes: angry taken for neutral (90 %), disgust taken for angry (60 %), sad taken for fear (40 %)."
    )
    each = per_class_panel(report, "validation").caption
    assert each.startswith(
        f"Happy is recognized best (F1 {found['f1'][3]:.2f}), angry least ({found['f1'][0]:.2f}); the mean over the"
        f" emotions is the macro-F1, {found['macro_f1']:.3f} {within(found['macro_f1_ci95'])}. Precision"
    )


def test_captions_of_emotions_that_are_not_there() -> None:
    counts = np.zeros((7, 7), int)
    counts[3, 3], counts[4, 4], counts[5, 3] = 9, 5, 1  # happy, sad, and a surprise that is never named
    report = {"results": {"validation": found_of(counts)}}
    each = per_class_panel(report, "validation").caption
    assert each.startswith("Sad is recognized best (F1 1.00), surprise least (0.00);")
    assert "Never predicted: surprise." in each
    perfect = {"results": {"validation": found_of(np.diag([2] * 7))}}
    assert confusion_panel(perfect, "validation").caption.endswith("There is no mistake.")


@pytest.mark.parametrize(
    ("training", "validation", "words"),
    [
        ([0.5, 0.9], [0.6, 0.5], "best in epoch 1 (dotted), 60.0 %; its weights are kept. The last epoch ends at 50.0 %"
         " on validation and 90.0 % on training: 40.0 points apart, so the network knows"),
        ([0.5, 0.54], [0.6, 0.5], "and 54.0 % on training; no gap that would speak of overfitting."),
        ([0.5, 0.4], [0.6, 0.5], "and 40.0 % on training; no gap that would speak of overfitting."),
    ],
)  # fmt: skip
def test_the_gap_between_training_and_validation(training: list[float], validation: list[float], words: str) -> None:
    rows = fake_metrics(training=training, validation=validation)
    caption = curves_panel(rows, {"weights": "best", "best_epoch": 1, "precision": "float32"}).caption
    assert words in plain(caption)
    assert "bfloat16" not in caption
    last = curves_panel(rows, {"weights": "last", "best_epoch": 1, "precision": "bfloat16"}).caption
    assert "dotted" not in last
    assert "in bfloat16" in last


def test_calibration_is_told_with_its_temperature(run: Run) -> None:
    report, predictions = run.report(), load_predictions(run.predictions_path("validation"))
    caption = plain(reliability_panel(predictions, report, "validation").caption)
    found = report["results"]["validation"]
    ece = percent(found["ece"])
    told = f"(ECE): {ece} {within(found['ece_ci95'], 1, 100)}; {ece} before the temperature 1.25. The temperature was"
    assert f"{told} fitted on these very" in caption
    assert "these very pictures" not in reliability_panel(predictions, report, "private_test").caption


@pytest.mark.parametrize(
    ("weights", "splits", "split", "words"),
    [
        ("best", SPLITS, "private_test", "epoch 2 of 3, the best on validation. Nothing was chosen on the test"),
        ("last", SPLITS, "private_test", "the last of 3 epochs. Nothing"),
        ("ema", ("validation",), "validation", "not looked at. The weights are the average (EMA) over 3 epochs."),
        ("best", ("validation",), "validation", "not looked at. The weights are those of epoch 2 of 3, the best on"
         " validation. The epoch was chosen on these very pictures"),
    ],
)  # fmt: skip
def test_how_the_weights_were_chosen(
    tmp_path: Path, drawn: FaceSamples, weights: str, splits: tuple[str, ...], split: str, words: str
) -> None:
    run = fake_run(tmp_path, drawn, splits=splits, stored=False, weights=weights)
    assert words in plain(choice_words(run, run.report(), split))


def test_a_held_out_fold_is_told(tmp_path: Path, drawn: FaceSamples) -> None:
    words = "fold 2 of Training, counted from 0"
    assert words in read_page(write_report(fake_run(tmp_path / "fold", drawn, stored=False, fold=2, folds=5))).text
    assert words not in read_page(write_report(fake_run(tmp_path / "none", drawn, stored=False))).text


def test_looks_are_counted(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn, splits=SPLITS, stored=False)
    assert "looked at" not in choice_words(run, run.report(), "private_test")
    for split in ("private_test", "public_test", "private_test"):
        note_look(run, split)
    assert "They were looked at 2 times." in choice_words(run, run.report(), "private_test")
    # Validation figures of a run whose test pictures were looked at do not claim the contrary.
    assert "not looked at" not in choice_words(run, run.report(), "validation")
    assert len(json.loads((run.path / "looks.jsonl").read_text().splitlines()[0])) == 4
