"""Stored predictions side by side, without torch, and what is refused."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fake_runs import Page, fake_robustness, read_page

from mien.errors import CallError, DataError, MissingPathError, RunError
from mien.evaluation import METRICS, Predictions
from mien.evaluation.compare import compare, comparison_rows, load_entries
from mien.evaluation.evaluate import measure
from mien.evaluation.metrics import Metric
from mien.evaluation.robustness import save_robustness
from mien.report.comparison_page import comparison_words, write_comparison_page
from mien.runs import Report, load_report

RESULTS = Path(__file__).resolve().parents[2] / "results"


def predictions(skill: float, seed: int, n: int = 600) -> dict[str, NDArray[np.generic]]:
    """An npz's arrays: the labels are the same for every skill and seed."""
    labels = np.random.default_rng(0).integers(0, 7, n)
    logits = np.random.default_rng(seed + 1).normal(size=(n, 7)) + skill * np.eye(7)[labels]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows = np.arange(n, dtype=np.int32)
    return {"row": rows, "label": labels.astype(np.int8), "probabilities": shares.astype(np.float32)}


def write_run(path: Path, recipe: str, skill: float, seed: int) -> Path:
    (path / "predictions").mkdir(parents=True)
    (path / "recipe.toml").write_text("")
    stored = Predictions(**predictions(skill, seed))  # type: ignore[arg-type]
    stored.save(path / "predictions" / "validation.npz")
    results = tuple(measure("validation", stored))
    Report(model="cnn", recipe=recipe, seed=seed, protocol="contest", results=results).save(path / "report.json")
    return path


def rewrite(run: Path, **values: object) -> None:
    """Other values in a run's report."""
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**report, **values}))


def test_files_are_compared_as_files(tmp_path: Path) -> None:
    paths = [tmp_path / "weak.npz", tmp_path / "strong.npz"]
    for path, skill in zip(paths, (1.0, 3.0), strict=True):
        arrays = predictions(skill, 5)
        order = np.random.default_rng(1).permutation(len(arrays["row"]))  # another tool's order of rows
        np.savez(path, **{name: values[order] for name, values in arrays.items()})
    split, entries = load_entries(paths)
    assert split == "file"
    (pair,) = compare(entries)
    assert (pair.one, pair.other) == (str(paths[1]), str(paths[0]))
    assert pair.is_shown
    assert not pair.about_recipes
    assert comparison_words(entries, [pair])[1].endswith("one file each: shown for these files only.")
    strong = predictions(3.0, 5)
    expected = (strong["probabilities"].argmax(1) == strong["label"]).mean()  # type: ignore[attr-defined]
    rows: Any = comparison_rows(split, entries, [pair])
    assert rows["entries"][0]["accuracy"]["value"] == pytest.approx(expected)
    low, high = rows["entries"][0]["accuracy"]["ci95"]
    assert low < expected < high


def test_seeds_of_a_recipe_make_a_claim_about_recipes(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"{name}-s{seed}", name, 1.0, seed + 10 * place)
        for place, name in enumerate(["plain", "attention"])
        for seed in (0, 1, 2)
    ]
    for run in runs[3:]:  # the same seeds for both
        rewrite(run, seed=load_report(run / "report.json").seed - 10)  # type: ignore[operator]
    split, entries = load_entries(runs)
    assert split == "validation"
    assert [(entry.name, entry.seeds) for entry in entries] == [("plain", (0, 1, 2)), ("attention", (0, 1, 2))]
    (pair,) = compare(entries)
    assert pair.about_recipes
    assert pair.effect.seeds == 3
    assert not pair.is_shown
    lead, of_pair = comparison_words(entries, [pair])
    assert of_pair.endswith("three seeds: no effect shown.")
    assert "not distinguishable from the other" in lead
    page = write_comparison_page(tmp_path / "page", split, entries, [pair]).read_text()
    assert "no effect shown" not in page.split("<h2>Metrics")[1]
    assert "recipes, 3 seeds" in page
    assert not (tmp_path / "page" / "figures" / "robustness_compared.svg").exists()


