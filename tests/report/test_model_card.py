"""A model card says what the run says, in a header that the hub reads, and invents nothing."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from tests.fake_runs import fake_robustness, fake_run, note_look, plain

from mien.data import FaceSamples
from mien.emotions import EMOTIONS
from mien.errors import DataError, RunError
from mien.evaluation.robustness import CORRUPTIONS, save_robustness
from mien.report.evidence import read_evidence
from mien.report.format import DASH, energy
from mien.report.run_page import model_card, write_run_page
from mien.runs import Run

SPLITS = ("validation", "private_test")


def tables(card: str) -> dict[str, list[str]]:
    """First cell of each line of every table -> the other cells."""
    rows = [
        [plain(cell) for cell in line.strip("|").split(" | ")] for line in card.splitlines() if line.startswith("| ")
    ]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def card_of(run: Run) -> str:
    return model_card(read_evidence(run), (), None)


def test_the_header_is_what_the_hub_reads(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path / "some-run", drawn, splits=SPLITS, data="fer2013")
    write_run_page(run)
    card = ModelCard.load(run.path / "model_card.md", ignore_metadata_errors=False)
    assert card.data.license == "apache-2.0"
    assert card.data.datasets == ["fer2013"]
    assert card.data.metrics == ["accuracy", "f1"]
    assert card.data.model_name == "some-run"
    assert card.data.eval_results is not None
    report = run.load_report()
    found = {(result.dataset_split, result.metric_type): result for result in card.data.eval_results}
    assert {split for split, _ in found} == {"private_test", "private_test_unseen"}  # nothing was chosen on these
    for subset in ("all", "unseen"):
        result = report.result("private_test", subset)
        assert result is not None
        assert result.accuracy.ci95 is not None
        accuracy, f1 = found[result.key, "accuracy"], found[result.key, "f1"]
        assert accuracy.metric_value == pytest.approx(result.accuracy.value, abs=5e-5)
        assert f1.metric_value == pytest.approx(result.metrics["macro_f1"].value, abs=5e-5)
        assert accuracy.dataset_type == "fer2013"
        low, high = result.accuracy.ci95
        assert accuracy.metric_name == f"accuracy, 95 % interval {100 * low:.1f}{DASH}{100 * high:.1f} %"
        assert accuracy.metric_name in (run.path / "model_card.md").read_text(encoding="utf-8")  # as one reads it
    assert "\n\n\n" not in (run.path / "model_card.md").read_text(encoding="utf-8")


def test_the_card_says_whether_faces_are_in_colour(tmp_path: Path, drawn: FaceSamples) -> None:
    cards = [card_of(fake_run(tmp_path / name, drawn, color=color)) for name, color in (("a", None), ("b", True))]
    assert ["face in colour" in card for card in cards] == [False, True]
    assert ["a grey face" in card for card in cards] == [True, False]


def test_the_card_of_other_classes_speaks_of_images(tmp_path: Path, drawn: FaceSamples) -> None:
    shapes = ["circle", "cross", "disc", "line", "ring", "square", "star"]
    card = plain(card_of(fake_run(tmp_path / "shapes", drawn, labels=shapes, data="folder:shapes")))
    assert not re.search(r"\b(faces?|emotions?|facial|expressions?)\b", card)
    assert "circle" in card
    of_emotions = [str(emotion) for emotion in EMOTIONS[::-1]]  # the seven in another order are still emotions
    assert "emotion" in card_of(fake_run(tmp_path / "turned", drawn, labels=of_emotions, data="folder:faces"))


def test_validation_by_subject_is_told_in_one_sentence(tmp_path: Path, drawn: FaceSamples) -> None:
    card = plain(card_of(fake_run(tmp_path, drawn, data="folder:mine", validation_subjects=12)))
    assert "held out of the training images by subject: 12 people, none of them in training." in card
    assert card.count("none of them in training") == 1


def test_every_number_is_the_reports(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn, splits=SPLITS)
    note_look(run, "private_test")
    note_look(run, "private_test")
    card = card_of(run)
    report, rows = run.load_report(), tables(card)
    for title, found in zip(("Validation", "PrivateTest", "PrivateTest, unseen"), report.results, strict=True):
        assert found.accuracy.ci95 is not None
        low, high = found.accuracy.ci95
        assert rows[title][:2] == [str(found.n), "1"]
        assert rows[title][2] == f"{100 * found.accuracy.value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        assert rows[title][3].startswith(f"{found.metrics['macro_f1'].value:.3f}")
        assert rows[title][4].startswith(f"{100 * found.metrics['ece'].value:.1f} %")
    found = report.headline()
    for at, emotion in enumerate(EMOTIONS):
        assert rows[emotion][0] == str(sum(found.confusion[at]))
        for name, cell in zip(("precision", "recall", "f1"), rows[emotion][1:], strict=True):
            assert cell.startswith(f"{found.classes[name][at].value:.3f}")
    assert "PrivateTest 2 times, on 2026-01-02." in plain(card)
    assert "They were evaluated 2 times." in plain(card)
    assert "temperature of 1.25" in card
    assert "```sh\nmien train small\n```" in card


def test_limits_and_law_are_told(tmp_path: Path, drawn: FaceSamples) -> None:
    card = plain(card_of(fake_run(tmp_path / "real", drawn, data="fer2013")))
    assert "Article 5(1)(f)" in card
    assert "arXiv:1307.0414" in card
    assert "64.0 %" in card
    synthetic = plain(card_of(fake_run(tmp_path / "drawn", drawn)))
    assert "Trained on drawn faces, not on people." in synthetic
    assert "FER-2013" not in synthetic
    assert "datasets:" not in synthetic


def test_what_is_not_known_is_not_invented(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn)
    card = plain(card_of(run))
    assert "Energy: not measured, and not estimated." in card
    assert "Not measured for this network" in card
    assert "Training took 100 s on a computer." in card
    assert "FER+" not in card
    assert "earlier network" not in card
    assert "faces/s" not in card
    assert "sha256" not in card
    dataclasses.replace(run.load_report(), energy_joules=5.4e5, energy_source="package-0").save(run.report_path)
    used = plain(card_of(run))
    assert "150 Wh" in used
    assert "(package-0)" in used
    assert [plain(energy(joules)) for joules in (3600.0, 4.5e6, None)] == ["1 Wh", "1.25 kWh", DASH]


def test_votes_robustness_and_the_file_are_told_where_they_are_known(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(
        tmp_path, drawn, sha256="ab" * 32, bytes=1_234_567, arithmetic="int8", license="MIT", machine="a | b"
    )
    run.recipe_path.write_text('[training]\nvotes_weight = 0.5\nteachers = ["a", "b"]\nteacher_weight = 0.3\n')
    save_robustness(run.path, fake_robustness(0.7, mouth=0.5))
    card = card_of(run)
    rows = tables(card)
    assert rows["Blur"] == ["50.0 %", "40.0 %", "30.0 %", "20.0 %", "10.0 %", "70 %"]
    assert set(rows) >= {corruption.title for corruption in CORRUPTIONS.values()}
    assert rows["Mouth hidden"][-1] == "50 %"
    assert "second target, with weight 0.5." in plain(card)
    assert "2 earlier networks to the same images are 30 % of the target." in plain(card)
    assert rows["file"] == [f"int8 ONNX, 1,234,567 bytes, sha256 `{'ab' * 32}`"]
    assert rows["licence"] == ["MIT"]
    assert "| machine | a \\| b |" in card
    assert "- onnx\n" in card
    assert 'license: "mit"' in card


def test_runs_without_a_card(tmp_path: Path, drawn: FaceSamples) -> None:
    with pytest.raises(RunError, match=r"no report\.json"):
        write_run_page(Run(tmp_path / "nothing"))
    run = fake_run(tmp_path / "damaged", drawn)
    (run.path / "robustness.json").write_text("{")
    with pytest.raises(DataError, match=r"robustness\.json"):
        write_run_page(run)
    assert not (run.path / "model_card.md").exists()
    assert json.loads(run.report_path.read_text())  # the run is as it was


def test_a_look_without_stored_results_is_no_secret(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn)
    assert "looks.jsonl" not in card_of(run)
    note_look(run, "private_test")  # of a file that was made of this run
    card = plain(card_of(run))
    assert "`looks.jsonl` lists" in card
    assert "PrivateTest once, on 2026-01-02." in card
