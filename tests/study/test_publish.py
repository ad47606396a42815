"""What is published follows from the runs alone: no paths, no faces, no weights, and every number theirs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from tests.fake_runs import fake_run, note_look, plain, read_page

from mien.data import FaceSamples
from mien.errors import MissingPathError, RunError
from mien.evaluation import load_predictions
from mien.evaluation.ensemble import write_ensemble
from mien.recipe import load_recipe, override_recipe, to_toml
from mien.runs import Run
from mien.study.overview import PublishedRun, published_runs, results_pages
from mien.study.publish import anonymous, publish_run, write_study_page
from mien.study.speed import Measured, of_card, speed_figure
from mien.study.suites import find_recipe

TESTED = ("validation", "published_test")


def finished(folder: Path, drawn: FaceSamples, *overrides: str, seed: int = 0, **changes: object) -> Run:
    """A run of the published attention_cnn, with overrides, as a training leaves it."""
    recipe = override_recipe(load_recipe(find_recipe("published/attention_cnn")), [*overrides, f"seed={seed}"])
    values = {"recipe": recipe.name, "protocol": "published", "input_size": recipe.model.input_size, "epochs": 25}
    run = fake_run(folder / f"{recipe.name}-s{seed}", drawn, splits=TESTED, **{**values, "seed": seed, **changes})
    run.recipe_path.write_text(to_toml(recipe))
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    return run


@pytest.mark.parametrize(
    ("command", "published"),
    [
        ("mien train a --data fer2013:/home/me/faces --out /tmp/run", "mien train a --data fer2013:PATH --out PATH"),
        ("mien train a --data ../faces --votes ../faces/votes.csv", "mien train a --data PATH --votes fer2013new.csv"),
        ("mien train a --data 'fer2013:~/my faces' --set model.weights=/a/b.ckpt", "mien train a --data 'fer2013:PATH'"
         " --set model.weights=PATH"),
        ("mien train a --data synthetic:140 --out runs/a-s0", "mien train a --data synthetic:140 --out runs/a-s0"),
        ("weights = \"/home/me/lite0.safetensors\"", "weights = \"PATH\""),
        ("weights = \"/home/me/my lite0.safetensors\"", "weights = \"PATH\""),
        ("--set 'training.teachers=[\"/home/my me/t.ckpt\"]'", "--set 'training.teachers=[\"PATH\"]'"),
        (json.dumps({"command": "--set 'training.teachers=[\"/home/me/t.ckpt\", \"base\"]' --out /tmp/a"}),
         json.dumps({"command": "--set 'training.teachers=[\"PATH\", \"base\"]' --out PATH"})),
        ("{\"see\": \"https://example.org/a\", \"n\": 1}", "{\"see\": \"https://example.org/a\", \"n\": 1}"),
    ],
)  # fmt: skip
def test_commands_lose_the_places_of_files(command: str, published: str) -> None:
    assert anonymous(command) == published
    assert anonymous(published) == published


def test_a_published_run_holds_what_its_figures_follow_from(tmp_path: Path, drawn: FaceSamples) -> None:
    run = finished(tmp_path / "runs", drawn, command="mien train a --out /secret/place")
    note_look(run, "published_test", "mien evaluate /secret/place --split published_test")
    (run.path / "report.html").write_text("a face")
    (tmp_path / "results" / "study" / run.path.name).mkdir(parents=True)
    (tmp_path / "results" / "study" / run.path.name / "old.txt").write_text("of an earlier training")
    target = publish_run(run, tmp_path / "results" / "study")
    files = {str(path.relative_to(target.path)) for path in target.path.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("figures/")} == {
        "recipe.toml", "report.json", "metrics.jsonl", "looks.jsonl", "report.html", "model_card.md",
        "predictions/validation.npz", "predictions/published_test.npz",
    }  # fmt: skip
    assert len(files) > 12
    assert not [path for path in target.path.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert read_page(target.path / "report.html").faces == []
    assert target.report()["results"] == run.report()["results"]
    assert load_recipe(target.recipe_path) == load_recipe(run.recipe_path)
    with pytest.raises(MissingPathError):
        publish_run(Run(tmp_path / "nothing"), tmp_path / "results" / "study")
    run.report_path.unlink()
    with pytest.raises(RunError, match="not ended"):
        publish_run(run, tmp_path / "results" / "study")
    assert target.report_path.exists()


def test_a_published_recipe_has_no_path_and_the_report_its_hash(tmp_path: Path, drawn: FaceSamples) -> None:
    run = finished(tmp_path / "runs", drawn, "model.weights=/secret/lite0.safetensors")
    target = publish_run(run, tmp_path / "results" / "study")
    recipe = load_recipe(target.recipe_path)
    assert recipe.model.weights == "PATH"
    assert target.report()["recipe_sha256"] == recipe.sha256() != load_recipe(run.recipe_path).sha256()


def test_a_study_has_a_page_where_several_rows_make_one(tmp_path: Path, drawn: FaceSamples) -> None:
    finished(tmp_path, drawn)
    write_study_page(tmp_path)
    assert not (tmp_path / "index.html").exists()
    fake_run(tmp_path / "another-name", drawn)
    write_study_page(tmp_path)
    assert not (tmp_path / "index.html").exists()
    finished(tmp_path, drawn, seed=1)
    write_study_page(tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "with 2 seeds" in text
    assert "data:image" not in text


def test_the_overview_gives_every_run_and_what_single_settings_changed(tmp_path: Path, drawn: FaceSamples) -> None:
    real = dataclasses.replace(drawn, name="fer2013")
    large = finished(tmp_path / "published", real, skill=1.0, energy_joules=7200.0)
    small = finished(tmp_path / "published-48", real, "model.input_size=48", skill=3.0)
    file = fake_run(tmp_path / "shipped" / "base", real, splits=("private_test",), sha256="ab", command="mien train x")
    note_look(large, "published_test", "mien evaluate there")
    note_look(large, "published_test", "mien evaluate there")
    runs = published_runs(tmp_path)
    assert [each.name for each in runs] == ["published/attention_cnn-s0", "published-48/attention_cnn-s0",
                                            "shipped/base"]  # fmt: skip
    pages = results_pages(tmp_path, notes="## What we saw\n\nNothing | at all.")
    text = pages["README.md"]
    for each in runs:
        assert figures_of(each) in plain(text)
    assert "| 2 Wh |" in plain(text)
    assert text.count("not measured |") == 2
    assert "# published/attention_cnn-s0\nmien train small\nmien evaluate there\n# published-48" in text
    assert text.endswith("## What we saw\n\nNothing | at all.\n")
    assert "speed.svg" not in text
    assert file.report()["sha256"] == "ab"

    right = [
        np.mean((stored := load_predictions(run.predictions_path("published_test"))).probabilities.argmax(1)
                == stored.label)
        for run in (small, large)
    ]  # fmt: skip
    assert "[ablations.md]" in text
    (line,) = [line for line in pages["ablations.md"].splitlines() if line.startswith("| model.input_size")]
    points = f"{100 * (right[0] - right[1]):+.1f}"
    assert f"| 48 against 128 | attention_cnn | PublicTest and PrivateTest | {points} |" in line
    small.recipe_path.write_text(small.recipe_path.read_text().replace("flip = 0.5", "flip = 0.0"))
    assert "[ablations.md]" not in results_pages(tmp_path)["README.md"]  # two settings differ


def test_an_ensemble_stands_in_the_overview_and_in_no_ablation(tmp_path: Path, drawn: FaceSamples) -> None:
    members = [finished(tmp_path / "release", drawn, seed=seed).path for seed in (0, 1)]
    write_ensemble(members, tmp_path / "release" / "both", command="mien ensemble")
    found = Run(tmp_path / "release" / "both").report()["results"]["published_test"]
    pages = results_pages(tmp_path)
    (line,) = [line for line in pages["README.md"].splitlines() if line.startswith("| `release/both`: ")]
    assert f"{100 * found['accuracy']:.1f}" in line
    assert "| model." not in pages["ablations.md"]


def figures_of(each: PublishedRun) -> str:
    found = each.report["results"][each.split]
    low, high = found["accuracy_ci95"]
    return f"**{100 * found['accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f})**"


def test_the_figure_of_speed_invents_none() -> None:
    card = {
        "faces_per_second": 2000.0,
        "results": {"private_test": {"accuracy": 0.7, "accuracy_ci95": [0.68, 0.72]}},
    }
    ours = of_card("base", card)
    assert ours == Measured("base", 0.7, (0.68, 0.72), (2000.0, 2000.0), is_ours=True)
    other = Measured("other", 0.6, (0.58, 0.62), (500.0, 1000.0))
    unknown = Measured("unknown", 0.5, (0.45, 0.55), None)
    (axes,) = speed_figure([ours, other, unknown]).axes
    words = {text.get_text(): text.xy for text in axes.texts}
    assert words.keys() == {"mien, base  70.0 %", "other  60.0 %", "unknown  50.0 %, speed not measured"}
    assert words["mien, base  70.0 %"] == (2000.0, 0.7)
    assert words["other  60.0 %"] == (1000.0, 0.6)
    assert axes.get_xscale() == "log"
    assert json.dumps([float(edge) for edge in axes.get_xlim()]) == "[200.0, 5000.0]"
