import gzip
import io
import logging
import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import SHARED
from tests.data.layouts import (
    LOSSLESS,
    USAGE_NAMES,
    csv_text,
    encode,
    parquet_bytes,
    part,
    pixel_text,
    subset,
    tree_files,
    write_files,
    write_zip,
)

from mien.data import FaceSamples, Protocol, ReadOptions, Split, index
from mien.data.index import NOT_FOUND, ROWS, SURPLUS, PictureIndex, find_rows, load_index, usages_of_rows
from mien.data.layouts import fer2013
from mien.data.layouts.tree import open_tree
from mien.data.samples import RowSource, Usage, picture_hashes
from mien.emotions import EMOTIONS
from mien.errors import DataError, MissingPathError
from mien.runs.learnt import training_of

FER2013 = SHARED / "fer2013"
needs_shared = pytest.mark.skipif(not FER2013.is_dir(), reason=f"the real data are not at {FER2013}")
NO_SPLIT_TOLD = ("", "", "")


def _original(drawn: FaceSamples) -> FaceSamples:
    """Drawn faces as if they were FER-2013: rows as in the file, and copies within and across usages and labels."""
    order = np.argsort(drawn.usages, kind="stable")
    images, labels, usages = drawn.images[order].copy(), drawn.labels[order].copy(), drawn.usages[order]
    first = {usage: int(np.flatnonzero(usages == usage)[0]) for usage in range(3)}
    images[5], labels[5] = images[4], labels[4]  # the same row twice but for its number
    images[7], labels[7] = images[6], (labels[6] + 1) % 7  # the same picture with another label
    images[first[1]], labels[first[1]] = images[8], labels[8]  # Public has a training picture
    images[first[2]], labels[first[2]] = images[9], (labels[9] + 2) % 7  # Private too, labelled otherwise
    images[first[2] + 1] = images[first[1] + 1]  # a picture in both tests
    rows = np.empty(len(images), np.int32)
    for usage, start in enumerate((100, 28_709, 32_298)):
        rows[usages == usage] = start + 3 * np.arange(np.count_nonzero(usages == usage))
    return FaceSamples(images, labels, rows, usages, "fer2013", RowSource.INDEX)


def read_fer2013(path: Path, options: ReadOptions | None = None) -> FaceSamples:
    with open_tree(path) as tree:
        return fer2013.read_fer2013(tree, options or ReadOptions())


@pytest.fixture
def original(drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch) -> FaceSamples:
    """Faces that the index knows."""
    faces = _original(drawn)
    hashes = np.arange(ROWS, dtype=np.uint64)  # of no picture
    labels = np.zeros(ROWS, np.int8)
    hashes[faces.rows], labels[faces.rows] = picture_hashes(faces.images), faces.labels
    monkeypatch.setattr(index, "load_index", lambda: PictureIndex(hashes, labels))
    return faces


def _write_csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# The index


def test_shipped_index_counts_as_published() -> None:
    shipped = load_index()
    counts = [np.bincount(shipped.labels[usages_of_rows(np.arange(ROWS)) == usage]).tolist() for usage in range(3)]
    assert counts == [
        [3995, 436, 4097, 7215, 4830, 3171, 4965],
        [467, 56, 496, 895, 653, 415, 607],
        [491, 55, 528, 879, 594, 416, 626],
    ]
    assert shipped.picture_hashes.shape == (35_887,)
    assert shipped.picture_hashes.dtype == np.uint64
    asset = Path(index.__file__).parent / "assets" / "fer2013_index.npz"
    assert asset.stat().st_size < 350_000


@pytest.fixture
def copies() -> PictureIndex:
    """Picture 7 is in Training as angry (row 10) and sad (20), in Public as angry (28,709) and Private as sad."""
    hashes = np.arange(1000, 1000 + ROWS, dtype=np.uint64)
    labels = np.zeros(ROWS, np.int8)
    hashes[[10, 20, 28_709, 35_886]] = 7
    labels[[20, 35_886]] = 4
    return PictureIndex(hashes, labels)