def test_runs_that_differ_in_more_than_the_seed_are_told_apart(tmp_path: Path) -> None:
    places = ["one/cnn-s0", "one/cnn-s1", "other/cnn-s0", "third/cnn-s1", "views/cnn-s0"]
    runs = [write_run(tmp_path / place, "cnn", 1.0, int(place[-1])) for place in places]
    (runs[1] / "recipe.toml").write_text("[training]\nprecision = 'float32'\n")  # changes nothing but the speed
    (runs[2] / "recipe.toml").write_text("seed = 0\n[optimizer]\nlr = 0.1\n")
    (runs[3] / "recipe.toml").write_text("seed = 1\n[optimizer]\nlr = 0.2\n")
    report = load_report(runs[4] / "report.json")
    ten = tuple(dataclasses.replace(each, views=10, order=()) for each in report.results)
    dataclasses.replace(report, results=ten).save(runs[4] / "report.json")
    save_robustness(runs[2], fake_robustness(0.7))
    entries = load_entries(runs)[1]
    names = [str(tmp_path / "one" / "cnn"), *map(str, runs[2:])]
    assert {entry.name: entry.seeds for entry in entries} == dict(zip(names, [(0, 1), (0,), (1,), (0,)], strict=True))
    assert [entry.name for entry in entries if entry.robustness is not None] == [str(runs[2])]
    with pytest.raises(CallError, match="recipe cnn with seed 0 twice"):
        load_entries([runs[0], runs[0]])
    (runs[3] / "recipe.toml").write_text("seed =")
    with pytest.raises(RunError, match=r"recipe\.toml: not a TOML recipe"):
        load_entries(runs)


def test_robustness_reports_are_put_side_by_side(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, recipe, 1.0, seed) for name, recipe, seed in (
        ("plain-s0", "plain", 0), ("plain-s1", "plain", 1), ("attention-s1", "attention", 1), ("bare-s0", "bare", 0)
    )]  # fmt: skip
    save_robustness(runs[1], fake_robustness(0.7))
    save_robustness(runs[2], fake_robustness(0.6, blur=0.8))
    np.savez(tmp_path / "foreign.npz", **predictions(1.0, 7))
    split, entries = load_entries([*runs, tmp_path / "foreign.npz"])
    found = {entry.name: entry.robustness["relative"] for entry in entries if entry.robustness is not None}
    assert found == {"plain": 0.7, "attention": 0.6}
    page = write_comparison_page(tmp_path / "page", split, entries, compare(entries))
    assert {"70 %", "60 %"} <= set(re.findall(r"[67]0 %", read_page(page).text))
    figure = (tmp_path / "page" / "figures" / "robustness_compared.svg").read_text()
    assert figure.count(">80<") == 1  # attention under blur
    (runs[1] / "robustness.json").write_text("[")
    with pytest.raises(DataError, match="damaged"):
        load_entries(runs)


