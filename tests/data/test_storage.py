"""Size, colour, subjects and files of pictures in folders, and many of them."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.data.layouts import csv_text, encode, write_files, write_zip

from mien.data import FaceSamples, Protocol, ReadOptions, Split, pictures, read_samples
from mien.data.holdout import grouped_holdout, joined
from mien.data.layouts import decoding
from mien.data.pictures import Chosen, PictureStore, choose, pictures_at
from mien.data.samples import Fold, picture_hashes
from mien.errors import CallError, DataError, OutputError

COLOUR = ReadOptions(size=64, color=True)


def noise(seed: int, shape: tuple[int, ...] = (70, 70, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """40 pictures of two classes and eight people, five of each, in colour."""
    names = (f"train/{'happy' if i % 2 else 'sad'}/S{i // 5:02d}_{i}.png" for i in range(40))
    return write_files(tmp_path / "set", {name: encode(noise(i)) for i, name in enumerate(names)})


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture is one too many."""
    monkeypatch.setattr(pictures, "IN_MEMORY", 0)
    monkeypatch.setattr(pictures, "BLOCK_BYTES", 50_000)
    monkeypatch.setattr(decoding, "BLOCK", 7)


def test_size_and_colour_are_kept(tmp_path: Path) -> None:
    exact = noise(1, (64, 64, 3))
    files = {"train/sad/a.png": encode(exact), "train/happy/b.png": encode(noise(2, (300, 200, 3)))}
    found = read_samples(f"folder:{write_files(tmp_path, files)}", COLOUR, tmp_path / "cache")
    assert (found.images.shape, found.color, found.in_chans) == ((2, 64, 64, 3), True, 3)
    assert (found.images[1] == exact).all()
    grey = read_samples(f"folder:{tmp_path / 'train'}", ReadOptions(size=96), tmp_path / "cache")
    assert (grey.images.shape, grey.color, grey.in_chans) == ((2, 96, 96), False, 1)


def test_shrinking_averages_areas_in_every_channel(tmp_path: Path) -> None:
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = (200, 100, 40)  # a pixel wide: without areas they would come out black or bright
    write_files(tmp_path, {"train/sad/a.png": encode(stripes)})
    found = read_samples(f"folder:{tmp_path}", ReadOptions(size=32, color=True), tmp_path / "cache")
    assert np.abs(found.images[0].astype(float).mean((0, 1)) - (100, 50, 20)).max() < 1
    assert found.images[0].astype(float).std((0, 1)).max() < 40


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1", "I;16"])
def test_pictures_of_every_kind_stand_in_a_colour_set(mode: str, tmp_path: Path) -> None:
    source = Image.fromarray(noise(3, (64, 64, 3)))
    kind = "TIFF" if mode == "CMYK" else "PNG"
    path = tmp_path / "set/train/sad" / f"a.{kind.lower()}"
    path.parent.mkdir(parents=True)
    if mode == "I;16":
        Image.fromarray(noise(3, (64, 64)).astype(np.uint16) * 257).save(path)
    else:
        source.convert("L").convert(mode).save(path) if mode in "LA1" else source.convert(mode).save(path)
    found = read_samples(f"folder:{tmp_path / 'set'}", COLOUR, tmp_path / "cache")
    assert found.images.shape == (1, 64, 64, 3)
    if mode in ("L", "LA", "1", "I;16"):
        assert (found.images[0] == found.images[0, ..., :1]).all()  # grey is repeated


def test_odd_trees(tmp_path: Path) -> None:
    files = {"train/größe/ü 1.png": encode(noise(1, (1, 1, 3))), "train/klein/tief/er.png": encode(noise(2))}
    root = write_files(tmp_path / "set", {**files, "train/klein/x.png": encode(noise(3))})
    (root / "train/leer").mkdir()
    with pytest.raises(DataError, match="class folders in one place"):
        read_samples(f"folder:{root}", COLOUR, tmp_path / "cache")
    (root / "train/klein/tief/er.png").unlink()
    found = read_samples(f"folder:{root}", COLOUR, tmp_path / "cache")
    assert found.classes == ("größe", "klein")  # an empty folder is no class
    assert found.paths is not None
    assert list(found.paths) == ["train/größe/ü 1.png", "train/klein/x.png"]
    zipped = write_zip(
        tmp_path / "set.zip", {name: files[name] for name in list(files)[:1]} | {"train/klein/x.png": encode(noise(3))}
    )
    assert read_samples(f"folder:{zipped}", COLOUR, tmp_path / "cache").content_sha256() == found.content_sha256()


