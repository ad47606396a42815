"""What the audit finds in faces that were spoilt on purpose, and in the real ones."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from tests.conftest import SHARED

from mien.data import FaceSamples, draw_faces, read_samples, votes_on
from mien.data.audit import audit, audit_rows, copied, leaks, near_across
from mien.data.copies import NearPair, constant_pictures, identical_groups, near_pairs
from mien.data.samples import Usage
from mien.emotions import EMOTIONS, VOTE_COLUMNS

FER2013, VOTES = SHARED / "fer2013", SHARED / "fer2013" / "ferplus_fer2013new.csv"


@pytest.fixture
def spoilt(drawn: FaceSamples) -> FaceSamples:
    """Two of Training in Private, one of them with another label; one nearly the same, one mirrored, one empty."""
    images, labels = drawn.images.copy(), drawn.labels.copy()
    private, training = (np.flatnonzero(drawn.usages == usage) for usage in (Usage.PRIVATE_TEST, Usage.TRAINING))
    images[private[:2]] = images[training[:2]]
    labels[private[0]], labels[private[1]] = labels[training[0]], (labels[training[1]] + 1) % 7
    noise = np.random.default_rng(0).integers(-4, 5, images[0].shape)
    images[private[2]] = np.clip(images[training[2]].astype(int) + noise, 0, 255)
    images[private[3]] = images[training[3], :, ::-1]
    images[private[4]] = 0
    images[training[4]] = 255
    return dataclasses.replace(drawn, images=images, labels=labels)


def test_subjects_in_two_splits_are_counted(drawn: FaceSamples) -> None:
    assert audit_rows(drawn, audit(drawn))["shared_subjects"] == []
    people = np.where(drawn.usages == Usage.PRIVATE_TEST, drawn.rows // 70, 7 + drawn.rows // 21).astype(np.int32)
    people[np.flatnonzero(drawn.usages == Usage.TRAINING)[:2]] = [0, 1]
    people[np.flatnonzero(drawn.usages == Usage.PUBLIC_TEST)] = -1  # of whom nothing is known
    found = dataclasses.replace(drawn, groups=people)
    assert audit_rows(found, audit(found))["shared_subjects"] == [
        {"splits": ["training", "private_test"], "subjects": 2}
    ]


def test_every_fault_is_found(spoilt: FaceSamples) -> None:
    found = audit(spoilt)
    private, training = (np.flatnonzero(spoilt.usages == usage) for usage in (Usage.PRIVATE_TEST, Usage.TRAINING))
    expected = sorted([int(one), int(other)] for one, other in zip(training[:2], private[:2], strict=True))
    assert [sorted(group.tolist()) for group in found.groups] == expected
    assert found.redundant == 2
    assert [set(group.tolist()) for group in found.contradictory] == [{training[1], private[1]}]
    assert sorted(found.constant.tolist()) == sorted([training[4], private[4]])
    near = {(frozenset((pair.first, pair.second)), pair.mirrored) for pair in found.near}
    assert (frozenset((training[2], private[2])), False) in near
    assert (frozenset((training[3], private[3])), True) in near
    assert not any(pair & {training[4], private[4]} for pair, _ in near)
    across = {frozenset((pair.first, pair.second)) for pair in near_across(spoilt, found.near)}
    assert {frozenset((training[at], private[at])) for at in (2, 3)} <= across
    assert all(spoilt.usages[one] != spoilt.usages[other] for one, other in across)
    assert leaks(spoilt, found.groups)["private_test", "training"] == (2, 1)
    assert leaks(spoilt, found.groups)["public_test", "training"] == (0, 0)
    assert copied(spoilt, found.groups) == {"training": 2, "public_test": 0, "private_test": 2}
    assert found.agreement == {}
    assert sum(found.counts["training"].values()) == len(training)


def all_near_pairs(images: np.ndarray) -> set[tuple[int, int, bool]]:
    """By the correlations of all pairs at full size; no picture is empty."""
    vectors = images.reshape(len(images), -1).astype(np.float64)
    turned = images[:, :, ::-1].reshape(len(images), -1).astype(np.float64)
    mirrored = np.corrcoef(turned, vectors)[: len(images), len(images) :]
    return {
        (one, other, flag)
        for flag, table in ((False, np.corrcoef(vectors)), (True, mirrored))
        for one, other in zip(*np.nonzero(table >= 0.98), strict=True)
        if one < other and not np.array_equal(images[one], images[other])
    }


def found_pairs(images: np.ndarray, **options: int) -> list[NearPair]:
    return near_pairs(images, identical_groups(images), constant_pictures(images), **options)


def named(pairs: list[NearPair]) -> set[tuple[int, int, bool]]:
    return {(pair.first, pair.second, pair.mirrored) for pair in pairs}


@pytest.mark.parametrize("size", [6, 20, 48])
def test_near_pairs_are_those_of_all_pairs_at_full_size(size: int) -> None:
    """Noisy, darker, mirrored and equal copies of drawn faces, some of them many times, in any order."""
    generator = np.random.default_rng(size)
    drawn = np.stack([cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA) for face in draw_faces(300).images])
    copied = drawn[generator.integers(0, 60, 200)]
    noisy = copied * generator.uniform(0.5, 1, (200, 1, 1)) + generator.normal(0, 5, copied.shape)
    images = np.concatenate([drawn, np.clip(noisy, 0, 255).astype(np.uint8), drawn[:50, :, ::-1], drawn[:30]])
    images = images[generator.permutation(len(images))]
    expected = all_near_pairs(images)
    assert len(expected) > 200
    assert {mirrored for *_, mirrored in expected} == {False, True}
    pairs = found_pairs(images)
    assert named(pairs) == expected
    assert len(pairs) == len(expected)
    assert pairs == sorted(pairs, key=lambda pair: (pair.first, pair.second, pair.mirrored))


def all_near_in_colour(images: np.ndarray) -> set[tuple[int, int, bool]]:
    """Each colour about its own mean, all pairs at full size."""
    centred = images - images.mean((1, 2), keepdims=True)
    vectors, turned = (each.reshape(len(images), -1) for each in (centred, centred[:, :, ::-1]))
    lengths = np.linalg.norm(vectors, axis=1)
    return {
        (one, other, flag)
        for flag, mine in ((False, vectors), (True, turned))
        for one, other in zip(*np.nonzero(mine @ vectors.T >= 0.98 * np.outer(lengths, lengths)), strict=True)
        if one < other and not np.array_equal(images[one], images[other])
    }


def test_grey_pictures_in_colour_files_are_as_near_as_in_grey_ones(drawn: FaceSamples) -> None:
    grey = drawn.images[:80].copy()
    grey[40:60] = np.clip(grey[:20] + np.random.default_rng(0).normal(0, 2, grey[:20].shape), 0, 255)
    pairs = found_pairs(np.repeat(grey[..., None], 3, axis=3))
    assert named(pairs) == named(found_pairs(grey)) >= {(at, at + 40, False) for at in range(20)}
    assert len(constant_pictures(np.full((2, 8, 8, 3), [10, 200, 90], np.uint8))) == 2


@pytest.mark.parametrize("size", [7, 32])
def test_pictures_in_colour_are_near_where_their_colours_are(size: int) -> None:
    """Tints, noise and mirrors are found; the same shape in another colour is another picture."""
    generator = np.random.default_rng(size)
    shades = generator.uniform(20, 130, (300, 3, 3, 3)).astype(np.float32)
    base = np.stack([cv2.resize(each, (size, size), interpolation=cv2.INTER_LINEAR) for each in shades])
    tinted = base[:60] + generator.uniform(0, 40, (60, 1, 1, 3)) + generator.normal(0, 2, base[:60].shape)
    swapped = base[60:90, ..., [2, 1, 0]]
    images = np.concatenate([base, tinted, swapped, base[90:120, :, ::-1]]).clip(0, 255).astype(np.uint8)
    pairs = named(found_pairs(images))
    assert pairs == all_near_in_colour(images.astype(np.float64))
    assert len(pairs & {(at, at + 300, False) for at in range(60)}) > 40
    assert pairs >= {(90 + at, 390 + at, True) for at in range(30)}
    assert not pairs & {(60 + at, 360 + at, False) for at in range(30)}


def test_one_shape_in_two_colours_is_two_pictures() -> None:
    shape = np.zeros((16, 16, 1))
    shape[4:12, 3:11] = 1
    red, blue = shape * [100, 0, 0], shape * [0, 0, 255]  # of about the same grey
    assert named(found_pairs(np.stack([red, blue, red // 2]).astype(np.uint8))) == {(0, 2, False)}


def test_hundreds_of_copies_end_at_the_limit_and_noisy_blanks_are_none(drawn: FaceSamples) -> None:
    generator = np.random.default_rng(0)
    two = np.stack([drawn.images[0], np.clip(drawn.images[0] + generator.normal(0, 3, (48, 48)), 0, 255)])
    alike = np.repeat(two.astype(np.uint8), 300, axis=0)
    assert len(found_pairs(alike, limit=5000)) == 5000
    blanks = (100 + generator.normal(0, 2, (600, 48, 48))).astype(np.uint8)
    assert found_pairs(blanks) == []
    assert found_pairs(blanks[:0]) == []


def test_the_search_tells_how_far_it_is(drawn: FaceSamples) -> None:
    images, told = drawn.images, []
    near_pairs(images, [], constant_pictures(images), show=lambda *numbers: told.append(numbers))
    assert told[-1] == (len(images), len(images))
    assert told == sorted(told)


def test_votes_agree_by_their_largest_and_the_first_wins_a_tie(drawn: FaceSamples) -> None:
    votes = np.zeros((len(drawn), 10), np.uint8)
    column = [VOTE_COLUMNS.index(name) for name in
              ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")]  # fmt: skip
    votes[np.arange(len(drawn)), np.array(column)[drawn.labels]] = 5
    whole = audit(drawn, votes).agreement["training"]
    assert (whole.agreeing, whole.unvoted) == (whole.n, 0)
    votes[:, column[0]] = 5  # anger comes first among equals
    tied = audit(drawn, votes).agreement["private_test"]
    assert tied.agreeing == int((drawn.labels[drawn.usages == Usage.PRIVATE_TEST] == 0).sum())
    assert tied.by_label[EMOTIONS[0].value][0] == tied.by_label[EMOTIONS[0].value][1]
    none = audit(drawn, np.zeros_like(votes)).agreement["private_test"]
    assert none.unvoted == none.n


def test_an_audit_is_json_with_row_numbers(spoilt: FaceSamples) -> None:
    moved = dataclasses.replace(spoilt, rows=spoilt.rows + 1000)
    content = json.loads(json.dumps(audit_rows(moved, audit(moved))))
    assert min(content["identical_groups"][0]) >= 1000
    assert content["redundant"] == 2
    pairs = content["near_duplicates"]
    assert {"private_test", "training"} in [set(pair["splits"]) for pair in pairs]
    assert content["near_duplicates_across_splits"] == sum(len(set(pair["splits"])) == 2 for pair in pairs) >= 2
    assert {"split": "private_test", "also_in": "training", "pictures": 2, "same_label": 1} in content["leaks"]
    assert identical_groups(moved.images[:3]) == []


@pytest.mark.shared
@pytest.mark.skipif(not FER2013.exists(), reason="FER-2013 is not beside the project")
def test_the_real_faces() -> None:
    samples = read_samples(f"fer2013:{FER2013}")
    found = audit(samples, votes_on(samples, VOTES))
    assert len(found.near) == 446
    assert (found.redundant, len(found.groups), len(found.contradictory)) == (1853, 1516, 57)
    assert len(found.constant) == 13
    leaked = leaks(samples, found.groups)
    assert leaked["private_test", "training"] == (288, 279)
    assert leaked["public_test", "training"][0] == 280
    assert copied(samples, found.groups)["private_test"] == 314
    private = found.agreement["private_test"]
    assert round(private.agreeing / private.n, 3) == 0.640
    assert round(private.unvoted / private.n, 3) == 0.162
    rates = {name: round(100 * agreeing / n, 1) for name, (n, agreeing) in private.by_label.items()}
    assert rates == {"angry": 54.8, "disgust": 38.2, "fear": 16.9, "happy": 93.3, "sad": 42.3, "surprise": 75.7,
                     "neutral": 84.8}  # fmt: skip
