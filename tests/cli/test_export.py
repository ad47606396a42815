"""``mien export`` and ``mien evaluate MODEL.onnx``, through the real entry point."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import small_recipe
from tests.face.tiny_network import write_network

from mien.cli import main
from mien.data import FaceSamples, Split
from mien.evaluation import load_predictions
from mien.face.network import EmotionNetwork
from mien.runs import Run
from mien.runs.checkpoint import create_run
from mien.training import fit

DATA = ("--data", "synthetic:210")
JSON = ("--format", "json")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mien", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, drawn: FaceSamples) -> Run:
    recipe = small_recipe(training={"epochs": 1}, data={"protocol": "published", "validation_rows": 30})
    return fit(recipe, drawn, tmp_path_factory.mktemp("cli") / "run", accelerator="cpu")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["export", "nowhere", "--out", "some.onnx"], 2, "no run at nowhere"),
        (["export", "empty", "--out", "some.onnx"], 1, "holds no run"),
        (["export", "unfinished", "--out", "some.onnx"], 1, "its training has not ended"),
        (["export", "unfinished", "--out", "some.onnx", "--int8"], 2, "--int8 needs --data"),
        (["export", "unfinished", "--out", "some.onnx", *DATA], 2, "leave --data out"),
        (["export", "unfinished", "--out", "some.pt"], 2, "ends in .onnx"),
        (["export", "unfinished"], 2, "--out"),
        (["evaluate", "nowhere.onnx", *DATA], 2, "no model at nowhere.onnx"),
        (["evaluate", "text.onnx", *DATA], 1, "expected an ONNX network"),
        (["evaluate", "small.onnx", *DATA], 1, "expected faces of 14 x 14"),
        (["evaluate", "tiny.onnx", *DATA, "--views", "3"], 2, "expected --views 1, 2 or 10, got 3"),
        (["evaluate", "tiny.onnx", *DATA, "--split", "tests"], 2, "unknown split"),
        (["evaluate", "tiny.onnx", *DATA, "--accelerator", "cuda"], 2, "runs on the processor"),
    ],
)
def test_wrong_calls_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    create_run(tmp_path / "unfinished", small_recipe())
    (tmp_path / "text.onnx").write_text("no network")
    write_network(tmp_path / "tiny.onnx")
    write_network(tmp_path / "small.onnx", size=14)
    assert call(monkeypatch, *arguments) == code
    shown = capfd.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert not (tmp_path / "some.onnx").exists()


def test_an_exported_run_is_evaluated_as_the_run_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, run: Run, drawn: FaceSamples
) -> None:
    file = tmp_path / "some.onnx"
    assert call(monkeypatch, "export", run.path, "--out", file) == 0
    assert "differ by at most" in capfd.readouterr().out
    most_frequent = run.load_report().most_frequent
    assert most_frequent is not None
    assert call(monkeypatch, "evaluate", file, *DATA) == 0
    assert f"always {most_frequent}" in capfd.readouterr().out
    for options in ((), ("--views", "2"), ("--views", "10", "--split", "published_test")):
        assert call(monkeypatch, "evaluate", file, *DATA, *options, *JSON) == 0
        by_file = json.loads(capfd.readouterr().out)
        out = tmp_path / f"run{len(options)}"
        assert (
            call(monkeypatch, "evaluate", run.path, *DATA, *options, *JSON, "--accelerator", "cpu", "--out", out) == 0
        )
        by_run = json.loads(capfd.readouterr().out)
        assert by_file.keys() == by_run.keys()
        for name, found in by_file.items():
            assert found["n"] == by_run[name]["n"]
            assert found["nll"] == pytest.approx(by_run[name]["nll"], abs=1e-5)
            assert found["views"] == by_run[name]["views"]
    # Nothing was asked for: the file's folder is as it was, and the run knows of no more than its own figures.
    assert {path.name for path in tmp_path.iterdir()} == {"some.onnx", "some.learnt.npy", "run0", "run2", "run4"}
    assert run.load_report().splits == ("validation",)
    assert (tmp_path / "run4" / "report.html").exists()
    looks = [json.loads(line)["split"] for line in (run.path / "looks.jsonl").read_text().splitlines()]
    assert sorted(looks) == ["private_test", "public_test", "published_test"]
    assert len((tmp_path / "run4" / "looks.jsonl").read_text().splitlines()) == 3


def test_out_holds_predictions_figures_and_looks_of_one_file(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, drawn: FaceSamples
) -> None:
    file, out = write_network(tmp_path / "tiny.onnx"), tmp_path / "out"
    for split in ("validation", "private_test"):
        assert call(monkeypatch, "evaluate", file, *DATA, "--split", split, "--out", out, *JSON) == 0
    printed = json.loads(capfd.readouterr().out.split("\n}\n")[1] + "}")
    report = json.loads((out / "report.json").read_text())
    assert report["results"].keys() == {"validation", "private_test"}  # what a file learnt from is not known
    assert report["results"]["private_test"] == printed["private_test"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (report["sha256"], report["bytes"], report["model"]) == (digest, file.stat().st_size, "tiny")
    assert report["data_sha256"] == drawn.content_sha256()
    assert "recipe" not in report  # a file does not say it
    (look,) = [json.loads(line) for line in (out / "looks.jsonl").read_text().splitlines()]
    assert (look["split"], look["model_sha256"]) == ("private_test", digest)
    stored = load_predictions(out / "predictions" / "private_test.npz")
    positions = drawn.split(Split.PRIVATE_TEST)
    np.testing.assert_array_equal(stored.row, drawn.rows[positions])
    np.testing.assert_allclose(
        stored.probabilities, EmotionNetwork(file).probabilities(drawn.images[positions]), atol=1e-6
    )
    assert call(monkeypatch, "evaluate", write_network(tmp_path / "b.onnx"), *DATA, "--out", out) == 2
    assert "choose another --out" in capfd.readouterr().err
    assert json.loads((out / "report.json").read_text()) == report


def test_a_file_is_evaluated_without_the_laboratory(tmp_path: Path) -> None:
    write_network(tmp_path / "tiny.onnx")
    program = (
        "import sys\n"
        "for name in ('torch', 'timm', 'lightning_fabric', 'onnx'): sys.modules[name] = None\n"
        "from mien.cli import main\n"
        "sys.argv = ['mien', 'evaluate', 'tiny.onnx', '--data', 'synthetic:70', '--views', '10', '--format', 'json']\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["validation"]["n"] == 7


def test_a_network_of_the_package_is_evaluated_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "evaluate", "nano", "--data", "synthetic:70", *JSON) == 0
    assert json.loads(capfd.readouterr().out)["validation"]["n"] == 7
    (tmp_path / "nano").mkdir()  # what lies there comes first
    assert call(monkeypatch, "evaluate", "nano", "--data", "synthetic:70") == 1
    assert "nano holds no run" in capfd.readouterr().err


def test_int8_states_what_it_costs(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, run: Run
) -> None:
    assert call(monkeypatch, "export", run.path, "--out", tmp_path / "some.onnx", "--int8", *DATA) == 0
    said = capfd.readouterr().out
    accuracy = run.load_report().headline().accuracy.value
    assert f"validation accuracy {accuracy:.2%} in float32" in said
    assert "in int8" in said
    assert "points" in said
    again = "export", run.path, "--out", tmp_path / "some.onnx", "--int8", *DATA, *JSON
    assert call(monkeypatch, *again) == 2
    assert "add --force" in capfd.readouterr().err
    assert call(monkeypatch, *again, "--force") == 0
    written = json.loads(capfd.readouterr().out)
    assert written["path"] == str(tmp_path / "some.onnx")
    assert written["size"] == (tmp_path / "some.onnx").stat().st_size
    assert written["float32_accuracy"] == accuracy


def test_what_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, run: Run
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert call(monkeypatch, "export", run.path, "--out", tmp_path / "some.onnx") == 1
    assert 'pip install "mien[train]"' in capfd.readouterr().err


def test_a_protocol_that_there_is_not_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import onnx

    file = write_network(tmp_path / "tiny.onnx")
    network = onnx.load(file)
    network.metadata_props.add(key="protocol", value="train")
    onnx.save(network, file)
    assert call(monkeypatch, "evaluate", file, *DATA) == 1
    assert "expected a protocol (contest, published)" in capfd.readouterr().err