@pytest.mark.parametrize("spec", ["synthetic:70", "fer2013:{}"])
@pytest.mark.parametrize("options", [COLOUR, ReadOptions(size=96), ReadOptions(group="(S)")])
def test_faces_that_have_one_form_are_not_stored_otherwise(
    spec: str, options: ReadOptions, drawn: FaceSamples, tmp_path: Path
) -> None:
    rows = [f"0,{' '.join(map(str, drawn.images[i].ravel()))},Training" for i in range(3)]
    (tmp_path / "a.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n", encoding="utf-8")
    with pytest.raises(CallError, match=r"data\.(size|color|group).*(folder:PATH|leave data.group out)"):
        read_samples(spec.format(tmp_path / "a.csv"), options, tmp_path / "cache")
    assert read_samples(spec.format(tmp_path / "a.csv"), replace(options, strict=False), tmp_path / "cache").size == 48


@pytest.mark.usefixtures("no_memory")
def test_many_pictures_go_to_the_cache_block_by_block(tree: Path, tmp_path: Path) -> None:
    shown: list[tuple[int, int]] = []
    options = replace(COLOUR, show=lambda done, count: shown.append((done, count)))
    first = read_samples(f"folder:{tree}", options, tmp_path / "cache")
    assert shown == [(done, 40) for done in (7, 14, 21, 28, 35, 40)]
    assert isinstance(first.images, np.memmap)
    (entry,) = (tmp_path / "cache/data").iterdir()
    assert entry.stat().st_mode & 0o777 == 0o600
    again = read_samples(f"folder:{tree}", COLOUR, tmp_path / "cache")
    assert len(shown) == 6
    assert again.content_sha256() == replace(again, images=np.array(again.images)).content_sha256()
    assert (again.hashes == picture_hashes(np.array(again.images))).all()
    assert again.paths is not None
    assert next(iter(again.paths)) == "train/happy/S00_1.png"
    content = bytearray(entry.read_bytes())
    content[300_000] ^= 1
    entry.write_bytes(content)
    assert read_samples(f"folder:{tree}", COLOUR, tmp_path / "cache").content_sha256() == first.content_sha256()


