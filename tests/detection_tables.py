"""A folder of detection tables with drawn faces."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mien.data import draw_faces
from mien.data.detection import DetectionSamples, read_detection


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def points_of(parts: dict[str, np.ndarray], index: int) -> np.ndarray:
    """Eyes, nose and corners of the mouth from the boxes of a drawn face's parts: ``(5, 2)``."""
    eyes, nose, mouth = (parts[name][index] for name in ("eyes", "nose", "mouth"))
    eye_y, mouth_y = eyes[1] + eyes[3] / 2, mouth[1] + mouth[3] / 2
    return np.array([
        (eyes[0] + 0.22 * eyes[2], eye_y), (eyes[0] + 0.78 * eyes[2], eye_y),
        (nose[0] + nose[2] / 2, nose[1] + nose[3]), (mouth[0], mouth_y), (mouth[0] + mouth[2], mouth_y),
    ])  # fmt: skip


def write_tables(folder: Path, count: int = 16, size: int = 64) -> DetectionSamples:
    """``count`` drawn faces, one a picture, and half as many pictures of noise."""
    drawn, random = draw_faces(count, seed=3, size=size), np.random.default_rng(0)
    rows = []
    for index, face in enumerate(drawn.images):
        points = points_of(drawn.parts, index)
        left, top = points.min(0) - size * 0.14
        right, bottom = points.max(0) + size * np.array([0.14, 0.2])
        rows.append({
            "set": "drawn", "name": f"face {index}", "group": f"person {index // 2}", "image": png(face),
            "boxes": [left, top, right - left, bottom - top], "points": points.ravel().tolist(),
        })  # fmt: skip
    for index in range(count // 2):
        noise = random.integers(0, 256, (size // 4, size // 4, 3), np.uint8)
        noise = np.asarray(Image.fromarray(noise).resize((size, size)))
        rows.append({
            "set": "noise", "name": f"noise {index}", "group": f"noise {index}", "image": png(noise),
            "boxes": [], "points": None,
        })  # fmt: skip
    schema = pa.schema({
        "set": pa.string(), "name": pa.string(), "group": pa.string(), "image": pa.binary(),
        "boxes": pa.list_(pa.float32()), "points": pa.list_(pa.float32()),
    })  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "faces.parquet")
    return read_detection(folder)
