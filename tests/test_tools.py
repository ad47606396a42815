"""The maintainers' programs: what they write follows from what is there, without paths, faces, weights or doubles."""

import dataclasses
import hashlib
import html
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mien.data import FaceSamples
from mien.errors import CallError, DataError, MissingPathError, RunError
from mien.evaluation.ensemble import write_ensemble
from mien.evaluation.evaluate import measure
from mien.evaluation.predictions import Predictions, load_predictions, load_split_predictions
from mien.recipe import find_recipe, load_recipe, to_toml
from mien.report.run_page import write_run_page
from mien.report.study_page import write_study_page
from mien.runs import Report, Run, SplitResult, Subset
from mien.runs.report import Estimate
from tests.fake_runs import fake_run, note_look, plain, read_page
from tools import gpu_study, pages, publish, published, tables
from tools.speed import Measured, of_card, speed_plot

ROOT = Path(__file__).resolve().parents[1]
TESTED = ("validation", "published_test")
RUNS = published.published_runs()


def test_the_tables_are_made_of_the_results() -> None:
    for file, text in publish.written().items():
        assert file.read_text() == text, file.name
    drawn = publish.SPEED.read_text()
    for name, card in published.shipped().items():
        assert f"mien, {name}  {100 * of_card(name, card).accuracy:.1f} %" in drawn


def test_every_model_has_one_line_and_it_is_the_best_on_validation() -> None:
    found = tables.best_models(RUNS)
    names = [each.title for each in found]
    assert len(names) == len(set(names))
    tested = {each.report.recipe for each in RUNS if each.result.is_test and not each.report.members}
    assert tested <= set(names)
    accuracies = [each.compared.accuracy.mean for each in found]
    assert accuracies == sorted(accuracies, reverse=True)
    line = next(each for each in found if each.title == "baseline_cnn")
    rivals = [each for each in RUNS if each.report.recipe == "baseline_cnn" and each.result.is_test]
    best = max(rivals, key=lambda each: each.report.result("validation").accuracy.value)  # type: ignore[union-attr]
    assert line.folder == best.name
    assert line.compared.accuracy.mean == best.result.accuracy.value
    for each in found:
        assert each.compared.result.is_test
        assert (ROOT / "results" / each.folder / "report.json").is_file()


def finished(folder: Path, drawn: FaceSamples, *overrides: str, seed: int = 0, **changes: object) -> Run:
    """A run of the published attention_cnn, with overrides, as a training leaves it."""
    recipe = load_recipe(find_recipe("published/attention_cnn"), [*overrides, f"seed={seed}"])
    values = {"recipe": recipe.name, "protocol": "published", "input_size": recipe.model.input_size, "epochs": 25}
    run = fake_run(folder / f"{recipe.name}-s{seed}", drawn, splits=TESTED, **{**values, "seed": seed, **changes})
    run.recipe_path.write_text(to_toml(recipe))
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    return run


