"""CK+48 and JAFFE in the layouts of the wild, written of drawn faces: classes, subjects, and what is left out."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.data.layouts import encode

from mien.data import FaceSamples, ReadOptions, Split, read_samples
from mien.data.layouts.subjects import known_subjects, subject_of
from mien.emotions import EMOTIONS
from mien.errors import CallError, DataError

CK_FOLDERS = ("anger", "disgust", "fear", "happy", "sadness", "surprise", "contempt")
PEOPLE = ("S010", "S011", "S022")
JAFFE_CODES = ("AN", "DI", "FE", "HA", "SA", "SU", "NE")


def ck_files(drawn: FaceSamples) -> dict[str, bytes]:
    """Path below CK+48 -> picture: three people, seven classes, three frames of each sequence."""
    names = [
        f"{folder}/{person}_{1 + number:03}_{14 + frame:08}.png"
        for person in PEOPLE
        for number, folder in enumerate(CK_FOLDERS)
        for frame in range(3)
    ]
    return {name: encode(image) for name, image in zip(names, drawn.images, strict=False)}


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def jaffe_files(drawn: FaceSamples) -> dict[str, bytes]:
    """Name -> TIFF of 256 x 256, as the 213 are called."""
    names = [f"{person}.{code}{1 + n % 3}.{n}.tiff" for n, (person, code) in enumerate(_people_and_codes())]
    return {name: tiff(image) for name, image in zip(names, drawn.images, strict=False)}


def _people_and_codes() -> list[tuple[str, str]]:
    return [(person, code) for person in ("KA", "MK", "YM") for code in JAFFE_CODES]


def tiff(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).resize((256, 256)).save(stream, "TIFF")
    return stream.getvalue()


def parquet(path: Path, files: dict[str, bytes], labels: list[object], **columns: list[str]) -> Path:
    pq.write_table(pa.table({"image": list(files.values()), "label": labels, **columns}), path)
    return path


def test_folders_of_ck_tell_people_and_leave_contempt_out(drawn: FaceSamples, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "CK+48", ck_files(drawn))
    own = read_samples(f"folder:{root}")
    assert len(own.classes) == 7
    assert "contempt" in own.classes
    found = read_samples(f"folder:{root}", ReadOptions(skip_unmapped=True))
    assert found.classes == tuple(EMOTIONS)
    assert len(found) == 54
    assert len(found.skipped) == 9
    assert all("of class contempt" in line for line in found.skipped)
    assert np.bincount(found.labels, minlength=7).tolist() == [9, 9, 9, 9, 9, 9, 0]
    assert found.groups is not None
    assert found.paths is not None
    told = {path.rpartition("/")[2][:4]: int(group) for path, group in zip(found.paths, found.groups, strict=True)}
    assert told == {"S010": 0, "S011": 1, "S022": 2}
    assert len(found.split(Split.PUBLISHED_TEST)) == 54


def test_a_pattern_of_ones_own_comes_before_known_names(drawn: FaceSamples, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "ck", ck_files(drawn))
    by_session = read_samples(f"folder:{root}", ReadOptions(group=r"S\d+_(\d+)_", skip_unmapped=True))
    assert by_session.groups is not None
    assert len(np.unique(by_session.groups)) == 6


def test_other_names_tell_no_people() -> None:
    assert subject_of("a/KA.AN1.39.tiff") == "KA"
    assert subject_of("x/YM.SU3.60.tiff.png") == "YM"
    assert subject_of("S010_004_00000017.png") == "S010"
    for name in ("S010.png", "S010_004_000000171.png", "KA.XX1.39.tiff", "XA.AN1.39.tiff", "1203.jpg"):
        assert subject_of(name) is None
    assert known_subjects(["S010_004_00000017.png", "other.png"]) is None


@pytest.mark.parametrize("kind", ["folder", "zip", "named"])
def test_the_flat_folder_of_jaffe(drawn: FaceSamples, tmp_path: Path, kind: str) -> None:
    files = jaffe_files(drawn)
    root = write_folder(tmp_path / "jaffe", {**files, "README.txt": b"read me"})
    if kind == "zip":
        root = tmp_path / "jaffe.zip"
        with zipfile.ZipFile(root, "w") as archive:
            for name, content in files.items():
                archive.writestr(f"jaffe/{name}", content)
    found = read_samples(f"jaffe:{root}" if kind == "named" else str(root))
    assert len(found) == 21
    assert found.size == 48
    assert found.classes == tuple(EMOTIONS)
    assert np.bincount(found.labels).tolist() == [3] * 7
    assert found.paths is not None
    assert found.groups is not None
    codes = [EMOTIONS[JAFFE_CODES.index(path.rpartition("/")[2][3:5])] for path in found.paths]
    assert [found.classes[label] for label in found.labels] == codes
    assert np.bincount(found.groups).tolist() == [7, 7, 7]
    large = read_samples(str(root), ReadOptions(size=96))
    assert large.images.shape == (21, 96, 96)


def test_jaffe_in_class_folders_is_read_by_these(drawn: FaceSamples, tmp_path: Path) -> None:
    files = {f"{EMOTIONS[JAFFE_CODES.index(name[3:5])]}/{name}": data for name, data in jaffe_files(drawn).items()}
    found = read_samples(str(write_folder(tmp_path / "sorted", files)))
    assert found.name == "folder:sorted"
    assert found.groups is not None
    assert len(np.unique(found.groups)) == 3


def test_another_name_in_jaffe_is_an_error(drawn: FaceSamples, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "jaffe", {**jaffe_files(drawn), "KA.mean.tiff": tiff(drawn.images[0])})
    with pytest.raises(DataError, match=r"KA\.mean\.tiff: expected a name such as KA\.AN1\.39\.tiff"):
        read_samples(f"jaffe:{root}")


def csv(path: Path, drawn: FaceSamples, numbers: list[int], extra: str = "") -> Path:
    """``ckextended.csv``: FER-2013's numbers, contempt is 7."""
    usages = ["Training"] * 8 + ["PublicTest", "PrivateTest"]
    lines = [f"emotion,pixels,Usage{',subject' if extra else ''}"]
    for number, image, usage in zip(numbers, drawn.images, usages, strict=False):
        subject = f",{extra}{number % 2}" if extra else ""
        lines.append(f"{number},{' '.join(map(str, image.ravel().tolist()))},{usage}{subject}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_contempt_in_a_csv_is_left_out_counted_and_told(drawn: FaceSamples, tmp_path: Path) -> None:
    path = csv(tmp_path / "ckextended.csv", drawn, [0, 1, 7, 3, 4, 5, 6, 7, 0, 1])
    with pytest.raises(DataError, match=r"line 4: .*got '7'.*--label-map.*--skip-unmapped"):
        read_samples(str(path))
    found = read_samples(str(path), ReadOptions(skip_unmapped=True))
    assert found.labels.tolist() == [0, 1, 3, 4, 5, 6, 0, 1]
    assert found.rows.tolist() == [0, 1, 3, 4, 5, 6, 8, 9]  # of the file
    assert [line.rpartition("line ")[2] for line in found.skipped] == [
        f"{n}: of class 7, which is no emotion" for n in (4, 9)
    ]
    assert (found.images == drawn.images[found.rows]).all()
    assert found.groups is None
    with pytest.raises(DataError, match="got 2 of other classes"):
        read_samples(str(csv(tmp_path / "none.csv", drawn, [7, 8])), ReadOptions(skip_unmapped=True))


def test_a_column_of_a_csv_tells_people(drawn: FaceSamples, tmp_path: Path) -> None:
    found = read_samples(str(csv(tmp_path / "ck.csv", drawn, [0, 1, 2, 3, 4, 5, 6, 0, 1, 2], extra="P")))
    assert found.groups is not None
    assert found.groups.tolist() == [0, 1, 0, 1, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("told_by", ["subject", "name"])
def test_parquet_of_ck_by_the_columns_that_tell_people(drawn: FaceSamples, tmp_path: Path, told_by: str) -> None:
    files = ck_files(drawn)
    names = [name.rpartition("/")[2] for name in files]
    columns = {"name": names} if told_by == "name" else {"subject": [name[:4] for name in names]}
    path = parquet(tmp_path / "ck48.parquet", files, [name.partition("/")[0] for name in files], **columns)
    with pytest.raises(DataError, match=r"row 19: .*got 'contempt'.*--skip-unmapped"):
        read_samples(str(path))
    found = read_samples(str(path), ReadOptions(skip_unmapped=True))
    assert (found.name, len(found), len(found.skipped)) == ("custom", 54, 9)
    assert found.groups is not None
    assert np.bincount(found.groups).tolist() == [18, 18, 18]
    assert not np.isin(found.rows, [18, 19, 20]).any()
    same = read_samples(f"parquet:{path}", ReadOptions(skip_unmapped=True))
    assert (same.images == found.images).all()
    assert (same.rows == found.rows).all()
    assert (same.labels == found.labels).all()
    assert same.groups is not None
    assert (same.groups == found.groups).all()
    own = read_samples(f"parquet:{path}")
    assert own.classes == tuple(sorted(CK_FOLDERS))
    assert len(own) == 63


def test_parquet_of_larger_pictures_and_subjects_is_kept_in_the_cache(drawn: FaceSamples, tmp_path: Path) -> None:
    files = jaffe_files(drawn)
    labels: list[object] = [str(EMOTIONS[JAFFE_CODES.index(name[3:5])]) for name in files]
    path = parquet(tmp_path / "jaffe.parquet", files, labels, name=list(files))
    for _ in range(2):  # read, then mapped from the cache
        found = read_samples(str(path))
        assert found.name == "parquet:jaffe"
        assert found.images.shape == (21, 48, 48)
        assert found.groups is not None
        assert np.bincount(found.groups).tolist() == [7, 7, 7]
        assert len(found.split(Split.PUBLISHED_TEST)) == 21
    assert read_samples(str(path), ReadOptions(size=64)).images.shape == (21, 64, 64)


def test_parquet_without_subjects_refuses_to_be_grouped(drawn: FaceSamples, tmp_path: Path) -> None:
    files = jaffe_files(drawn)
    path = parquet(tmp_path / "faces.parquet", files, [n % 7 for n in range(len(files))])
    assert read_samples(str(path)).classes == tuple("0123456")
    with pytest.raises(CallError, match=r"data\.group"):
        read_samples(str(path), ReadOptions(group="(x)"))
    with pytest.raises(DataError, match="expected Parquet files"):
        read_samples(f"parquet:{write_folder(tmp_path / 'ck', ck_files(drawn))}")