def test_a_metric_of_ones_own_gets_a_row_and_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function and one line in the table."""

    def top_two_error(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
        return 1 - float((probabilities.argsort(1)[:, -2:] == labels[:, None]).any(1).mean())

    monkeypatch.setitem(
        METRICS, "top_two_error", Metric("top-2 error", top_two_error, percent=True, lower_is_better=True)
    )
    paths = [tmp_path / "weak.npz", tmp_path / "strong.npz"]
    for path, skill in zip(paths, (1.0, 3.0), strict=True):
        np.savez(path, **predictions(skill, 5))
    split, entries = load_entries(paths)
    page = Page(write_comparison_page(tmp_path / "page", split, entries, compare(entries)).read_text())
    written = json.loads((tmp_path / "page" / "compare.json").read_text())["entries"]
    errors = [entry["top_two_error"] for entry in written]
    for entry, found in zip((entries[1], entries[0]), errors, strict=True):  # the better first
        stored = entry.predictions[0]
        assert found["value"] == top_two_error(stored.label, stored.probabilities)
        assert found["ci95"][0] < found["value"] < found["ci95"][1]
        (result,) = measure("validation", stored)
        assert result.metrics["top_two_error"] == entry.metrics["top_two_error"]
    assert page.rows[0][-1] == "top-2 error, %"
    assert [row[-1].split()[0] for row in page.rows[1:3]] == [f"{100 * found['value']:.1f}" for found in errors]


def test_runs_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", "plain", 1.0, 0)
    opened: list[str] = []
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, *rest, **more: opened.append(path.name) or read(path, *rest, **more)
    )
    split, entries = load_entries([run])
    write_comparison_page(tmp_path / "page", split, entries, [])
    assert opened.count("report.json") == opened.count("recipe.toml") == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda arrays: {**arrays, "row": arrays["row"] + 1}, "1 others, 1 missing: row 600 is new, row 0 is missing"),
        (lambda arrays: {name: values[:-1] for name, values in arrays.items()}, "599 .*row 599 is missing"),
        (lambda arrays: {**arrays, "label": np.roll(arrays["label"], 1)}, "expected the labels of .*good"),
        (lambda arrays: {**arrays, "probabilities": arrays["probabilities"] * 1.1}, "sum to one"),
        (lambda arrays: {**arrays, "probabilities": arrays["probabilities"] * np.nan}, "sum to one"),
        (lambda arrays: {name: values for name, values in arrays.items() if name != "row"}, "expected an npz"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    np.savez(tmp_path / "good.npz", **predictions(2.0, 0))
    np.savez(tmp_path / "bad.npz", **damage(predictions(2.0, 1)))
    with pytest.raises(DataError, match=f"bad.*{message}"):
        load_entries([tmp_path / "good.npz", tmp_path / "bad.npz"])


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez_compressed(path, **predictions(2.0, 0))
    whole = path.read_bytes()
    wrong = bytearray(whole)
    wrong[len(whole) // 2 : len(whole) // 2 + 200] = bytes(200)
    for content in (b"", whole[: len(whole) // 2], bytes(wrong)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.npz: expected an npz"):
            load_entries([path])


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="got none"):
        load_entries([])
    with pytest.raises(MissingPathError):
        load_entries([tmp_path / "none.npz"])
    with pytest.raises(RunError, match="holds no run"):
        load_entries([tmp_path])
    np.savez(tmp_path / "a.npz", **predictions(2.0, 0))
    with pytest.raises(CallError, match="twice"):
        load_entries([tmp_path / "a.npz", tmp_path / "a.npz"])
    run = write_run(tmp_path / "run", "plain", 1.0, 0)
    again = write_run(tmp_path / "again", "plain", 1.0, 0)
    with pytest.raises(CallError, match="seed 0 twice"):
        load_entries([run, again])


def test_it_works_without_torch(tmp_path: Path) -> None:
    """In a process where importing torch, timm or lightning fails."""
    np.savez(tmp_path / "a.npz", **predictions(2.0, 0))
    np.savez(tmp_path / "b.npz", **predictions(2.5, 1))
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'timm', 'lightning_fabric'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from mien.cli import main\n"
        "sys.argv = ['mien', 'compare', 'a.npz', 'b.npz', '--out', 'page', *sys.argv[1:]]\n"
        "main()"
    )
    texts = []
    for options in ([], ["--format", "json"]):
        call = [sys.executable, "-c", code, *options]
        run = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        texts.append(run.stdout)
    rows = json.loads(texts[1])
    assert {entry["name"] for entry in rows["entries"]} == {"a.npz", "b.npz"}
    best = next(line for line in texts[0].splitlines() if line.strip().startswith(rows["entries"][0]["name"]))
    assert f"{100 * rows['entries'][0]['accuracy']['value']:.1f}" in best
    assert rows == json.loads((tmp_path / "page" / "compare.json").read_text())
    assert (tmp_path / "page" / "compare.html").exists()


def test_published_results_can_be_compared() -> None:
    split, entries = load_entries([RESULTS / "published" / f"{name}-s0" for name in ("resnet50", "resnet50_cbam")])
    assert split == "published_test"
    (pair,) = compare(entries)
    assert not pair.is_shown  # 59.1 % and 59.0 %
