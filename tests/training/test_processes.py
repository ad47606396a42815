"""Kills and several processes, for real: through the command line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.conftest import small_recipe

from mien.recipe import Recipe, to_toml
from mien.runs import Run
from mien.runs.checkpoint import load_checkpoint

DATA = ("--data", "synthetic:210", "--accelerator", "cpu")


def call(*arguments: str, launcher: tuple[str, ...] = ("-m",)) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, "mien", *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def write(folder: Path, recipe: Recipe) -> str:
    path = folder / "recipe.toml"
    path.write_text(to_toml(recipe))
    return str(path)


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output


def wait_for_metrics(path: Path, more_than: int = 0) -> None:
    """Until the file has more bytes than that: an epoch is over."""
    deadline = time.monotonic() + 180
    while not (path.exists() and path.stat().st_size > more_than):
        assert time.monotonic() < deadline, f"no epoch ended: {path}"
        time.sleep(0.01)


def final_weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(Run(path).last_checkpoint).weights


def test_killed_at_three_moments_and_resumed_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    recipe = write(tmp_path, small_recipe(training={"epochs": 60, "checkpoint_minutes": 0.0005}))
    whole = call("train", recipe, *DATA, "--out", str(tmp_path / "whole"))
    finish(whole)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    for seconds in (0.1, 0.25, 0.4):
        before = metrics.stat().st_size if metrics.exists() else 0
        running = call("train", recipe, *DATA, "--out", str(tmp_path / "killed"), "--resume")
        wait_for_metrics(metrics, more_than=before)
        time.sleep(seconds)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert running.returncode == -signal.SIGKILL
    last = call("train", recipe, *DATA, "--out", str(tmp_path / "killed"), "--resume")
    finish(last)
    expected, found = final_weights(tmp_path / "whole"), final_weights(tmp_path / "killed")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138, signal.SIGUSR2: 140}


@pytest.mark.parametrize(("number", "code"), SIGNALS.items(), ids=lambda value: str(value))
def test_signals_save_and_say_how_to_go_on(tmp_path: Path, number: int, code: int) -> None:
    recipe = write(tmp_path, small_recipe(training={"epochs": 4000}))
    running = call("train", recipe, *DATA, "--out", str(tmp_path / "run"))
    wait_for_metrics(tmp_path / "run" / "metrics.jsonl")
    running.send_signal(number)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == code, output
    assert "go on with: mien train" in output
    assert "--resume" in output
    assert "Traceback" not in output
    assert Run(tmp_path / "run").last_checkpoint.exists()


def torchrun() -> tuple[str, ...]:
    return ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def test_two_processes_equal_one_without_batch_norm_dropout_and_mixup(tmp_path: Path) -> None:
    plain = small_recipe(
        model={"name": "baseline_cnn", "batch_norm": False, "dropout": 0.0},
        optimizer={"name": "sgd", "lr": 0.01},
        training={"epochs": 3},
    )
    recipe = write(tmp_path, plain)  # 7 steps an epoch
    one = call("train", recipe, *DATA, "--out", str(tmp_path / "one"))
    finish(one)
    two = call("train", recipe, *DATA, "--out", str(tmp_path / "two"), launcher=torchrun())
    finish(two)
    expected, found = final_weights(tmp_path / "one"), final_weights(tmp_path / "two")
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)
    assert Run(tmp_path / "two").load_report().processes == 2


@pytest.mark.parametrize("ours", [True, False], ids=["--devices", "torchrun"])
def test_of_two_processes_one_looks_and_speaks(tmp_path: Path, ours: bool) -> None:
    recipe = write(tmp_path, small_recipe(training={"epochs": 1}))
    arguments = ("study", recipe, "--seeds", "2", "--final", *DATA, "--out", str(tmp_path / "study"))
    running = call(*arguments, "--devices", "2") if ours else call(*arguments, launcher=torchrun())
    output, _ = running.communicate(timeout=180)
    assert running.returncode == 0, output
    assert output.count("Accuracy on 21 PrivateTest images") == 1
    for seed in (0, 1):
        run = Run(tmp_path / "study" / f"small-s{seed}")
        assert run.load_report().processes == 2
        assert len((run.path / "looks.jsonl").read_text().splitlines()) == 3  # both tests together, and each of them


RANK_SCRIPT = """
import os, sys
from pathlib import Path
import torch
from mien.data import read_samples
from mien.recipe import load_recipe
from mien.training.fit import launch, train
from mien.training.setup import prepare
recipe, out = load_recipe(Path(sys.argv[1])), Path(sys.argv[2])
fabric = launch("float32", 1, "cpu")
setup = prepare(recipe, read_samples("synthetic:210"), out / "run", fabric)
train(setup)
torch.save(dict(setup.classifier.named_parameters()), out / f"{fabric.global_rank}.pt")
"""


def test_two_processes_with_batch_norm_hold_identical_weights(tmp_path: Path) -> None:
    recipe = write(tmp_path, small_recipe(training={"epochs": 1}))
    script = tmp_path / "rank.py"
    script.write_text(RANK_SCRIPT)
    command = [sys.executable, *torchrun()[:-1], str(script), recipe, str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert finished.returncode == 0, finished.stderr
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one)
