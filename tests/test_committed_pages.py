"""No page, picture or notebook of this repository holds a face of FER-2013.

A face is found by the hash of its exact pixels, as it is or mirrored, at 48 px or enlarged without smoothing. What was
changed further (JPEG, another crop) is not found: hashes are all that the project may hold of these pictures.
"""

import base64
import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from PIL import Image, ImageSequence

from mien.data import FaceSamples, read_samples
from mien.data.index import load_index
from mien.data.samples import picture_hashes
from mien.report.evidence import face_address
from mien.report.run_page import write_run_page
from tests.conftest import SHARED
from tests.fake_runs import fake_run

ROOT = Path(__file__).resolve().parents[1]
PAGES = {".html", ".md", ".svg", ".ipynb"}
PICTURES = {".gif", ".jpeg", ".jpg", ".png", ".webp"}
EMBEDDED = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,([A-Za-z0-9+/=\s]{20,})")


def committed() -> list[str]:
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = [name for name in listed.stdout.split("\0") if Path(name).suffix.lower() in PAGES | PICTURES]
    return [name for name in names if (ROOT / name).is_file()]


def pictures_in(path: Path) -> Iterator[bytes]:
    """Every picture of a file, as it is stored."""
    if path.suffix.lower() in PICTURES:
        yield path.read_bytes()
        return
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        for cell in cells:
            yield from map(base64.b64decode, _attached(cell))
        text = "\n".join("".join(cell["source"]) for cell in cells)
    yield from (base64.b64decode(found[1]) for found in EMBEDDED.finditer(text))


def _attached(cell: dict[str, Any]) -> Iterator[str]:
    """Pictures in a cell's attachments and outputs, in base64."""
    bundles = [*cell.get("attachments", {}).values(), *(output.get("data", {}) for output in cell.get("outputs", []))]
    for bundle in bundles:
        yield from ("".join(value) for kind, value in bundle.items() if kind in ("image/png", "image/jpeg"))


def holds_face(picture: bytes, known: set[int]) -> bool:
    """Whether one of the picture's frames, or its mirror image, is a face of these hashes."""
    with Image.open(io.BytesIO(picture)) as opened:
        small = [
            np.asarray(frame.convert("L").resize((48, 48), Image.Resampling.BOX))
            for frame in ImageSequence.Iterator(opened)
        ]
    faces = np.stack(small + [face[:, ::-1] for face in small])
    return not known.isdisjoint(picture_hashes(faces).tolist())


def faces_in(path: Path, known: set[int]) -> int:
    return sum(holds_face(picture, known) for picture in pictures_in(path))


@pytest.fixture(scope="module")
def fer2013() -> set[int]:
    hashes = load_index().picture_hashes
    assert len(hashes) == 35887
    return set(hashes.tolist())


@pytest.mark.skipif(not committed(), reason="this is no git checkout")
def test_nothing_that_is_committed_holds_a_face(fer2013: set[int]) -> None:
    assert not {name for name in committed() if faces_in(ROOT / name, fer2013)}


@pytest.mark.skipif(not committed(), reason="this is no git checkout")
def test_notebooks_are_committed_without_outputs() -> None:
    for name in (name for name in committed() if name.endswith(".ipynb")):
        cells = nbformat.read(ROOT / name, as_version=4).cells
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), name


def plant(folder: Path, face: np.ndarray) -> list[Path]:
    """One file of each kind with the face in it."""
    address = face_address(face)
    notebook = {"cells": [{"source": ["nothing"], "attachments": {"a.png": {"image/png": address.partition(",")[2]}}}]}
    output = {"cells": [{"source": "", "outputs": [{"data": {"image/png": [address.partition(",")[2], "\n"]}}]}]}
    texts = {
        "page.html": f'<p>before</p><img alt="" src="{address}">',
        "drawing.svg": f'<svg><image href="{address}"/></svg>',
        "text.md": f"![]({address})",
        "source.ipynb": json.dumps({"cells": [{"source": ["text\n", f"![]({address})"]}]}),
        "attached.ipynb": json.dumps(notebook),
        "output.ipynb": json.dumps(output),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    picture = Image.fromarray(face)
    pictures = {
        "plain.png": picture,
        "mirrored.png": Image.fromarray(np.ascontiguousarray(face[:, ::-1])),
        "colour.png": picture.convert("RGB"),
        "large.webp": picture.resize((96, 96), Image.Resampling.NEAREST),
    }
    for name, planted in pictures.items():
        planted.save(folder / name, lossless=True)
    picture.convert("P").save(
        folder / "second.gif", save_all=True, append_images=[Image.new("P", (48, 48))], disposal=2
    )
    return [folder / name for name in (*texts, *pictures, "second.gif")]


def test_a_planted_face_is_found(tmp_path: Path, drawn: FaceSamples) -> None:
    known = set(picture_hashes(drawn.images[:1]).tolist())
    for path in plant(tmp_path, drawn.images[0]):
        assert faces_in(path, known) == 1, path.name
    for path in plant(tmp_path, drawn.images[1]):
        assert faces_in(path, known) == 0, path.name


def test_the_faces_of_a_report_are_found(tmp_path: Path, drawn: FaceSamples) -> None:
    known = set(picture_hashes(drawn.images).tolist())
    run = fake_run(tmp_path, drawn)
    run.metrics_path.unlink()
    assert faces_in(write_run_page(run, drawn), known) > 10
    assert faces_in(write_run_page(run, drawn, pictures=False), known) == 0


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "fer2013").exists(), reason="FER-2013 is not beside the project")
def test_a_planted_face_of_fer2013_is_found(tmp_path: Path, fer2013: set[int]) -> None:
    face = np.array(read_samples(f"fer2013:{SHARED / 'fer2013'}").images[-1])
    for path in plant(tmp_path, face):
        assert faces_in(path, fer2013) == 1, path.name
