"""The notebooks run from top to bottom, here on few drawn faces, and hold no outputs."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
SMALL = """
DATA = "synthetic:140"
SETTINGS = ["training.epochs=1", "schedule.name=constant"]
PICTURE = "face.png"
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from mien.data.synthetic import draw_faces

    Image.fromarray(draw_faces(7).images[0]).save(tmp_path / "face.png")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source += SMALL
    client = NotebookClient(notebook, timeout=300, startup_timeout=180, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=dict(os.environ))
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("data:image/svg+xml" in output.get("data", {}).get("text/html", "") for output in shown)
    assert any("'happy'" in output.get("text", "") for output in shown)
    assert (tmp_path / "runs" / "notebook" / "index.html").exists()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