def test_many_pictures_are_those_of_few(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = read_samples(f"folder:{tree}", COLOUR, tmp_path / "few")
    monkeypatch.setattr(pictures, "IN_MEMORY", 0)
    monkeypatch.setattr(decoding, "BLOCK", 9)
    many = read_samples(f"folder:{tree}", COLOUR, tmp_path / "many")
    assert many.content_sha256() == few.content_sha256()
    (tree / "train/sad/S00_0.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"S00_0\.png.*--skip-bad"):
        read_samples(f"folder:{tree}", COLOUR, tmp_path / "bad")
    left = read_samples(f"folder:{tree}", replace(COLOUR, skip_bad=True), tmp_path / "bad")
    assert (len(left), len(left.skipped), isinstance(left.images, np.memmap)) == (39, 1, True)
    assert left.rows.tolist() == [row for row in range(40) if row != 20]
    assert (left.images == np.delete(few.images, 20, 0)).all()


@pytest.mark.usefixtures("no_memory")
def test_an_interrupted_reading_leaves_nothing(tree: Path, tmp_path: Path) -> None:
    def stop(done: int, count: int) -> None:
        assert list((tmp_path / "cache/data").iterdir())  # what was read so far
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_samples(f"folder:{tree}", replace(COLOUR, show=stop), tmp_path / "cache")
    assert list((tmp_path / "cache/data").iterdir()) == []
    assert len(read_samples(f"folder:{tree}", COLOUR, tmp_path / "cache")) == 40


@pytest.mark.usefixtures("no_memory")
def test_without_a_cache_many_pictures_lie_in_a_file_without_a_name(
    tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "blocked").touch()
    found = read_samples(f"folder:{tree}", COLOUR, tmp_path / "blocked")
    assert len(found) == 40
    assert found.images[3].any()
    assert "cannot be kept" in caplog.text


def test_one_size_does_not_replace_another_in_the_cache(tree: Path, tmp_path: Path) -> None:
    read: list[int] = []

    def counted(options: ReadOptions) -> FaceSamples:
        return read_samples(f"folder:{tree}", replace(options, show=lambda done, count: read.append(count)), tmp_path)

    for options in (COLOUR, ReadOptions(), replace(COLOUR, strict=False), ReadOptions(), COLOUR):
        assert counted(options).size == (options.size or 48)
    assert len(read) == 2


def test_no_room_is_said_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"expected .* GB of room .*MIEN_CACHE"):
        PictureStore(10**12, (96, 96, 3), tmp_path / "a.npy")
    assert list(tmp_path.iterdir()) == []


def test_chosen_pictures_are_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(0, (50, 8, 8, 3))
    indices = np.array([40, 3, 3, 17])
    assert isinstance(choose(images, indices), np.ndarray)
    monkeypatch.setattr(pictures, "IN_MEMORY", 0)
    chosen = choose(images, indices)
    assert isinstance(chosen, Chosen)
    assert (len(chosen), chosen.shape) == (4, (4, 8, 8, 3))
    assert (chosen[1:] == images[[3, 3, 17]]).all()
    assert (pictures_at(images, indices) == images[indices]).all()


# Subjects


def by_subject(tree: Path, cache: Path, pattern: str = r"(S\d+)_") -> FaceSamples:
    return read_samples(f"folder:{tree}", ReadOptions(group=pattern), cache)


def test_no_subject_is_on_two_sides(tree: Path, tmp_path: Path) -> None:
    found = by_subject(tree, tmp_path / "cache")
    assert found.groups is not None
    assert sorted(set(found.groups.tolist())) == list(range(8))
    training, validation = (found.split(split, Protocol.PUBLISHED, 10) for split in (Split.TRAINING, Split.VALIDATION))
    assert len(found.shared_subjects(training, validation)) == 0
    assert len(set(found.groups[validation].tolist())) == 2
    assert np.bincount(found.labels[validation]).max() <= 6
    folds = [found.split(Split.VALIDATION, fold=Fold(number, 4)) for number in range(4)]
    assert sorted(np.concatenate(folds).tolist()) == list(range(40))
    assert len({subject for fold in folds for subject in set(found.groups[fold].tolist())}) == 8
    assert sum(len(set(found.groups[fold].tolist())) for fold in folds) == 8
    assert (by_subject(tree, tmp_path / "cache").groups == found.groups).all()  # from the cache


def test_a_picture_of_two_subjects_joins_them() -> None:
    hashes = np.array([1, 2, 2, 3, 4, 5, 5], np.uint64)
    subjects = np.array([0, 0, 1, 1, 2, -1, -1], np.int32)
    found = joined(hashes, subjects)
    assert len(set(found[:4].tolist())) == 1
    assert len(set(found.tolist())) == 3
    assert found[5] == found[6]


def test_subjects_are_held_out_in_proportion() -> None:
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 60, 3000).astype(np.uint64)
    labels = generator.choice(5, 3000, p=[0.4, 0.3, 0.15, 0.1, 0.05]).astype(np.int8)
    held_out = grouped_holdout(labels, groups, 375)
    assert abs(int(held_out.sum()) - 375) <= 40
    assert not set(groups[held_out].tolist()) & set(groups[~held_out].tolist())
    shares = np.bincount(labels[held_out], minlength=5) / held_out.sum()
    assert np.abs(shares - np.bincount(labels) / 3000).max() < 0.03
    with pytest.raises(DataError, match="at least 2 subjects"):
        grouped_holdout(labels, np.zeros(3000, np.uint64), 375)
    assert grouped_holdout(labels[:9], np.repeat(np.arange(3), 3).astype(np.uint64), 1).sum() == 3


