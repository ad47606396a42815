"""The scripts beside the package: what they write agrees with what is there."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mien.data import FaceSamples
from mien.errors import CallError, ModelError
from mien.evaluation.card import model_card
from mien.models import create_classifier
from mien.recipe import to_toml
from mien.runs import Checkpoint, Run
from tests.conftest import small_recipe
from tests.fake_runs import fake_run

ROOT = Path(__file__).resolve().parents[1]
PUBLISH = runpy.run_path(str(ROOT / "scripts" / "publish"))
SHORTEN = runpy.run_path(str(ROOT / "scripts" / "shorten"))
RUNS = sorted(path.parent for path in (ROOT / "results").glob("*/*/report.json"))


def test_the_readmes_tables_are_made_of_the_results() -> None:
    readme = (ROOT / "README.md").read_text()
    assert PUBLISH["renew"](readme) == readme
    pages = PUBLISH["pages"]()
    assert pages["ablations.md"] == (ROOT / "results" / "ablations.md").read_text()
    assert pages["README.md"] == (ROOT / "results" / "README.md").read_text()


@pytest.mark.parametrize("path", RUNS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_published_run_has_its_page_and_todays_card(path: Path) -> None:
    assert (path / "report.html").exists()
    assert (path / "model_card.md").read_text() == model_card(Run(path))


def test_a_network_in_the_package_keeps_the_card_that_is_renewed(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_run(tmp_path / "shipped" / "base", drawn, splits=("private_test",))
    report = run.report()
    del report["results"]["private_test"]["macro_f1"]
    run.write_report(report)
    monkeypatch.setitem(PUBLISH["renew_run"].__globals__, "ASSETS", tmp_path)
    PUBLISH["renew_run"](run, None)
    assert run.report()["results"]["private_test"]["macro_f1"] > 0
    assert (tmp_path / "base.json").read_bytes() == run.report_path.read_bytes()
    assert (run.path / "model_card.md").read_text() == model_card(run)


def test_only_what_is_published_can_be_renewed(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="folders of results"):
        PUBLISH["_published"](tmp_path)
    assert PUBLISH["_published"](RUNS[0]) == RUNS[0]


@pytest.mark.parametrize("path", [path for path in RUNS if path.parent.name == "shipped"], ids=lambda path: path.name)
def test_looks_by_shipping_are_noted_where_the_run_is_published_too(path: Path) -> None:
    looks = [json.loads(line) for line in (path / "looks.jsonl").read_text().splitlines()]
    by_shipping = [look for look in looks if look["command"].startswith("scripts/ship ")]
    assert by_shipping
    for look in by_shipping:
        run = ROOT / "results" / Path(look["command"].split()[1]).relative_to("runs")
        assert look in [json.loads(line) for line in (run / "looks.jsonl").read_text().splitlines()]


def test_the_queue_skips_finished_runs_and_counts_failed_ones(tmp_path: Path) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(to_toml(small_recipe(training={"epochs": 1})))
    jobs = tmp_path / "jobs.txt"
    jobs.write_text(f"# comment\n\ngood {recipe} --set seed=3\nbad {recipe} --set training.epochs=0\n")

    def queue() -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "scripts" / "queue"), str(jobs), "synthetic:140", str(tmp_path / "runs")]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)

    first = queue()
    assert first.returncode == 1, first.stderr
    assert (tmp_path / "runs" / "good" / "report.json").exists()
    assert "bad: not finished (exit code 2)" in first.stdout
    assert "good: finished" in queue().stdout


def test_shortening_keeps_the_first_blocks_of_each_stage_and_says_what_the_layers_left_say() -> None:
    recipe = small_recipe(
        model={"name": "compact_resnet", "input_size": 48, "widths": [8, 16], "depths": [2, 3]},
        training={"votes_weight": 0.5},
    )
    whole = create_classifier(recipe.model, votes=10)
    short = SHORTEN["shortened"](Checkpoint(recipe, whole.state_dict()), [1, 2])
    assert list(short.recipe.model.depths) == [1, 2]
    classifier, faces = short.classifier(), torch.rand(3, 1, 48, 48)
    whole.eval()
    kept = torch.nn.Sequential(*(whole.model.stages[block] for block in (0, 2, 3)))
    expected = whole.model.classifier(kept(whole.model.stem((faces - whole.mean) / whole.std)).mean((2, 3)))[:, :7]
    torch.testing.assert_close(classifier(faces), expected)


def test_shortening_knows_how_deep_a_recipe_is_that_does_not_say() -> None:
    recipe = small_recipe(model={"name": "compact_resnet", "widths": [8, 16, 16]})
    short = SHORTEN["shortened"](Checkpoint(recipe, create_classifier(recipe.model).state_dict()), [1, 2, 1])
    assert len(short.classifier().model.stages) == 4
    other = small_recipe(model={"name": "baseline_cnn"})
    with pytest.raises(ModelError, match="expected a run of a compact_resnet; one of baseline_cnn came"):
        SHORTEN["shortened"](Checkpoint(other, {}), [1, 2, 1])


@pytest.mark.parametrize(("depths", "out", "message"), [("1,a", "a.ckpt", "such as 1,1,2"), ("1,1", "a", "ends in")])
def test_shortening_says_what_its_arguments_must_be(depths: str, out: str, message: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "shorten"), "run", depths, out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("depths", [[2, 4], [0, 1], [2]])
def test_shortening_cannot_add_blocks_or_leave_a_stage_empty(depths: list[int]) -> None:
    recipe = small_recipe(model={"name": "compact_resnet", "widths": [8, 16], "depths": [2, 3]})
    with pytest.raises(ModelError, match="at most"):
        SHORTEN["shortened"](Checkpoint(recipe, create_classifier(recipe.model).state_dict()), depths)


PYTHON = """#!/bin/sh
# In the place of Python: notes what is asked of mien, and leaves what a run leaves.
[ "$2" = mien ] || exit 0
shift 2
echo "$*" >>"$ASKED"
case $1 in
train)
    out=$4
    mkdir -p "$out/checkpoints" && echo weights >"$out/checkpoints/best.ckpt" && echo {} >"$out/report.json" ;;
