from dataclasses import replace

import numpy as np
import pytest

from mien.data import FaceSamples, Protocol, Split
from mien.data.holdout import stratified_folds, stratified_holdout
from mien.data.samples import RowSource, Usage, picture_hashes
from mien.errors import DataError
from mien.runs.learnt import training_of


def test_contest_protocol(drawn: FaceSamples) -> None:
    parts = [drawn.split(split) for split in (Split.TRAINING, Split.VALIDATION, Split.PRIVATE_TEST)]
    assert [len(part) for part in parts] == [168, 21, 21]
    assert drawn.split(Split.VALIDATION).tolist() == drawn.split(Split.PUBLIC_TEST).tolist()
    assert len(np.unique(np.concatenate(parts))) == 210


def test_published_protocol(drawn: FaceSamples) -> None:
    training, validation, test = (
        drawn.split(split, Protocol.PUBLISHED) for split in (Split.TRAINING, Split.VALIDATION, Split.PUBLISHED_TEST)
    )
    assert [len(part) for part in (training, validation, test)] == [147, 21, 42]
    assert len(np.unique(np.concatenate([training, validation, test]))) == 210
    assert (drawn.usages[test] != Usage.TRAINING).all()
    assert len(drawn.split(Split.VALIDATION, Protocol.PUBLISHED, validation_rows=34)) == 34