@pytest.mark.parametrize(
    ("labels", "splits", "rows"),
    [
        ([0, 4], [Split.TRAINING] * 2, [10, 20]),
        ([4, 0], [Split.TRAINING] * 2, [20, 10]),
        ([4], [None], [20]),
        ([4], [Split.PUBLISHED_TEST], [35_886]),
        ([0], [Split.PUBLISHED_TEST], [28_709]),
        ([4], [Split.PUBLIC_TEST], [28_709]),  # relabelled, but in its split
        ([-1, -1], [Split.PUBLISHED_TEST] * 2, [28_709, 35_886]),
        ([6, 4, 4, 0], [Split.TRAINING] * 4, [28_709, 20, 35_886, 10]),  # moved to another split
        ([0, 0, 0, 0, 0], [None] * 5, [10, 28_709, 20, 35_886, SURPLUS]),
    ],
)
def test_equal_pictures_go_by_split_then_label_then_order(
    copies: PictureIndex, labels: list[int], splits: list[Split | None], rows: list[int]
) -> None:
    hashes = np.full(len(labels), 7, np.uint64)
    assert find_rows(hashes, np.array(labels, np.int8), splits, copies).tolist() == rows


def test_unknown_pictures_have_no_row(copies: PictureIndex) -> None:
    rows = find_rows(np.array([8, 1000], np.uint64), np.zeros(2, np.int8), [None, None], copies)
    assert rows.tolist() == [NOT_FOUND, 0]


# Lossless layouts


@pytest.mark.parametrize("layout", LOSSLESS)
def test_lossless_layouts_are_the_same_data(layout: str, original: FaceSamples, tmp_path: Path) -> None:
    found = read_fer2013(LOSSLESS[layout](tmp_path, original))
    assert found.rows.tolist() == original.rows.tolist()
    assert found.usages.tolist() == original.usages.tolist()
    assert (found.name, found.row_source, found.skipped) == ("fer2013", RowSource.INDEX, ())
    assert found.content_sha256() == original.content_sha256()


def test_file_order_does_not_matter(original: FaceSamples, tmp_path: Path) -> None:
    lines = csv_text(original, ("emotion", "pixels", "Usage")).splitlines()
    shuffled = [lines[0], *np.random.default_rng(0).permutation(lines[1:])]
    found = read_fer2013(_write_csv(tmp_path / "a.csv", "\n".join(shuffled)))
    assert found.content_sha256() == original.content_sha256()


@pytest.mark.parametrize("layout", ["pictures", "train and test csv", "zip of pictures", "parquet folder"])
def test_test_pictures_alone_get_no_training_rows(layout: str, original: FaceSamples, tmp_path: Path) -> None:
    if layout == "train and test csv":
        text = csv_text(part(original, (1, 2)), ("pixels", "emotion"))
        found = read_fer2013(_write_csv(tmp_path / "test.csv", text))
    elif layout == "parquet folder":
        files = {"test-00000-of-00001.parquet": parquet_bytes(part(original, (1, 2)))}
        found = read_fer2013(write_files(tmp_path / "pq", files))
    else:
        found = read_fer2013(LOSSLESS[layout](tmp_path, part(original, (1, 2))))
    assert found.rows.tolist() == part(original, (1, 2)).rows.tolist()


def test_name_of_the_given_folder_tells_the_split(original: FaceSamples, tmp_path: Path) -> None:
    write_files(tmp_path, tree_files(original))
    assert (read_fer2013(tmp_path / "test").usages != Usage.TRAINING).all()
    assert (read_fer2013(tmp_path / "train").usages == Usage.TRAINING).all()


def test_csv_without_labels_predicts_but_does_not_judge(original: FaceSamples, tmp_path: Path) -> None:
    found = read_fer2013(_write_csv(tmp_path / "a.csv", csv_text(original, (" pixels", "Usage"))))
    assert (found.labels == -1).all()
    assert found.rows.tolist() == original.rows.tolist()
    with pytest.raises(DataError, match="0 with a label"):
        found.split(Split.PRIVATE_TEST)


def test_train_with_labels_and_test_without(original: FaceSamples, tmp_path: Path) -> None:
    files = {
        "train.csv": csv_text(part(original, (0,)), ("emotion", "pixels")).encode(),
        "test.csv": csv_text(part(original, (1, 2)), ("pixels",)).encode(),
    }
    found = read_fer2013(write_files(tmp_path, files))
    assert (found.labels[found.usages == Usage.TRAINING] >= 0).all()
    assert (found.labels[found.usages != Usage.TRAINING] == -1).all()


def test_parquet_without_labels(original: FaceSamples, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet_bytes(original, with_labels=False))
    found = read_fer2013(tmp_path / "a.parquet")
    assert found.rows.tolist() == original.rows.tolist()
    assert (found.labels == -1).all()


