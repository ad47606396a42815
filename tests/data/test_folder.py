import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.data.layouts import encode, tree_files, write_files, write_zip

from mien.data import FaceSamples, Protocol, ReadOptions, Split
from mien.data.layouts import class_folders
from mien.data.layouts.tree import open_tree
from mien.data.samples import FER2013_SPLITS, Fold, RowSource, Usage
from mien.emotions import EMOTIONS
from mien.errors import DataError, MissingPathError
from mien.face.crop import crop_face


def read_folder(path: Path, options: ReadOptions | None = None) -> FaceSamples:
    with open_tree(path) as tree:
        return class_folders.read_folder(tree, options or ReadOptions())


def picture(seed: int, shape: tuple[int, ...] = (60, 50, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def usages(root: Path) -> list[int]:
    """Usage of each split folder's one picture, in the order in which ``split_tree`` took the folders."""
    found = read_folder(root)
    return found.usages[np.argsort(found.labels)].tolist()


def split_tree(root: Path, *folders: str) -> Path:
    """One picture in each split folder; the first is angry, the second disgust, and so on."""
    files = {
        f"{folder}/{emotion}/a.png": encode(picture(0)) for folder, emotion in zip(folders, EMOTIONS, strict=False)
    }
    return write_files(root, files)


def test_pictures_of_any_size_become_faces_in_path_order(tmp_path: Path) -> None:
    shapes = {"train/Happiness/b.PNG": (30, 30), "test/ANGER/1.Jpg": (99, 70, 3), "train/sadness/a.webp": (48, 48)}
    kinds = {".PNG": "PNG", ".Jpg": "JPEG", ".webp": "WEBP"}
    files = {name: encode(picture(3, shape), kinds[Path(name).suffix]) for name, shape in shapes.items()}
    found = read_folder(write_files(tmp_path / "RAF", files))
    assert found.images.shape == (3, 48, 48)
    assert [found.classes[label] for label in found.labels] == ["angry", "happy", "sad"]
    assert found.rows.tolist() == [0, 1, 2]
    assert (found.name, found.row_source) == ("folder:RAF", RowSource.PATH)
    assert (found.images[1] == crop_face(picture(3, (30, 30)))).all()


def test_grey_faces_come_through_bit_for_bit(drawn: FaceSamples, tmp_path: Path) -> None:
    files = tree_files(drawn)
    found = read_folder(write_files(tmp_path, files))
    order = np.argsort(list(files))
    assert (found.images == drawn.images[order]).all()
    assert found.labels.tolist() == drawn.labels[order].tolist()
    assert read_folder(write_zip(tmp_path / "a.zip", files)).content_sha256() == found.content_sha256()


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "test"), [Usage.TRAINING, Usage.TEST]),
        (("TRAINING", "Testing"), [Usage.TRAINING, Usage.TEST]),
        (("train", "val", "test"), [Usage.TRAINING, Usage.PUBLIC_TEST, Usage.PRIVATE_TEST]),
        (("Train", "Validation"), [Usage.TRAINING, Usage.PUBLIC_TEST]),
        (("Training", "PublicTest", "PrivateTest"), [Usage.TRAINING, Usage.PUBLIC_TEST, Usage.PRIVATE_TEST]),
        (("train", "public_test", "private-test"), [Usage.TRAINING, Usage.PUBLIC_TEST, Usage.PRIVATE_TEST]),
        (("some/wrapper/train", "some/wrapper/test"), [Usage.TRAINING, Usage.TEST]),
        (("train/images", "test/images"), [Usage.TRAINING, Usage.TEST]),
        (("test",), [Usage.TEST]),
        ((".",), [Usage.TEST]),
    ],
)
def test_split_folders(folders: tuple[str, ...], expected: list[Usage], tmp_path: Path) -> None:
    assert usages(split_tree(tmp_path / "set", *folders)) == expected


def test_a_set_without_training_can_be_measured_on(tmp_path: Path) -> None:
    found = read_folder(split_tree(tmp_path / "ck", "."))
    assert len(found.split(Split.PUBLISHED_TEST)) == 1
    with pytest.raises(DataError, match=r"ck: expected labelled faces in training.*1 of test.*PATH/train/<class>/"):
        found.split(Split.TRAINING)
    with pytest.raises(DataError, match=r"in validation, got 1 of test.*PATH/val/<class>/"):
        found.split(Split.VALIDATION)


def test_the_given_folder_may_be_a_split(tmp_path: Path) -> None:
    assert usages(split_tree(tmp_path / "Train", ".")) == [Usage.TRAINING]


