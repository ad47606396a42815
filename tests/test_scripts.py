"""The scripts beside the package: what they write agrees with what is there."""

import runpy
import subprocess
from pathlib import Path

from mien.recipe import to_toml
from tests.conftest import small_recipe

ROOT = Path(__file__).resolve().parents[1]


def test_the_readmes_table_is_made_of_the_results() -> None:
    readme = (ROOT / "README.md").read_text()
    assert runpy.run_path(str(ROOT / "scripts" / "publish"))["renew"](readme) == readme


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