@pytest.mark.parametrize(
    ("command", "expected"),
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
def test_commands_lose_the_places_of_files(command: str, expected: str) -> None:
    assert published.anonymous(command) == expected
    assert published.anonymous(expected) == expected


def test_a_published_run_holds_what_its_figures_follow_from(tmp_path: Path, drawn: FaceSamples) -> None:
    run = finished(tmp_path / "runs", drawn, command="mien train a --out /secret/place")
    note_look(run, "published_test", "mien evaluate /secret/place --split published_test")
    (run.path / "report.html").write_text("a face")
    (tmp_path / "results" / "study" / run.path.name).mkdir(parents=True)
    (tmp_path / "results" / "study" / run.path.name / "old.txt").write_text("of an earlier training")
    target = published.publish_run(run, tmp_path / "results" / "study")
    files = {str(path.relative_to(target.path)) for path in target.path.rglob("*") if path.is_file()}
    assert files == {
        "recipe.toml", "report.json", "metrics.jsonl", "looks.jsonl",
        "predictions/validation.npz", "predictions/published_test.npz",
    }  # fmt: skip
    assert not [path for path in target.path.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert target.load_report().results == run.load_report().results
    assert load_recipe(target.recipe_path) == load_recipe(run.recipe_path)
    with pytest.raises(MissingPathError):
        published.publish_run(Run(tmp_path / "nothing"), tmp_path / "results" / "study")
    run.report_path.unlink()
    with pytest.raises(RunError, match="not ended"):
        published.publish_run(run, tmp_path / "results" / "study")
    assert target.report_path.exists()


def test_a_published_recipe_has_no_path_and_the_report_its_hash(tmp_path: Path, drawn: FaceSamples) -> None:
    run = finished(tmp_path / "runs", drawn, "model.weights=/secret/lite0.safetensors")
    target = published.publish_run(run, tmp_path / "results" / "study")
    recipe = load_recipe(target.recipe_path)
    assert recipe.model.weights == "PATH"
    assert target.load_report().recipe_sha256 == recipe.sha256() != load_recipe(run.recipe_path).sha256()


def test_what_is_in_two_halves_is_not_published_again(tmp_path: Path, drawn: FaceSamples) -> None:
    run = finished(tmp_path / "runs", drawn)
    whole = only_halves(run)
    whole.save(run.predictions_path("published_test"))
    target = published.publish_run(run, tmp_path / "results" / "study")
    assert not target.predictions_path("published_test").exists()
    joined = load_split_predictions(target, "published_test")
    for name in ("row", "label", "probabilities"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    joined.save(tmp_path / "joined.npz")
    assert (tmp_path / "joined.npz").read_bytes() == run.predictions_path("published_test").read_bytes()
    target.predictions_path("public_test").unlink()
    with pytest.raises(MissingPathError, match="published_test"):
        load_split_predictions(target, "published_test")


def test_pages_are_built_of_runs_and_of_studies_with_several_rows(tmp_path: Path, drawn: FaceSamples) -> None:
    results, out = tmp_path / "results", tmp_path / "pages"
    for seed in (0, 1):
        finished(results / "two", drawn, seed=seed)
    finished(results / "one", drawn)
    fake_run(results / "one" / "another-name", drawn)
    out.mkdir()
    (out / "old.html").write_text("of an earlier call")
    runs = published.published_runs(results)
    pages.build(out, runs, processes=1)
    assert not (out / "old.html").exists()
    for each in runs:
        assert not read_page(out / each.name / "report.html").faces
        assert (out / each.name / "model_card.md").is_file()
    page = read_page(out / "two" / "index.html")
    assert not page.faces
    assert {"attention_cnn-s0/report.html", "attention_cnn-s1/report.html"} <= set(page.values("href"))
    assert not (out / "one" / "index.html").exists()
    assert (out / "speed.svg").is_file()
    assert not list(results.rglob("*.html"))
    table = plain((out / "all.md").read_text())
    for each in runs:
        low, high = (100 * bound for bound in each.result.accuracy.ci95 or ())
        assert f"{100 * each.result.accuracy.value:.1f} % ({low:.1f} to {high:.1f})" in table


@pytest.mark.parametrize("name", ["shipped/nano", "views/ensemble", "published-48/attention_cnn-s0"])
def test_a_published_run_gives_a_page_without_faces(name: str, tmp_path: Path) -> None:
    (each,) = (each for each in RUNS if each.name == name)
    pages.build(tmp_path, [each], processes=1)
    page = read_page(tmp_path / name / "report.html")
    assert not page.faces
    assert f"{100 * each.result.accuracy.value:.1f} %" in page.text


def test_single_effects_are_over_all_studies(tmp_path: Path, drawn: FaceSamples) -> None:
    real = dataclasses.replace(drawn, name="fer2013")
    large = finished(tmp_path / "published", real, skill=1.0, energy_joules=7200.0)
    small = finished(tmp_path / "published-48", real, "model.input_size=48", skill=3.0)
    fake_run(tmp_path / "shipped" / "base", real, splits=("private_test",), sha256="ab", command="mien train x")
    members = [finished(tmp_path / "release", real, "training.epochs=9", seed=seed).path for seed in (0, 1)]
    write_ensemble(members, tmp_path / "release" / "both", command="mien ensemble")
    note_look(large, "published_test", "mien evaluate there")
    note_look(large, "published_test", "mien evaluate there")
    runs = published.published_runs(tmp_path)
    assert [each.name for each in runs if each.study != "release"] == [
        "published/attention_cnn-s0", "published-48/attention_cnn-s0", "shipped/base",
    ]  # fmt: skip
    assert runs[0].commands == ["mien train small", "mien evaluate there"]

    accuracies = [
        np.mean((stored := load_predictions(run.predictions_path("published_test"))).probabilities.argmax(1)
                == stored.label)
        for run in (small, large)
    ]  # fmt: skip
    found = {each.contrast.keys: (split, each) for split, each in published.single_effects(runs)}
    split, effect = found[("model.input_size",)]
    assert split == "published_test"
    assert effect.contrast.values == (48, 128)
    assert effect.effect.difference == pytest.approx(accuracies[0] - accuracies[1])
    assert not any("both" in name for _, each in found.values() for name in each.contrast.recipes)
    text = tables.long_table(runs, ["published"])
    points = f"{100 * effect.effect.difference:+.1f}"
    assert f"| 48 against 128 | attention_cnn | PublicTest and PrivateTest | {points} |" in text
    assert "| 2 Wh |" in plain(text)
    assert "# published/attention_cnn-s0\nmien train small\nmien evaluate there\n# published-48" in text
    small.recipe_path.write_text(small.recipe_path.read_text().replace("flip = 0.5", "flip = 0.0"))
    left = published.single_effects(published.published_runs(tmp_path))
    assert not any(each.contrast.keys == ("model.input_size",) for _, each in left)  # two settings differ


def test_a_network_in_the_package_keeps_the_card_that_is_renewed(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path / "shipped" / "base", drawn, splits=("private_test",))
    report = json.loads(run.report_path.read_text())
    del report["results"]["private_test"]["macro_f1"]
    run.report_path.write_text(json.dumps(report))
    publish.renew_run(run, None, tmp_path)
    found = run.load_report().result("private_test")
    assert found is not None
    assert found.metrics["macro_f1"].value > 0
    assert (tmp_path / "base.json").read_bytes() == run.report_path.read_bytes()


VOTES = np.eye(10, dtype=np.uint8)[np.arange(35_887) % 7] * 10
"""Of every row of FER-2013, all ten for one emotion."""


def only_halves(run: Run) -> Predictions:
    """Leave of the predictions of ``published_test`` its two halves, as published; the whole."""
    whole = load_predictions(run.predictions_path("published_test"))
    public = np.arange(len(whole)) < 21
    for half, mask in (("public_test", public), ("private_test", ~public)):
        whole.subset(mask).save(run.predictions_path(half))
    run.predictions_path("published_test").unlink()
    return whole


def test_votes_are_added_where_only_the_halves_are_stored(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path / "results" / "run", drawn, splits=TESTED, row_source="index")
    whole = only_halves(run)
    publish.renew_run(run, VOTES)
    found = run.load_report().result("published_test", Subset.FERPLUS)
    assert found == measure("published_test", whole, votes=VOTES[whole.row], views=1)[-1]
    files = {half: run.predictions_path(half) for half in ("public_test", "private_test")}
    hashes = [(half, hashlib.sha256(file.read_bytes()).hexdigest()) for half, file in files.items()]
    assert [(look.split, look.sha256) for look in run.looks()] == hashes
    # A file is noted once where the halves have results of their own.
    halves = [each for half in files for each in measure(half, load_predictions(files[half]))]
    run.load_report().with_results(halves).save(run.report_path)
    (run.path / "looks.jsonl").unlink()
    publish.renew_run(run, VOTES)
    assert [(look.split, look.sha256) for look in run.looks()] == hashes


def code_of(text: str) -> str:
    """The lines of Python that a page or a card shows."""
    (found,) = re.findall(r"(?:<pre>|```python\n)(from pathlib.*?)(?:</pre>|```)", text, re.DOTALL)
    return html.unescape(found)


def test_pages_tell_how_to_recompute_what_only_the_halves_hold(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_run(tmp_path / "small-s0", drawn, splits=TESTED)
    whole = only_halves(run)
    write_run_page(run, pictures=False)
    write_study_page(tmp_path, [run.load_report()], pictures=False)
    assert "The stored predictions (validation, published_test)" in read_page(run.path / "report.html").text
    for folder, name in ((run.path, "report.html"), (run.path, "model_card.md"), (tmp_path, "index.html")):
        *lines, last = code_of((folder / name).read_text()).strip().splitlines()
        monkeypatch.chdir(folder)
        names: dict[str, object] = {}
        exec("\n".join(lines), names)
        assert eval(last, names) == measure("published_test", whole), name


def test_a_renewal_that_fails_notes_and_writes_nothing(tmp_path: Path, drawn: FaceSamples) -> None:
    splits = ("public_test", "private_test")
    run = fake_run(tmp_path / "run", drawn, splits=splits, protocol="published", row_source="index")
    run.predictions_path("private_test").write_bytes(b"damaged")
    before = run.report_path.read_bytes()
    with pytest.raises(DataError, match=r"private_test\.npz"):
        publish.renew_run(run, VOTES)
    assert not run.looks()
    assert run.report_path.read_bytes() == before


@pytest.mark.parametrize("place", ["report", "result", "nowhere"])
def test_what_was_before_the_temperature_follows_only_of_one_view(
    tmp_path: Path, drawn: FaceSamples, place: str
) -> None:
    run = fake_run(tmp_path / "run", drawn, splits=("private_test",), row_source="index")
    report = json.loads(run.report_path.read_text())
    found = report["results"]["private_test"]
    assert "views" not in found
    del found["ece_uncalibrated"], found["nll_uncalibrated"]
    if place != "report":
        del report["views"]
    if place == "result":
        found["views"] = 1
    run.report_path.write_text(json.dumps(report))
    publish.renew_run(run, VOTES)
    renewed = json.loads(run.report_path.read_text())
    assert ("ece_uncalibrated" in renewed["results"]["private_test"]) == (place != "nowhere")
    assert ("views" in renewed["results"]["private_test"]) == (place == "result")
    assert ("views" in renewed["results"]["private_test_ferplus"]) == (place != "nowhere")


def test_only_what_is_published_can_be_renewed(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="folders of results"):
        publish.published_folder(tmp_path)
    assert publish.published_folder(RUNS[0].run.path) == RUNS[0].run.path


@pytest.mark.parametrize("each", [each for each in RUNS if each.study == "shipped"], ids=lambda each: each.name)
def test_looks_by_shipping_are_noted_where_the_run_is_published_too(each: published.PublishedRun) -> None:
    by_shipping = [look for look in each.run.looks() if Path(look.command.split()[0]).name == "ship"]
    assert by_shipping
    for look in by_shipping:
        run = Run(ROOT / "results" / Path(look.command.split()[1]).relative_to("runs"))
        assert look in run.looks()


def test_the_plot_of_speed_invents_none() -> None:
    result = SplitResult("private_test", Subset.ALL, 100, 1, {"accuracy": Estimate(0.7, (0.68, 0.72))}, {}, ())
    ours = of_card("base", Report(model="any", recipe="base", faces_per_second=2000.0, results=(result,)))
    assert ours == Measured("base", 0.7, (0.68, 0.72), (2000.0, 2000.0), is_ours=True)
    other = Measured("other", 0.6, (0.58, 0.62), (500.0, 1000.0))
    unknown = Measured("unknown", 0.5, (0.45, 0.55), None)
    (axes,) = speed_plot([ours, other, unknown]).axes
    words = {text.get_text(): text.xy for text in axes.texts}
    assert words.keys() == {"mien, base  70.0 %", "other  60.0 %", "unknown  50.0 %, speed not measured"}
    assert words["mien, base  70.0 %"] == (2000.0, 0.7)
    assert words["other  60.0 %"] == (1000.0, 0.6)
    assert axes.get_xscale() == "log"
    assert json.dumps([float(edge) for edge in axes.get_xlim()]) == "[200.0, 5000.0]"


MIEN = """
import pathlib, sys, time
_, slow, command, name, *rest = sys.argv
with open("asked", "a") as file:
    file.write(" ".join(sys.argv[2:]) + "\\n")
if command == "train":
    run = pathlib.Path(rest[rest.index("--out") + 1])
    if "nano" in name:
        time.sleep(float(slow))
    run.mkdir(parents=True)
    (run / "report.json").write_text("{}")
else:
    predictions = pathlib.Path(name) / "predictions"
    predictions.mkdir()
    (predictions / (rest[rest.index("--split") + 1] + ".npz")).touch()
"""


def train_on_a_gpu(out: Path, *parts: str, slow: float = 0.0, seconds: float = 60.0) -> tuple[bool, list[list[str]]]:
    """Whether all is done, and all that was asked of a program in the place of ``mien``."""
    script = out / "mien.py"
    script.write_text(MIEN)
    mien, deadline = [sys.executable, str(script), str(slow)], time.monotonic() + seconds
    done = gpu_study.run_parts(gpu_study.Runner("synthetic", out, None, (), deadline, mien), parts, workers=3)
    return done, [line.split() for line in (out / "asked").read_text().splitlines()]


def test_the_gpu_study_trains_members_before_their_students_and_does_nothing_twice(tmp_path: Path) -> None:
    done, asked = train_on_a_gpu(tmp_path, "members", "students", "contest")
    assert done
    order = [call[1] for call in asked]
    assert set(order[:5]) == {"release/member", "release/member_full", "release/member_imagenet"}
    assert set(order[5:7]) == {"gpu/base", "gpu/nano"}
    assert order[7:] == ["recipe/resnet50_cbam", "runs/contest/resnet50_cbam-s0"]
    assert [call[call.index("--split") + 1] for call in asked if call[0] == "evaluate"] == ["private_test"]
    assert train_on_a_gpu(tmp_path, "members", "students", "contest") == (True, asked)


def test_the_gpu_study_stops_and_says_what_it_could_not_finish(tmp_path: Path) -> None:
    done, _ = train_on_a_gpu(tmp_path, "students", slow=60, seconds=5)
    assert not done
    assert (tmp_path / "runs" / "gpu" / "base-s0" / "report.json").exists()
    done, asked = train_on_a_gpu(tmp_path, "students")
    assert done
    assert [call[1] for call in asked].count("gpu/base") == 1


def test_the_gpu_study_learns_votes_only_where_they_are_given(tmp_path: Path) -> None:
    votes = tmp_path / "votes.csv"
    without = gpu_study.Runner("synthetic", tmp_path, None, ("training.cuda_graphs=true",), 0.0).options
    given = gpu_study.Runner("synthetic", tmp_path, votes, (), 0.0).options
    assert without == ["--set", "training.votes_weight=0", "--no-pictures", "--set", "training.cuda_graphs=true"]
    assert given == ["--votes", str(votes), "--no-pictures"]


def test_the_gpu_study_trains_recipes_that_mien_brings_into_folders_of_their_own() -> None:
    jobs = [job for part in gpu_study.PARTS.values() for job in part]
    assert len({job.folder for job in jobs}) == len(jobs)
    for job in jobs:
        recipe = load_recipe(find_recipe(job.recipe), job.options[1::2])
        assert job.folder.endswith(f"/{recipe.name}-s{recipe.seed}")