evaluate)
    out=$2
    [ "$7" != --out ] || out=$8
    mkdir -p "$out/predictions" && echo >"$out/predictions/$4.npz"
    ;;
esac
"""


def test_the_gpu_study_trains_members_before_their_students_and_does_nothing_twice(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    asked, out = tmp_path / "asked", tmp_path / "out"

    def study(*parts: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "scripts" / "gpu_study"), "synthetic:210", str(out), *parts]
        environment = {**os.environ, "PYTHON": str(python), "ASKED": str(asked), "DRY": "1"}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)

    done = study("members", "students", "published")
    assert done.returncode == 0, done.stderr
    calls = [line.split() for line in asked.read_text().splitlines()]
    order = [call[1] for call in calls if call[0] == "train"]
    assert set(order[:5]) == {"release/member", "release/member_full", "release/member_imagenet"}
    assert {"gpu/base", "gpu/nano"} <= set(order[5:])
    assert {"published/resnet50_cbam", "published/baseline_cnn"} <= set(order[5:])
    looks = [call for call in calls if call[0] == "evaluate"]
    assert sum("private_test" in call for call in looks) == 5
    assert sum("published_test" in call for call in looks) == 4
    assert list(out.glob("results.tar.*")), done.stdout
    assert list(out.glob("members.tar.*")), done.stdout
    assert study("members", "students", "published").returncode == 0
    assert len(asked.read_text().splitlines()) == len(calls)


def test_the_gpu_study_says_what_it_could_not_finish(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$2" != mien ]\n')
    python.chmod(0o755)
    command = [str(ROOT / "scripts" / "gpu_study"), "synthetic:210", str(tmp_path / "out"), "students"]
    environment = {**os.environ, "PYTHON": "./python", "DRY": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "base-s0.log: ended with 1" in done.stderr
    environment |= {"SECONDS_AT_MOST": "0", "PYTHON": str(python)}
    assert subprocess.run(command, capture_output=True, timeout=60, check=False, env=environment).returncode == 1


def test_the_gpu_study_refuses_a_part_that_it_does_not_have(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts" / "gpu_study"), "synthetic:210", str(tmp_path), "everything"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no part everything" in done.stderr