def test_unmapped_classes_are_named_or_left_out(tmp_path: Path) -> None:
    files = {f"train/{name}/{i}.png": encode(picture(i)) for i in range(2) for name in ("angry", "contempt", "8")}
    write_files(tmp_path, files)
    label_map = tmp_path / "map.toml"
    label_map.write_text('9 = "surprise"\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"got 8 \(2 pictures\), contempt \(2 pictures\).*--label-map.*--skip-unmapped"):
        read_folder(tmp_path, ReadOptions(label_map=label_map))
    found = read_folder(tmp_path, ReadOptions(skip_unmapped=True))
    assert len(found) == 2
    assert [Path(line.split(":")[0]).parent.name for line in found.skipped] == ["8", "8", "contempt", "contempt"]
    assert "of class contempt, which is no emotion" in found.skipped[-1]


def test_other_names_are_classes_of_their_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ("train/yawn", "train/Smile", "train/größe", "test/smile", "test/YAWN")
    found = read_folder(write_files(tmp_path / "set", {f"{name}/a.png": encode(picture(1)) for name in names}))
    assert found.classes == ("größe", "Smile", "YAWN")
    assert found.paths is not None
    told = {path: found.classes[label] for path, label in zip(found.paths, found.labels, strict=True)}
    assert told == {
        "test/YAWN/a.png": "YAWN",
        "test/smile/a.png": "Smile",
        "train/Smile/a.png": "Smile",
        "train/größe/a.png": "größe",
        "train/yawn/a.png": "YAWN",
    }
    assert not caplog.records
    assert found.content_sha256() != replace(found, classes=("a", "b", "c")).content_sha256()


@pytest.mark.parametrize("names", [("angry", "contempt", "happy"), ("1", "2", "3")])
def test_classes_that_may_be_the_seven_are_told(
    names: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = read_folder(write_files(tmp_path, {f"train/{name}/a.png": encode(picture(1)) for name in names}))
    assert found.classes == names
    assert "--label-map" in caplog.text
    assert "--skip-unmapped" in caplog.text


@pytest.mark.parametrize("count", [1, 51])
def test_two_to_fifty_classes(count: int, tmp_path: Path) -> None:
    write_files(tmp_path, {f"train/class{number}/a.png": encode(picture(1)) for number in range(count)})
    with pytest.raises(DataError, match=rf"expected class folders of 2 to 50 classes, got {count} \(class0"):
        read_folder(tmp_path)


def test_splits_keep_their_names_and_faces_their_files(tmp_path: Path) -> None:
    found = read_folder(split_tree(tmp_path, "Training", "val", "Testing"))
    assert found.split_names == {Usage.TRAINING: "Training", Usage.PUBLIC_TEST: "val", Usage.PRIVATE_TEST: "Testing"}
    assert found.paths is not None
    assert found.paths.root == str(tmp_path)
    assert [found.paths[index] for index in range(3)] == [
        "Testing/fear/a.png",
        "Training/angry/a.png",
        "val/disgust/a.png",
    ]
    assert read_folder(split_tree(tmp_path / "ck", ".")).split_names == {Usage.TEST: "test"}
    assert (
        read_folder(split_tree(tmp_path / "fer", "Training", "PublicTest", "PrivateTest")).split_names == FER2013_SPLITS
    )


def test_a_validation_folder_is_validation_under_both_protocols_and_never_test(tmp_path: Path) -> None:
    files = {f"{split}/{name}/{i}.png": encode(picture(i)) for split, n in (("train", 9), ("val", 3), ("test", 5))
             for name in ("happy", "sad") for i in range(n)}  # fmt: skip
    found = read_folder(write_files(tmp_path / "set", files))
    for protocol in Protocol:
        sizes = [
            len(found.split(split, protocol)) for split in (Split.TRAINING, Split.VALIDATION, Split.PUBLISHED_TEST)
        ]
        assert sizes == [18, 6, 10]
    assert found.name_of(found.split(Split.VALIDATION)) == "val"
    assert found.name_of(found.split(Split.PUBLISHED_TEST)) == "test"
    assert found.name_of(found.split(Split.VALIDATION, fold=Fold(0, 3))) is None
    for split in (Split.PUBLIC_TEST, Split.PRIVATE_TEST):
        with pytest.raises(DataError, match=rf"got {split}; use --split validation .* or --split published_test"):
            found.split(split)
    alone = read_folder(tmp_path / "set" / "train")
    assert len(alone.split(Split.VALIDATION, Protocol.PUBLISHED, 4)) == 4


def test_label_map_names_numbered_classes(tmp_path: Path) -> None:
    write_files(tmp_path / "RAF-DB", {f"train/{n}/a.png": encode(picture(n)) for n in (1, 2, 7)})
    label_map = tmp_path / "raf.toml"
    label_map.write_text('"1" = "surprise"\n"2" = "Fear"\n7 = "neutral"\n', encoding="utf-8")
    found = read_folder(tmp_path / "RAF-DB", ReadOptions(label_map=label_map))
    assert [found.classes[label] for label in found.labels] == ["surprise", "fear", "neutral"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"1" = "amazement"', "class '1', got 'amazement'; write one of angry"),
        ("1 = 5", "class '1', got 5"),
        ("1,surprise", r"raf\.toml: expected TOML lines"),
        ("[classes]", "class 'classes', got"),
    ],
)
def test_bad_label_map(text: str, message: str, tmp_path: Path) -> None:
    split_tree(tmp_path / "set", "train")
    (tmp_path / "raf.toml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_folder(tmp_path / "set", ReadOptions(label_map=tmp_path / "raf.toml"))
    with pytest.raises(MissingPathError, match="label map"):
        read_folder(tmp_path / "set", ReadOptions(label_map=tmp_path / "none.toml"))


def test_bad_pictures_are_named_or_left_out_and_rows_stay(tmp_path: Path) -> None:
    files = {f"train/happy/{n}.png": encode(picture(n)) for n in range(4)}
    files |= {"train/happy/1.png": b"", "train/happy/2.png": files["train/happy/2.png"][:200]}
    write_files(tmp_path, files)
    with pytest.raises(DataError, match=r"1\.png: .*empty file.*--skip-bad"):
        read_folder(tmp_path)
    found = read_folder(tmp_path, ReadOptions(skip_bad=True))
    assert found.rows.tolist() == [0, 3]
    assert [Path(line.split(":")[0]).name for line in found.skipped] == ["1.png", "2.png"]


def test_hidden_files_and_other_files_are_no_pictures(tmp_path: Path) -> None:
    junk = ("train/sad/.hidden.png", "train/.git/a.png", "__MACOSX/x/a.png", "train/sad/Thumbs.db")
    files = dict.fromkeys(junk, b"junk")
    found = read_folder(write_files(tmp_path, files | {"train/sad/a.png": encode(picture(1))}))
    assert len(found) == 1


def test_pictures_outside_class_folders_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ("cover.png", "train/sample.png", "train/sad/a.png")
    assert len(read_folder(write_files(tmp_path, {name: encode(picture(1)) for name in names}))) == 1
    assert "2 pictures outside class folders" in caplog.text


@pytest.mark.parametrize("files", [{}, {"a.png": b""}, {"train/readme.txt": b""}])
def test_folder_without_classes(files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="set: expected pictures in class folders"):
        read_folder(write_files(tmp_path / "set", files))


def test_split_folders_beside_class_folders_are_ambiguous(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="class folders in one place"):
        read_folder(split_tree(tmp_path, "train", ".", "test"))


def test_unknown_split_folder_is_not_taken_for_a_test(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got class folders in \./\(split\), holdout"):
        read_folder(split_tree(tmp_path, "train", "holdout"))


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write_files(tmp_path / "pool", {"a.png": encode(picture(1))})
    root = tmp_path / "set"
    (root / "train").mkdir(parents=True)
    (root / "train/sad").symlink_to(tmp_path / "pool")
    (root / "train/loop").symlink_to(root)
    (tmp_path / "pool/back").symlink_to(root / "train")
    (root / "train/nowhere").symlink_to(tmp_path / "missing")
    assert len(read_folder(root)) == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_folder_without_permission(tmp_path: Path) -> None:
    root = split_tree(tmp_path / "set", "train")
    (root / "train").chmod(0)
    try:
        with pytest.raises(DataError, match="permission"):
            read_folder(root)
    finally:
        (root / "train").chmod(0o700)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("emotion,pixels\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected pictures in class folders"):
        read_folder(tmp_path / "a.csv")
    with pytest.raises(MissingPathError):
        read_folder(tmp_path / "none")


def test_without_a_validation_folder_the_setting_that_works_is_named(tmp_path: Path) -> None:
    found = read_folder(split_tree(tmp_path, "train", "test"))
    with pytest.raises(DataError, match=r"got 1 of train, 1 of test.*hold some.*\(--set data\.protocol=published\)"):
        found.split(Split.VALIDATION)


def test_data_to_train_on_with_some_of_the_seven_have_these_classes_in_their_order(tmp_path: Path) -> None:
    names = ("train/Sadness/a.png", "train/happy/b.png", "train/neutral/c.png", "test/happy/d.png")
    files = {name: encode(picture(number)) for number, name in enumerate(names)}
    found = read_folder(write_files(tmp_path / "three", files))
    assert found.classes == ("happy", "sad", "neutral")
    assert found.labels.tolist() == [0, 1, 0, 2]  # test/happy, train/Sadness, train/happy, train/neutral
    assert found.with_classes(EMOTIONS).labels.tolist() == [3, 4, 3, 6]
    tested = {name.replace("train", "test"): content for name, content in files.items()}
    assert read_folder(write_files(tmp_path / "tested", tested)).classes == EMOTIONS
    lacking = files | {"test/fear/e.png": encode(picture(9))}  # so that training refuses it by name
    assert "fear" in read_folder(write_files(tmp_path / "lacking", lacking)).classes
