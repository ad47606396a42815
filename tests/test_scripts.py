"""The scripts beside the package: what they write agrees with what is there."""

import runpy
import subprocess
from pathlib import Path

import pytest

from mien.data import FaceSamples
from mien.evaluation.card import model_card
from mien.recipe import to_toml
from mien.runs import Run
from tests.conftest import small_recipe
from tests.fake_runs import fake_run

ROOT = Path(__file__).resolve().parents[1]
PUBLISH = runpy.run_path(str(ROOT / "scripts" / "publish"))
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
