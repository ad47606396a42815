"""The notebooks run from top to bottom, here on few drawn faces, and hold no outputs."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from mien.runs import Run

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
SMALL = """
DATA = None if DATA is None else "synthetic:140"
DRAWN = 245
SETTINGS = ["training.epochs=1", "schedule.name=constant"]
"""


def open_notebook(path: Path, folder: Path, settings: str = SMALL) -> tuple[Any, NotebookClient]:
    notebook = nbformat.read(path, as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source += settings
    client = NotebookClient(notebook, timeout=300, startup_timeout=180, resources={"metadata": {"path": str(folder)}})
    return notebook, client


def outputs_of(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook, client = open_notebook(path, tmp_path)
    client.execute(env=dict(os.environ))
    outputs = outputs_of(notebook)
    pages = [output.get("data", {}).get("text/html", "") for output in outputs]
    assert any("<progress value=" in page and "training " in page for page in pages)
    assert any("data:image/svg+xml" in page for page in pages)
    (index,) = tmp_path.glob("runs/*/index.html")
    assert any(f'href="{index.relative_to(tmp_path).as_posix()}"' in page for page in pages)
    (table,) = (page for page in pages if "accuracy on test" in page)
    assert table.count("\N{NO-BREAK SPACE}%") == 2 * (table.count("<tr>") - 1)
    faces = [page for page in pages if "data:image/png" in page]
    assert faces
    assert all("of validation, labelled" in page and page.count("<tr>") >= 5 for page in faces)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    runs = [Run(report.parent) for report in tmp_path.glob("runs/*/*/report.json")]
    assert len(runs) == len(faces)
    assert all("a notebook" in (run.path / "looks.jsonl").read_text() for run in runs)
    if path.stem == "4_your_own_folders":
        said = "".join(output.get("text", "") for output in outputs)
        assert "5 classes: calm, cheerful, startled, upset, worried" in said
        assert said.splitlines()[-1].split(": ")[1].split(",")[0] in runs[0].load_report().classes


def test_an_interrupted_kernel_saves_and_the_cell_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = 'DATA = "synthetic:140"\nRECIPES = ["smoke/baseline_cnn"]\nSETTINGS = ["training.epochs=5000"]\n'
    notebook, client = open_notebook(NOTEBOOKS[0], tmp_path, "\n" + settings)

    def interrupt() -> None:
        deadline = time.monotonic() + 240
        while not list(tmp_path.glob("runs/*/*/metrics.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(client.km.provisioner.process.pid, signal.SIGINT)  # as Jupyter does

    threading.Thread(target=interrupt).start()
    with pytest.raises(CellExecutionError):
        client.execute(env=dict(os.environ))
    (run,) = (Run(path.parents[1]) for path in tmp_path.glob("runs/*/*/checkpoints/last.ckpt"))
    assert not run.report_path.exists()
    (error,) = (output for output in outputs_of(notebook) if output.output_type == "error")
    assert (error.ename, len(error.traceback)) == ("Stopped", 1)
    assert "run this cell again to go on" in error.traceback[0]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