def test_pictures_are_stored_once_whatever_tells_the_subjects(tree: Path, tmp_path: Path) -> None:
    patterns = (r"(S\d+)_", r"/(S0[0-3]|S0[4-7])", r"S\d(\d)")
    found = [by_subject(tree, tmp_path / "cache", pattern) for pattern in patterns]
    found.append(read_samples(f"folder:{tree}", ReadOptions(), tmp_path / "cache"))
    (entry,) = (tmp_path / "cache" / "data").iterdir()
    assert [each.groups is None for each in found] == [False, False, False, True]
    assert len({each.content_sha256() for each in found}) == 1
    assert entry.suffix == ".npy"


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("(", CallError, "expected a regular expression"),
        (r"S\d+", CallError, "with one group"),
        (r"(S)(\d+)", CallError, "with one group.* with 2"),
        (r"person(\d+)", DataError, "no match in 40 paths such as 'train/happy/S00_1.png'"),
    ],
)
def test_bad_patterns(pattern: str, error: type[Exception], message: str, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        by_subject(tree, tmp_path / "cache", pattern)


def test_a_pattern_for_some_is_told_with_an_example(
    tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = by_subject(tree, tmp_path / "cache", r"(S0[0-5])_")
    assert found.groups is not None
    assert int((found.groups == -1).sum()) == 10
    assert "6 subjects, but none for 10 of 40 pictures, such as 'train/happy/S06_31.png'" in caplog.text


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's numbers")
def test_reading_stays_small(tmp_path: Path) -> None:
    """1,500 pictures of 224 px in colour are 226 MB, of which little is ever in memory."""
    content = encode(noise(0, (32, 32, 3)))
    for name in ("a", "b"):
        write_files(tmp_path / "set", {f"train/{name}/{i}.png": content for i in range(750)})
    code = (
        "import sys, pathlib, resource; from mien.data import ReadOptions, pictures, read_samples;"
        "pictures.IN_MEMORY = 2**20;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = peak();"
        "found = read_samples(sys.argv[1], ReadOptions(size=224, color=True), pathlib.Path(sys.argv[2]));"
        "print(found.images.nbytes >> 20, (peak() - before) >> 10)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, f"folder:{tmp_path / 'set'}", str(tmp_path / "cache")],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    size, grown = map(int, answer.stdout.split())
    assert size == 215
    assert grown < 120


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_of_a_table_tells_subjects(
    kind: str, drawn: FaceSamples, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    people = [f"p{row // 10}" if row else "" for row in range(len(drawn))]  # of the first nothing is known
    if kind == "csv":
        lines = csv_text(drawn, ("emotion", "pixels", "Usage")).splitlines()
        cells = ["Model", *people]
        text = "\n".join(f"{line},{cell}" for line, cell in zip(lines, cells, strict=True))
        path = tmp_path / "faces.csv"
        path.write_text(text + "\n", encoding="utf-8")
    else:
        path = tmp_path / "train.parquet"
        pictures_of = [encode(image) for image in drawn.images]
        columns = {"image": pictures_of, "label": drawn.labels.tolist(), "Model": people}
        pq.write_table(pa.table(columns), path)
    found = read_samples(f"fer2013:{path}", ReadOptions(group="model"), tmp_path / "cache")
    assert found.groups is not None
    assert found.groups[0] == -1
    assert len(set(found.groups[1:].tolist())) == 21
    assert all(len(set(found.groups[start + 1 : start + 10].tolist())) == 1 for start in range(0, 210, 10))
    assert ("21 in training and public_test" in caplog.text) is (kind == "csv")
    with pytest.raises(CallError, match=r"(?i)a column 'who', as data\.group says, got .*model"):
        read_samples(f"fer2013:{path}", ReadOptions(group="who"), tmp_path / "cache")
    assert read_samples(f"fer2013:{path}", ReadOptions(group="who", strict=False), tmp_path / "cache").groups is None
