"""``mien doctor`` in installations that are broken in one way each."""

import json
import signal
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_predict import call

from mien import errors
from mien.cli import doctor
from mien.face import network
from mien.pyinstaller import hook_folders


def findings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int) -> list[dict[str, Any]]:
    assert call(monkeypatch, "doctor", "--format", "json") == code
    shown = capsys.readouterr()
    found: list[dict[str, Any]] = json.loads(shown.out)
    broken = [each["name"] for each in found if each["broken"]]
    assert bool(broken) == (code == 1)
    assert all(name in shown.err for name in broken)
    assert all(each["remedy"] for each in found if each["broken"])
    assert "unexpected" not in shown.err
    return found


@pytest.fixture(autouse=True)
def _no_trial(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """It takes a second; the tests of it make it."""
    if "trial" not in request.node.name:
        monkeypatch.setattr(doctor, "TRIAL", "")


@pytest.mark.parametrize("module", ["av", "PIL", "onnxruntime", "numpy"])
@pytest.mark.parametrize("left", [None, types.ModuleType("left")])  # it is gone; an empty folder is left
def test_a_package_that_is_broken_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str, left: types.ModuleType | None
) -> None:
    monkeypatch.setitem(sys.modules, module, left)
    (broken,) = [each for each in findings(monkeypatch, capsys, 1) if each["broken"]]
    assert broken["name"] == module
    assert "pip install --force-reinstall" in broken["remedy"]


@pytest.mark.parametrize(
    ("second", "module"),
    [("onnxruntime_gpu", "onnxruntime"), ("onnxruntime-directml", "onnxruntime"), ("Pillow_SIMD", "PIL")],
)
def test_a_second_owner_of_a_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, second: str, module: str
) -> None:
    (place := tmp_path / f"{second}-9.9.9.dist-info").mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {second}\nVersion: 9.9.9\n")
    (place / "top_level.txt").write_text(module)  # Python 3.12 and later pass over files in RECORD that are not there
    monkeypatch.syspath_prepend(tmp_path)
    (told,) = [each for each in findings(monkeypatch, capsys, 0) if each["name"] == module]
    assert second.lower().replace("_", "-") in told["state"]
    assert "pip uninstall" in told["remedy"]


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("HOME", "MIEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    (cache,) = [each for each in findings(monkeypatch, capsys, 0) if each["name"] == "cache"]
    assert "MIEN_CACHE" in cache["remedy"]


@pytest.mark.parametrize(("place", "is_good"), [("relative", True), ("a-file/cache", False)])
def test_a_cache_that_cannot_be_written_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str, is_good: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("MIEN_CACHE", place)
    (cache,) = [each for each in findings(monkeypatch, capsys, 0) if each["name"] == "cache"]
    assert cache["state"] == place
    assert ("MIEN_CACHE" in cache["remedy"]) != is_good


@pytest.mark.parametrize(
    ("trial", "state"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "the program died of SIGILL"),
        ("import os; os.abort()", f"the program died of {signal.SIGABRT.name}"),
        ("raise ImportError('libfoo.so.1 is missing')", "ImportError: libfoo.so.1 is missing"),
        ("from mien.errors import ModelError; raise ModelError('no model')", "ModelError: no model"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_a_trial_that_fails_is_a_line_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trial: str, state: str
) -> None:
    monkeypatch.setattr(doctor, "TRIAL", trial)
    (broken,) = [each for each in findings(monkeypatch, capsys, 1) if each["broken"]]
    assert (broken["name"], broken["state"]) == ("recognition", state)
    assert "pip install" in broken["remedy"]


@pytest.mark.usefixtures("detector_here")
def test_the_trial_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(monkeypatch, capsys, 0)[-1]["state"] == "a picture was recognized"


def test_a_look_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> dict[str, list[str]]:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "metadata of another package")

    monkeypatch.setattr("importlib.metadata.packages_distributions", broken)
    states = [each["state"] for each in findings(monkeypatch, capsys, 0)]
    assert any("UnicodeDecodeError" in state for state in states)


def test_a_frozen_program_without_networks_says_how_to_freeze_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(network, "ASSETS", tmp_path)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(errors.ModelError, match="pyinstaller --collect-data mien"):
        network.model_file("base")


def test_pyinstaller_finds_the_hook() -> None:
    (folder,) = hook_folders()
    text = (Path(folder) / "hook-mien.py").read_text()
    assert 'collect_data_files("mien")' in text
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pyinstaller40"] == {"hook-dirs": "mien.pyinstaller:hook_folders"}