def test_identical_pictures_stay_on_one_side(drawn: FaceSamples) -> None:
    training = np.flatnonzero(drawn.usages == Usage.TRAINING)
    images = drawn.images.copy()
    images[training[:40]] = images[training[np.arange(40) // 4 * 4]]  # ten pictures, four times each
    copied = replace(drawn, images=images)
    hashes = picture_hashes(images)
    sides = [
        set(hashes[copied.split(split, Protocol.PUBLISHED)].tolist()) for split in (Split.TRAINING, Split.VALIDATION)
    ]
    assert not sides[0] & sides[1]


def test_holdout_is_stratified_and_exact() -> None:
    labels = np.repeat(np.arange(7, dtype=np.int8), [5, 10, 15, 20, 25, 30, 35])
    held_out = stratified_holdout(labels, np.arange(140, dtype=np.uint64), 28)
    assert np.bincount(labels[held_out]).tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_folds_are_stratified_and_together_everything() -> None:
    labels = np.repeat(np.arange(7, dtype=np.int8), [5, 10, 15, 20, 25, 30, 35])
    groups = np.arange(140, dtype=np.uint64)
    groups[100:130] = np.repeat(np.arange(200, 210), 3)  # ten pictures, three times each
    groups[[0, 70]] = 999  # one with two labels
    fold_of = stratified_folds(labels, groups, 4)
    assert np.bincount(fold_of).tolist() == [35] * 4
    assert (fold_of[100:130:3] == fold_of[101:130:3]).all()
    assert (fold_of[100:130:3] == fold_of[102:130:3]).all()
    assert fold_of[0] == fold_of[70]
    for fold in range(4):
        assert abs(np.bincount(labels[fold_of == fold], minlength=7) - np.bincount(labels) / 4).max() <= 1
    assert (fold_of == stratified_folds(labels, groups, 4)).all()
    assert (fold_of != stratified_folds(labels, groups, 4, seed=1)).any()


def test_folds_of_large_groups_are_as_equal_as_these_allow() -> None:
    sizes = [9, 7, 5, 4, 3, 2]
    fold_of = stratified_folds(np.zeros(30, np.int8), np.repeat(np.arange(6), sizes).astype(np.uint64), 3)
    assert sorted(np.bincount(fold_of).tolist()) == [9, 10, 11]
    with pytest.raises(DataError, match="at least 7 different pictures, got 6"):
        stratified_folds(np.zeros(30, np.int8), np.repeat(np.arange(6), sizes).astype(np.uint64), 7)


@pytest.mark.parametrize("count", [0, 140, -1])
def test_holdout_out_of_range(count: int) -> None:
    with pytest.raises(DataError, match="of 1 to 139"):
        stratified_holdout(np.zeros(140, np.int8), np.arange(140, dtype=np.uint64), count)


def test_holdout_of_groups_that_are_too_large() -> None:
    with pytest.raises(DataError, match="groups of identical pictures"):
        stratified_holdout(np.zeros(10, np.int8), np.zeros(10, np.uint64), 3)


def test_unlabelled_faces_are_in_no_split(drawn: FaceSamples) -> None:
    labels = drawn.labels.copy()
    labels[drawn.split(Split.TRAINING)[:5]] = -1
    assert len(replace(drawn, labels=labels).split(Split.TRAINING)) == 163


def test_tests_that_are_not_told_apart(drawn: FaceSamples) -> None:
    usages = np.where(drawn.usages == Usage.TRAINING, Usage.TRAINING, Usage.TEST).astype(np.int8)
    lossy = replace(drawn, usages=usages, row_source=RowSource.PATH)
    assert len(lossy.split(Split.PUBLISHED_TEST)) == 42
    for split in (Split.PUBLIC_TEST, Split.PRIVATE_TEST, Split.VALIDATION):
        with pytest.raises(DataError, match="rows come from path"):
            lossy.split(split)
    assert len(lossy.split(Split.VALIDATION, Protocol.PUBLISHED)) == 21


def test_unseen_pictures_have_no_copy_in_training(drawn: FaceSamples) -> None:
    images = drawn.images.copy()
    private = drawn.split(Split.PRIVATE_TEST)
    images[private[:3]] = images[drawn.split(Split.TRAINING)[:3]]
    copied = replace(drawn, images=images)
    assert training_of(copied).holds(copied, private).tolist() == [True] * 3 + [False] * 18


def test_content_hash_sees_rows_labels_and_pixels(drawn: FaceSamples) -> None:
    def changed(name: str, position: int, value: int) -> FaceSamples:
        values = getattr(drawn, name).copy()
        values[position] = value
        return replace(drawn, **{name: values})

    others = [
        changed("images", 0, 7),
        changed("labels", 0, (int(drawn.labels[0]) + 1) % 7),
        changed("rows", 209, 999),
    ]
    hashes = {samples.content_sha256() for samples in (drawn, *others)}
    assert len(hashes) == 4
    assert replace(drawn, name="other").content_sha256() == drawn.content_sha256()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((210, 48, 40), np.uint8)}, r"uint8 \(N, S, S\)"),
        ({"images": np.zeros((210, 48, 48), np.float32)}, "float32"),
        ({"images": np.zeros((209, 48, 48), np.uint8)}, "209 labels for 209 faces"),
        ({"labels": np.full(210, 7, np.int8)}, "labels of 0 to 6"),
        ({"labels": np.full(210, -2, np.int8)}, "labels"),
        ({"rows": np.zeros(210, np.int32)}, "strictly increasing"),
        ({"usages": np.zeros(3, np.int8)}, "usages"),
    ],
)
def test_arrays_that_do_not_belong_together(changes: dict[str, np.ndarray], message: str, drawn: FaceSamples) -> None:
    with pytest.raises(DataError, match=message):
        replace(drawn, **changes)


def test_a_number_that_copies_do_not_add_up_to_is_refused_with_one_that_can_be_had(drawn: FaceSamples) -> None:
    training = np.flatnonzero(drawn.usages == Usage.TRAINING)
    images = drawn.images.copy()
    for label in range(7):
        of_label = training[drawn.labels[training] == label]
        images[of_label] = images[of_label[np.arange(len(of_label)) // 4 * 4]]  # everything four times
    copied = replace(drawn, images=images)
    with pytest.raises(DataError, match=r"data\.validation_rows=(\d+)") as told:
        copied.split(Split.VALIDATION, Protocol.PUBLISHED, 21)
    number = int(str(told.value).partition("data.validation_rows=")[2].partition(")")[0])
    assert len(copied.split(Split.VALIDATION, Protocol.PUBLISHED, number)) == number != 21


def test_a_split_is_computed_once(drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, calls = replace(drawn), []
    monkeypatch.setattr(
        "mien.data.samples.holdout.stratified_holdout", lambda *given: calls.append(given) or held(*given)
    )
    held = stratified_holdout
    found = [fresh.split(Split.VALIDATION, Protocol.PUBLISHED) for _ in range(3)]
    assert len(calls) == 1
    assert found[0] is found[1] is found[2]