def test_relabelled_copy_keeps_rows_and_says_so(
    original: FaceSamples, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = original.labels.copy()
    labels[20] = (labels[20] + 1) % 7
    changed = FaceSamples(original.images, labels, original.rows, original.usages, "", RowSource.FILE)
    found = read_fer2013(LOSSLESS["pictures"](tmp_path, changed))
    assert found.rows.tolist() == original.rows.tolist()
    assert found.labels.tolist() == labels.tolist()
    assert "1 of 210 labels differ" in caplog.text


def test_moved_pictures_are_used_as_fer2013_uses_them(
    original: FaceSamples, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = read_fer2013(write_files(tmp_path, tree_files(original, ("train", "train", "test"))))
    assert found.content_sha256() == original.content_sha256()
    assert found.usages.tolist() == original.usages.tolist()
    assert "21 of 210 pictures lie in another split" in caplog.text


def test_surplus_copies_are_refused_or_left_out(original: FaceSamples, tmp_path: Path) -> None:
    text = csv_text(original, ("emotion", "pixels", "Usage"))
    path = _write_csv(tmp_path / "a.csv", text + text.splitlines()[3] + "\n")
    with pytest.raises(DataError, match=r"a\.csv line 212: one copy more.*--skip-bad"):
        read_fer2013(path)
    found = read_fer2013(path, ReadOptions(skip_bad=True))
    assert found.content_sha256() == original.content_sha256()
    assert len(found.skipped) == 1
    assert "line 212" in found.skipped[0]


# Everything else in these layouts


def test_other_faces_in_a_csv_keep_order_and_usage(
    drawn: FaceSamples, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = read_fer2013(_write_csv(tmp_path / "a.csv", csv_text(drawn, ("emotion", "pixels", "Usage"))))
    assert (found.name, found.row_source) == ("custom", RowSource.FILE)
    assert found.rows.tolist() == list(range(210))
    assert found.usages.tolist() == drawn.usages.tolist()
    assert (found.images == drawn.images).all()
    assert not caplog.records


def test_partly_known_pictures_are_another_data_set(
    original: FaceSamples, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = original.images.copy()
    images[:100] ^= 1
    mixed = FaceSamples(images, original.labels, original.rows, original.usages, "", RowSource.FILE)
    found = read_fer2013(LOSSLESS["challenge csv"](tmp_path, mixed))
    assert (found.name, found.row_source) == ("custom", RowSource.FILE)
    assert "110 of 210 pictures are FER-2013's" in caplog.text


@pytest.fixture
def jpeg_folder(original: FaceSamples, tmp_path: Path) -> Path:
    return write_files(tmp_path / "jpeg", tree_files(original, kind="JPEG", suffix=".jpg"))


def test_jpeg_folder_has_training_and_published_test_only(original: FaceSamples, jpeg_folder: Path) -> None:
    found = read_fer2013(jpeg_folder)
    assert (found.name, found.row_source) == ("fer2013", RowSource.PATH)
    assert len(found.split(Split.TRAINING)) == 168
    assert len(found.split(Split.PUBLISHED_TEST, Protocol.PUBLISHED)) == 42
    assert found.rows.tolist() == list(range(210))
    assert found.content_sha256() != original.content_sha256()
    with pytest.raises(DataError, match="JPEG copies"):
        found.split(Split.PRIVATE_TEST)
    with pytest.raises(DataError, match="JPEG copies"):
        found.split(Split.VALIDATION)


def test_rows_of_jpeg_folder_follow_sorted_paths(original: FaceSamples, jpeg_folder: Path) -> None:
    names = sorted(tree_files(original, kind="JPEG", suffix=".jpg"))
    labels = [EMOTIONS.index(name.split("/")[1]) for name in names]
    assert read_fer2013(jpeg_folder).labels.tolist() == labels
    zipped = write_zip(jpeg_folder.with_suffix(".zip"), {name: (jpeg_folder / name).read_bytes() for name in names})
    assert read_fer2013(zipped).content_sha256() == read_fer2013(jpeg_folder).content_sha256()


def test_jpeg_folders_named_public_and_private_are_told_apart(original: FaceSamples, tmp_path: Path) -> None:
    files = tree_files(original, USAGE_NAMES, kind="JPEG", suffix=".jpg")
    found = read_fer2013(write_files(tmp_path, files))
    assert len(found.split(Split.PRIVATE_TEST)) == 21
    assert len(found.split(Split.VALIDATION)) == 21


def test_jpeg_validation_folder_is_a_test(original: FaceSamples, tmp_path: Path) -> None:
    files = tree_files(original, ("train", "validation", "test"), kind="JPEG", suffix=".jpg")
    assert np.bincount(read_fer2013(write_files(tmp_path, files)).usages).tolist() == [168, 0, 0, 42]


def test_pngs_that_are_not_fer2013(drawn: FaceSamples, tmp_path: Path) -> None:
    found = read_fer2013(write_files(tmp_path, tree_files(drawn)))
    assert (found.name, found.row_source) == ("custom", RowSource.PATH)
    assert np.bincount(found.usages).tolist() == [168, 0, 0, 42]


def test_telling_fer2013_from_other_folders(original: FaceSamples, tmp_path: Path) -> None:
    others = FaceSamples(~original.images, original.labels, original.rows, original.usages, "", RowSource.FILE)
    folders = {
        "lossless": (tree_files(original), True),
        "lossy": (tree_files(original, kind="JPEG", suffix=".jpg"), True),
        "flat lossless": (tree_files(original, NO_SPLIT_TOLD), True),
        "table": ({"a.csv": csv_text(others, ("emotion", "pixels")).encode()}, True),
        "other": (tree_files(others), False),
        "flat lossy": (tree_files(original, NO_SPLIT_TOLD, kind="JPEG", suffix=".jpg"), False),
        "large": ({"train/angry/a.png": encode(np.zeros((60, 60), np.uint8))}, False),
    }
    for name, (files, expected) in folders.items():
        with open_tree(write_files(tmp_path / name, files)) as tree:
            assert fer2013.is_fer2013(tree) is expected, name


# Bad contents

PIXELS = " ".join(["128"] * 2304)
BAD_CSV = {
    "empty": ("", "empty file"),
    "only blank lines": ("\n\n", "empty file"),
    "header alone": ("emotion,pixels,Usage\n", "header alone"),
    "no pixels column": ("emotion,pixel,Usage\n0,1,Training\n", "column 'pixels'.*got 'emotion, pixel, usage'"),
    "no header": (f"0,{PIXELS},Training\n", "column 'pixels'"),
    "label column by another name": (f"emotions,pixels\n0,{PIXELS}\n", "column 'emotion'"),
    "pixel too large": (f"emotion,pixels\n0,{PIXELS}\n0,{PIXELS[:-3]}256\n", "line 3: expected pixels.*'256'"),
    "pixel far too large": (f"pixels\n{PIXELS[:-3]}1000\n", "line 2: expected pixels.*'1000'"),
    "negative pixel": (f"pixels\n{PIXELS[:-3]}-1\n", "line 2.*'-1'"),
    "pixel no number": (f"pixels\n{PIXELS[:-3]}x\n", "line 2.*'x'"),
    "pixel of other digits": (f"pixels\n{PIXELS[:-3]}\u0663\n", "line 2.*'\u0663'"),
    "fraction": (f"pixels\n{PIXELS[:-3]}1.5\n", "line 2.*'1.5'"),
    "two spaces": (f"pixels\n{PIXELS[:-3]} 128\n", "line 2: expected pixels.*single spaces"),
    "tabs": (f"pixels\n{PIXELS.replace(' ', chr(9))}\n", "line 2: expected pixels"),
    "47 x 48": (f"pixels\n{' '.join(['1'] * 47 * 48)}\n", "line 2: expected 48 x 48 = 2304 pixels, got 2256"),
    "one pixel moved to the next row": (f"pixels\n{PIXELS} 1\n{PIXELS[:-4]}\n", "line 2: expected 48 x 48.*got 2305"),
    "no pixels": ("emotion,pixels\n0,\n", "line 2: expected pixels"),
    "label 7": (f"emotion,pixels\n7,{PIXELS}\n", "line 2: expected an emotion from 0 to 6, .*--label-map, got '7'"),
    "label -1": (f"emotion,pixels\n-1,{PIXELS}\n", "line 2.*got '-1'"),
    "label x": (f"emotion,pixels\nx,{PIXELS}\n", "line 2.*got 'x'"),
    "no label": (f"emotion,pixels\n,{PIXELS}\n", "line 2.*got ''"),
    "unknown usage": (f"pixels,Usage\n{PIXELS},Exam\n", "line 2: expected Usage.*got 'Exam'"),
    "too few fields": (f"emotion,pixels,Usage\n0,{PIXELS}\n", "line 2: expected 3 fields, got 2"),
    "cut off": (f"emotion,pixels,Usage\n0,{PIXELS},Training\n0,{PIXELS[:500]}", "line 3: expected 3 fields"),
    "open quote": (f'emotion,pixels,Usage\n0,"{PIXELS},Training\n', "unexpected end of data"),
    "no line breaks": (f"emotion,pixels,Usage,{PIXELS * 11}", "line 1: expected at most 100,000 characters"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv_is_one_error_naming_file_and_line(case: str, tmp_path: Path) -> None:
    text, message = BAD_CSV[case]
    path = _write_csv(tmp_path / "faces.csv", text)
    with pytest.raises(DataError, match=message) as caught:
        read_fer2013(path)
    assert "faces.csv" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_lines_are_counted_past_a_batch_and_blank_lines(tmp_path: Path) -> None:
    rows = [PIXELS] * 2100
    rows[2090] = "1 2 3"
    path = _write_csv(tmp_path / "a.csv", "pixels\n\n" + "\n".join(rows))
    with pytest.raises(DataError, match=r"a\.csv line 2093: .*got 3;"):
        read_fer2013(path)


def test_bad_containers_are_one_error(original: FaceSamples, tmp_path: Path) -> None:
    text = csv_text(original, ("emotion", "pixels", "Usage")).encode()
    whole = write_zip(tmp_path / "whole.zip", {"fer2013.csv": text}).read_bytes()
    stored = write_zip(tmp_path / "pictures.zip", tree_files(original)).read_bytes()
    png = stored.index(b"IDAT") + 20
    packed = write_zip(tmp_path / "packed.zip", {"fer2013.csv": text}, zipfile.ZIP_LZMA).read_bytes()
    table = parquet_bytes(original)
    cases = {
        "short.csv.gz": (gzip.compress(text)[:-5000], "damaged"),
        "broken_lzma.zip": (packed[:60] + bytes(b ^ 0xFF for b in packed[60:90]) + packed[90:], "damaged"),
        "noise.csv.gz": (gzip.compress(os.urandom(20_000)), "comma-separated text"),
        "short.zip": (whole[:-40], "damaged"),
        "flipped.zip": (whole.replace(b" 128 ", b" 129 ", 1), "damaged.*CRC"),
        "picture.zip": (stored[:png] + b"\xaa\xaa" + stored[png + 2 :], "damaged.*--skip-bad"),
        "short.parquet": (table[:-100], "Parquet"),
        "middle.parquet": (table[:1000] + b"\xaa" * 3000 + table[4000:], "."),
        "noise.dat": (os.urandom(50_000), "."),
        "empty.zip": (b"", "empty file"),
        "fer2013.tar.gz": (gzip.compress(text), "unpack it"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            read_fer2013(tmp_path / name)
        assert name in str(caught.value)


def test_zip_with_password_is_told(tmp_path: Path) -> None:
    content = bytearray(write_zip(tmp_path / "a.zip", {"fer2013.csv": b"pixels\n"}).read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="password"):
        read_fer2013(tmp_path / "a.zip")


@pytest.mark.parametrize("files", [{}, {"notes.txt": b"hello"}, {"a.csv": b"x,y\n1,2\n"}, {"face.png": b"no"}])
def test_no_known_layout(files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (write_files(tmp_path / "folder", files), write_zip(tmp_path / "a.zip", files)):
        with pytest.raises(DataError, match=f"{path.name}: expected .* got "):
            read_fer2013(path)


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="nowhere"):
        read_fer2013(tmp_path / "nowhere")


def test_two_whole_tables_are_ambiguous(drawn: FaceSamples, tmp_path: Path) -> None:
    text = csv_text(subset(drawn, np.arange(3)), ("emotion", "pixels", "Usage")).encode()
    with pytest.raises(DataError, match=r"got a\.csv, b/fer2013\.csv; give the file"):
        read_fer2013(write_files(tmp_path, {"a.csv": text, "b/fer2013.csv": text}))


def test_class_folders_in_two_places_are_ambiguous(drawn: FaceSamples, tmp_path: Path) -> None:
    files = tree_files(subset(drawn, np.arange(3)))
    doubled = files | {f"images/{name}": content for name, content in files.items()}
    with pytest.raises(DataError, match="got class folders in"):
        read_fer2013(write_files(tmp_path, doubled))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "a.csv", "pixels\n")
    path.chmod(0)
    with pytest.raises(DataError, match="permission"):
        read_fer2013(path)


@pytest.mark.parametrize("container", ["folder", "zip", "parquet"])
def test_bad_pictures_are_skipped_on_request(container: str, original: FaceSamples, tmp_path: Path) -> None:
    files = tree_files(original)
    bad = sorted(files)[3]
    files |= {bad: files[bad][:60], "test/sad/wide.png": encode(np.zeros((48, 64), np.uint8))}
    if container == "folder":
        path = write_files(tmp_path / "tree", files)
    elif container == "zip":
        path = write_zip(tmp_path / "a.zip", files)
    else:
        path = _parquet_with_bad_pictures(tmp_path / "train.parquet", original)
    with pytest.raises(DataError, match="--skip-bad"):
        read_fer2013(path)
    found = read_fer2013(path, ReadOptions(skip_bad=True))
    assert len(found) == 209
    assert found.row_source is RowSource.INDEX
    assert [any(word in line for line in found.skipped) for word in ("damaged", "64 x 48")] == [True, True]


def _parquet_with_bad_pictures(path: Path, faces: FaceSamples) -> Path:
    table = pq.read_table(io.BytesIO(parquet_bytes(faces)))
    images, labels = table["image"].to_pylist(), table["label"].to_pylist()
    images[3] = images[3][:60]
    images.append(encode(np.zeros((48, 64), np.uint8)))
    table = table.schema.empty_table().from_pydict({"image": images, "label": [*labels, 0]})
    pq.write_table(table, path)
    return path


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    path = write_files(tmp_path / "tree", {"train/angry/a.png": b"no picture"})
    with pytest.raises(DataError, match="none that can be read"):
        read_fer2013(path, ReadOptions(skip_bad=True))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [0]}, "column 'image'"),
        ({"image": [b"x"], "label": [7]}, "row 1: expected an emotion from 0 to 6.*'7'"),
        ({"image": [b"x"], "label": ["contempt"]}, "row 1.*'contempt'"),
        ({"image": [b"x"], "label": [None]}, "row 1.*'None'"),
        ({"image": ["text"], "label": [0]}, "row 1: expected the bytes of a picture, got str"),
        ({"image": [b"x"], "label": [0]}, "row 1: expected a picture"),
        ({"image": [], "label": []}, "got none"),
    ],
)
def test_bad_parquet_is_one_error(columns: dict[str, list[object]], message: str, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=message) as caught:
        read_fer2013(path)
    assert "train.parquet" in str(caught.value)


def test_a_label_map_names_the_classes_of_tables_too(drawn: FaceSamples, tmp_path: Path) -> None:
    few = subset(drawn, np.arange(7))
    label_map = tmp_path / "map.toml"
    label_map.write_text('"0" = "happy"\n"3" = "angry"\n"7" = "neutral"\n', encoding="utf-8")
    lines = csv_text(few, ("emotion", "pixels", "Usage")).splitlines()
    lines = [line.replace("6,", "7,", 1) if line.startswith("6,") else line for line in lines]
    (tmp_path / "other.csv").write_text("\n".join(lines), encoding="utf-8")
    numbers = [7 if label == 6 else int(label) for label in few.labels]
    pq.write_table(
        pa.table({"image": [encode(image) for image in few.images], "label": numbers}), tmp_path / "o.parquet"
    )
    swapped = {0: 3, 3: 0}
    for name in ("other.csv", "o.parquet"):
        with pytest.raises(DataError, match=r"--label-map, got '7'"):
            read_fer2013(tmp_path / name)
        found = read_fer2013(tmp_path / name, ReadOptions(label_map=label_map))
        assert found.labels.tolist() == [swapped.get(label, label) for label in few.labels.tolist()]
        with pytest.raises(MissingPathError, match=r"none\.toml"):
            read_fer2013(tmp_path / name, ReadOptions(label_map=tmp_path / "none.toml"))


# The real data


@pytest.fixture(scope="module")
def encoded_originals() -> tuple[list[bytes], list[int]]:
    """PNG and label of each row."""
    names = ("training-0", "training-1", "public_test", "private_test")
    tables = [pq.read_table(FER2013 / f"{name}.parquet") for name in names]
    assert [row for table in tables for row in table["row"].to_pylist()] == list(range(ROWS))
    images = [image for table in tables for image in table["image"].to_pylist()]
    return images, [label for table in tables for label in table["label"].to_pylist()]


@pytest.fixture(scope="module")
def real() -> FaceSamples:
    return read_fer2013(FER2013)


@pytest.mark.shared
@needs_shared
def test_the_whole_of_fer2013(real: FaceSamples) -> None:
    assert (real.name, real.row_source) == ("fer2013", RowSource.INDEX)
    assert real.rows.tolist() == list(range(ROWS))
    contest = [len(real.split(split)) for split in (Split.TRAINING, Split.VALIDATION, Split.PRIVATE_TEST)]
    assert contest == [28_709, 3_589, 3_589]
    published = [
        len(real.split(split, Protocol.PUBLISHED)) for split in (Split.TRAINING, Split.VALIDATION, Split.PUBLISHED_TEST)
    ]
    assert published == [25_120, 3_589, 7_178]
    learnt = training_of(real)
    assert learnt.holds(real, real.split(Split.PRIVATE_TEST)).sum() == 3_589 - 3_301
    assert learnt.holds(real, real.split(Split.PUBLISHED_TEST)).sum() == 7_178 - 6_610
    shipped = load_index()
    assert (picture_hashes(real.images) == shipped.picture_hashes).all()
    assert (real.labels == shipped.labels).all()


@pytest.mark.shared
@needs_shared
def test_the_whole_as_zipped_folders(
    real: FaceSamples, encoded_originals: tuple[list[bytes], list[int]], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for row, (image, label) in enumerate(zip(*encoded_originals, strict=True)):
            archive.writestr(f"{'train' if row < 28_709 else 'test'}/{EMOTIONS[label]}/{row * 7 % 40_009}.png", image)
    found = read_fer2013(tmp_path / "archive.zip")
    assert found.row_source is RowSource.INDEX
    assert found.content_sha256() == real.content_sha256()


@pytest.fixture(scope="module")
def some(real: FaceSamples) -> FaceSamples:
    """About 1,000 rows: with a picture come all its copies, and some pictures have several."""
    hashes = picture_hashes(real.images)
    values, counts = np.unique(hashes, return_counts=True)
    chosen = np.random.default_rng(0).choice(values, 900, replace=False)
    return subset(real, np.flatnonzero(np.isin(hashes, np.union1d(chosen, values[counts > 2][:20]))))


@pytest.mark.shared
@needs_shared
@pytest.mark.parametrize(
    "layout",
    [
        "challenge csv",
        "icml csv",
        "train and test csv",
        "zip of csv",
        "zip of pictures",
        "parquet folder",
        "parquet file",
        "pictures",
        "pictures without splits",
    ],
)
def test_layouts_of_real_rows_are_the_same_data(layout: str, some: FaceSamples, tmp_path: Path) -> None:
    found = read_fer2013(LOSSLESS[layout](tmp_path, some))
    assert found.row_source is RowSource.INDEX
    assert found.rows.tolist() == some.rows.tolist()
    assert found.content_sha256() == some.content_sha256()


@pytest.mark.shared
@needs_shared
def test_real_test_rows_alone(some: FaceSamples, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    test = part(some, (1, 2))
    found = read_fer2013(write_files(tmp_path, tree_files(test)))
    assert (found.usages != Usage.TRAINING).all()
    assert found.rows.tolist() == test.rows.tolist()
    assert not caplog.records


@pytest.mark.shared
@needs_shared
def test_real_rows_as_jpeg(some: FaceSamples, tmp_path: Path) -> None:
    found = read_fer2013(write_files(tmp_path, tree_files(some, kind="JPEG", suffix=".jpg")))
    assert (found.name, found.row_source) == ("fer2013", RowSource.PATH)
    assert len(found.split(Split.TRAINING)) == len(part(some, (0,)))
    assert len(found.split(Split.PUBLISHED_TEST)) == len(part(some, (1, 2)))
    with pytest.raises(DataError, match="JPEG copies"):
        found.split(Split.PRIVATE_TEST)


def test_pixel_text_round_trip() -> None:
    image = np.arange(2304, dtype=np.uint8).reshape(48, 48)
    assert pixel_text(image).split(" ")[:3] == ["0", "1", "2"]
