"""One process at a time in a run directory, and nothing left of the lock."""

import os
from pathlib import Path

import pytest
from tests.conftest import small_recipe
from tests.fake_runs import fake_run, locked_elsewhere

from mien.data import FaceSamples, Split
from mien.errors import Interrupted, RunBusyError, RunExistsError
from mien.evaluation.evaluate import evaluate_and_store
from mien.evaluation.predictor import RunPredictor
from mien.runs import locked
from mien.training import fit


def test_the_second_process_is_refused_and_told_of_the_first(tmp_path: Path, drawn: FaceSamples) -> None:
    folder = tmp_path / "run"
    with locked_elsewhere(folder) as other:
        for resume in (False, True):
            with pytest.raises(RunBusyError, match=f"process {other.pid} of "):
                fit(small_recipe(), drawn, folder, resume=resume, accelerator="cpu")
        assert [path.name for path in folder.iterdir()] == [".lock"]
    with locked(folder):  # a killed process keeps nobody out
        pass
    assert not (folder / ".lock").exists()


def test_evaluating_into_a_folder_in_use_is_refused_before_the_work(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fit(small_recipe(training={"epochs": 1}), drawn, tmp_path / "run", accelerator="cpu")
    before = run.report_path.read_bytes()
    predictor = RunPredictor(run, "cpu")
    with locked_elsewhere(run.path):
        with pytest.raises(RunBusyError):
            evaluate_and_store(predictor, drawn, Split.PRIVATE_TEST)
        with pytest.raises(RunBusyError):  # the look is noted with the run
            evaluate_and_store(predictor, drawn, Split.PRIVATE_TEST, out=tmp_path / "elsewhere")
        evaluate_and_store(predictor, drawn, Split.VALIDATION, out=tmp_path / "validated")
    assert run.report_path.read_bytes() == before
    assert not (tmp_path / "elsewhere").exists()
    assert not run.looks()


def test_folders_made_for_a_lock_go_where_nothing_was_written(tmp_path: Path, drawn: FaceSamples) -> None:
    with locked(tmp_path / "a" / "b"), locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / ".lock").exists()
    assert not (tmp_path / "a").exists()
    with locked(tmp_path / "a" / "b"):
        fake_run(tmp_path / "a" / "b" / "run", drawn)
    assert os.listdir(tmp_path / "a" / "b") == ["run"]
    (tmp_path / "file").write_text("")
    with pytest.raises(RunExistsError, match="got the file"), locked(tmp_path / "file"):
        pass


def test_a_signal_ends_the_wait_for_a_folder(tmp_path: Path) -> None:
    asked: list[int] = []

    def stop_signal() -> int | None:
        asked.append(2)
        return 2 if len(asked) > 1 else None

    waiting = locked(tmp_path, wait=True, stop_signal=stop_signal)
    with locked_elsewhere(tmp_path), pytest.raises(Interrupted) as stopped, waiting:
        pass
    assert stopped.value.signal_number == 2
    assert len(asked) == 2
    with locked(tmp_path, wait=True, stop_signal=stop_signal):  # free: nothing to wait for
        assert len(asked) == 2
