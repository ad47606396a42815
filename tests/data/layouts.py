"""Writers of the layouts in which FER-2013 is in the wild."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mien.data import FaceSamples
from mien.emotions import EMOTIONS

USAGE_NAMES = ("Training", "PublicTest", "PrivateTest")
TRAIN_TEST = ("train", "test", "test")
MACOS_JUNK = {"__MACOSX/train/angry/._1.png": b"junk", "train/angry/.DS_Store": b"junk", "train/readme.txt": b"text"}


def pixel_text(image: np.ndarray) -> str:
    return " ".join(map(str, image.ravel().tolist()))


def encode(image: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def csv_text(faces: FaceSamples, columns: tuple[str, ...], quote: str = "", end: str = "\n") -> str:
    """Rows in the faces' order; each of ``columns`` is a spelling of emotion, pixels or Usage."""
    lines = [",".join(f"{quote}{column}{quote}" for column in columns)]
    for image, label, usage in zip(faces.images, faces.labels, faces.usages, strict=True):
        cells = {"emotion": str(label), "pixels": pixel_text(image), "usage": USAGE_NAMES[usage]}
        lines.append(",".join(f"{quote}{cells[column.strip().lower()]}{quote}" for column in columns))
    return end.join(lines) + end


def part(faces: FaceSamples, usages: tuple[int, ...]) -> FaceSamples:
    kept = np.flatnonzero(np.isin(faces.usages, usages))
    return subset(faces, kept)


def subset(faces: FaceSamples, kept: np.ndarray) -> FaceSamples:
    return FaceSamples(
        faces.images[kept], faces.labels[kept], faces.rows[kept], faces.usages[kept], faces.name, faces.row_source
    )


def tree_files(
    faces: FaceSamples,
    splits: tuple[str, str, str] = TRAIN_TEST,
    classes: tuple[str, ...] = EMOTIONS,
    kind: str = "PNG",
    suffix: str = ".png",
) -> dict[str, bytes]:
    """Class folders: name -> content. The names are out of the faces' order."""
    return {
        "/".join(filter(None, (splits[usage], classes[label], f"{(row * 7919) % 100_003}{suffix}"))): encode(
            image, kind
        )
        for image, label, row, usage in zip(faces.images, faces.labels, faces.rows, faces.usages, strict=True)
    }


def write_files(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def parquet_bytes(
    faces: FaceSamples, struct: bool = False, class_names: list[str] | None = None, with_labels: bool = True
) -> bytes:
    """``image`` and ``label``; ``class_names`` number the labels as the hub notes it in the metadata."""
    images: list[object] = [encode(image) for image in faces.images]
    if struct:
        images = [{"bytes": image, "path": None} for image in images]
    labels = [class_names.index(EMOTIONS[label]) if class_names else label for label in faces.labels.tolist()]
    table = pa.table({"image": images, "label": labels} if with_labels else {"image": images})
    if class_names:
        features = {"info": {"features": {"label": {"names": class_names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def _parquet_parts(faces: FaceSamples, **options: object) -> dict[str, bytes]:
    names = {"training-0.parquet": (0,), "public_test.parquet": (1,), "private_test.parquet": (2,)}
    return {name: parquet_bytes(part(faces, usages), **options) for name, usages in names.items()}  # type: ignore[arg-type]


def _train_and_test(faces: FaceSamples) -> dict[str, bytes]:
    train, test = part(faces, (0,)), part(faces, (1, 2))
    return {
        "train.csv": csv_text(train, ("emotion", "pixels")).encode(),
        "test.csv": csv_text(test, ("emotion", "pixels")).encode(),
    }


def _challenge(faces: FaceSamples) -> bytes:
    return csv_text(faces, ("emotion", "pixels", "Usage")).encode()


def _icml(faces: FaceSamples) -> bytes:
    return csv_text(faces, ("emotion", " Usage", " pixels")).encode()


def _competition(faces: FaceSamples) -> dict[str, bytes]:
    """What the challenge's page hands out together."""
    test = csv_text(part(faces, (1, 2)), ("pixels",)).encode()
    return {
        **_train_and_test(faces),
        "test.csv": test,
        "icml_face_data.csv": _icml(faces),
        "example_submission.csv": b"id,emotion\n1,0\n",
    }


def _one(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


LOSSLESS: dict[str, Callable[[Path, FaceSamples], Path]] = {
    "challenge csv": lambda root, faces: _one(root / "fer2013.csv", _challenge(faces)),
    "csv without a csv's name": lambda root, faces: _one(root / "faces.dat", _challenge(faces)),
    "icml csv": lambda root, faces: _one(root / "icml_face_data.csv", _icml(faces)),
    "quoted csv with mark and carriage returns": lambda root, faces: _one(
        root / "a.csv", csv_text(faces, ("PIXELS", "usage", "Emotion"), '"', "\r\n").encode("utf-8-sig")
    ),
    "gzipped csv": lambda root, faces: _one(root / "a.csv.gz", gzip.compress(_challenge(faces), 1)),
    "train and test csv": lambda root, faces: write_files(root / "two", _train_and_test(faces)),
    "the challenge's files": lambda root, faces: write_files(root / "all", _competition(faces)),
    "zip of csv": lambda root, faces: write_zip(root / "a.zip", {"fer2013/fer2013.csv": _challenge(faces)}),
    "zip of the challenge's files": lambda root, faces: write_zip(root / "a.zip", _competition(faces)),
    "zip of pictures": lambda root, faces: write_zip(
        root / "a.zip", {f"archive/{name}": content for name, content in (tree_files(faces) | MACOS_JUNK).items()}
    ),
    "parquet folder": lambda root, faces: write_files(root / "pq", _parquet_parts(faces)),
    "parquet folder of the hub": lambda root, faces: (
        write_files(root / "hub/data", _parquet_parts(faces, struct=True, class_names=sorted(EMOTIONS))).parent
    ),
    "zip of parquet": lambda root, faces: write_zip(root / "a.zip", _parquet_parts(faces)),
    "parquet file": lambda root, faces: _one(root / "faces.bin", parquet_bytes(faces)),
    "pictures": lambda root, faces: write_files(root / "tree", tree_files(faces) | MACOS_JUNK),
    "pictures by usage and number": lambda root, faces: write_files(
        root / "tree", tree_files(faces, USAGE_NAMES, tuple("0123456"), suffix=".PNG")
    ),
    "pictures in train, validation, test": lambda root, faces: write_files(
        root / "tree", tree_files(faces, ("train", "validation", "test"), tuple(name.upper() for name in EMOTIONS))
    ),
    "pictures without splits": lambda root, faces: write_files(root / "tree", tree_files(faces, ("", "", ""))),
    "pictures as bitmaps": lambda root, faces: write_files(root / "tree", tree_files(faces, kind="BMP", suffix=".bmp")),
}
"""Name -> writer of a lossless layout; it returns the path to read."""
