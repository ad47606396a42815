"""What a run learnt from travels with it, and "unseen" is said of no other picture, whatever the data."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from tests.conftest import small_recipe

from mien.data import FaceSamples, Split, draw_faces
from mien.data.samples import Usage, picture_hashes
from mien.errors import RunError
from mien.evaluation.evaluate import evaluate, evaluate_and_store
from mien.evaluation.predictor import OnnxPredictor, RunPredictor, open_predictor
from mien.export import export_onnx
from mien.face.network import EmotionNetwork, model_file
from mien.report.run_page import seen_words, write_run_page
from mien.runs import Run, Subset
from mien.runs.learnt import UNKNOWN, beside, learnt_by, training_of
from mien.training import fit

QUICK = {"epochs": 1}
STARTS = ("scratch", "imagenet")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, drawn: FaceSamples) -> Run:
    return fit(small_recipe(training=QUICK), drawn, tmp_path_factory.mktemp("runs") / "run", accelerator="cpu")


@pytest.fixture(scope="module")
def others(drawn: FaceSamples) -> FaceSamples:
    """Other drawn faces."""
    return drawn_again(drawn, 1)


def drawn_again(drawn: FaceSamples, seed: int) -> FaceSamples:
    """Other people with the same expressions."""
    return dataclasses.replace(drawn, images=draw_faces(len(drawn), seed=seed).images)


def folder_of(samples: FaceSamples, usage: Usage, name: str = "other") -> FaceSamples:
    """The faces of a usage as a folder of test pictures alone."""
    kept = samples.usages == usage
    count = int(kept.sum())
    return FaceSamples(
        samples.images[kept], samples.labels[kept], np.arange(count, dtype=np.int32),
        np.full(count, Usage.TEST, np.int8), name, samples.row_source,
    )  # fmt: skip


def copy_of(run: Run, out: Path) -> Run:
    shutil.copytree(run.path, out)
    return Run(out)


def hashes(samples: FaceSamples, usage: Usage = Usage.TRAINING) -> set[int]:
    return set(picture_hashes(samples.images[samples.usages == usage]).tolist())


def test_a_run_keeps_the_hashes_of_its_training_pictures(run: Run, drawn: FaceSamples) -> None:
    found = np.load(run.learnt_path)
    assert found.dtype == np.uint64
    assert found.tolist() == sorted(hashes(drawn))
    assert run.load_report().learnt_pictures == len(found) == 168


def test_its_own_training_pictures_in_another_folder_are_found_and_told(
    run: Run, drawn: FaceSamples, tmp_path: Path
) -> None:
    leak = folder_of(drawn, Usage.TRAINING, "leak")
    predictor = RunPredictor(run, "cpu")
    found = evaluate_and_store(predictor, leak, Split.PUBLISHED_TEST, out=tmp_path / "leak")
    (result,) = found.report.results
    assert (result.subset, result.seen, result.n) == (Subset.ALL, 168, 168)
    assert any("168 of 168" in line for line in seen_words(found.report, elsewhere=True))
    page = write_run_page(Run(tmp_path / "leak"), leak, pictures=False).read_text()
    assert "168 of 168" in page
    assert "168 of 168" in (tmp_path / "leak" / "model_card.md").read_text()
    assert '"seen": 168' in (tmp_path / "leak" / "report.json").read_text()


def test_one_leaked_picture_among_others_is_found(run: Run, drawn: FaceSamples, others: FaceSamples) -> None:
    foreign = folder_of(others, Usage.PRIVATE_TEST)
    images = np.array(foreign.images)
    images[3] = drawn.images[np.flatnonzero(drawn.usages == Usage.TRAINING)[7]]
    leaky = dataclasses.replace(foreign, images=images)
    every, unseen = evaluate(RunPredictor(run, "cpu"), leaky, Split.PUBLISHED_TEST).report.results
    assert (every.n, every.seen, unseen.n, unseen.subset) == (21, 1, 20, Subset.UNSEEN)
    every, unseen = evaluate(RunPredictor(run, "cpu"), foreign, Split.PUBLISHED_TEST).report.results
    assert (every.seen, unseen.n) == (0, 21)


def test_any_split_of_other_data_is_asked(run: Run, drawn: FaceSamples, others: FaceSamples) -> None:
    (other,) = evaluate(RunPredictor(run, "cpu"), others, Split.TRAINING).report.results
    assert other.seen == 0
    (own,) = evaluate(RunPredictor(run, "cpu"), drawn, Split.TRAINING).report.results
    assert own.seen is None  # that it learnt from these is plain


def test_copies_in_the_part_held_out_to_choose_on_count_as_seen(tmp_path: Path, drawn: FaceSamples) -> None:
    recipe = small_recipe(training=QUICK, data={"protocol": "published"})
    run = fit(recipe, drawn, tmp_path / "run", accelerator="cpu")
    report = run.load_report()
    assert (report.training_rows, report.learnt_pictures) == (147, 168)
    found = evaluate(RunPredictor(run, "cpu"), folder_of(drawn, Usage.TRAINING), Split.PUBLISHED_TEST)
    assert found.report.results[0].seen == 168


def test_on_its_own_data_unseen_is_what_has_no_copy_in_training(run: Run, drawn: FaceSamples, tmp_path: Path) -> None:
    images = np.array(drawn.images)
    private = np.flatnonzero(drawn.usages == Usage.PRIVATE_TEST)
    images[private[:2]] = images[np.flatnonzero(drawn.usages == Usage.TRAINING)[:2]]
    images[private[2]] = images[np.flatnonzero(drawn.usages == Usage.PUBLIC_TEST)[0]]  # chosen on, not learnt
    copies = dataclasses.replace(drawn, images=images)
    copied = fit(small_recipe(training=QUICK), copies, tmp_path / "run", accelerator="cpu")
    expected = (~training_of(copies).holds(copies, copies.split(Split.PRIVATE_TEST))).sum()
    before = evaluate(RunPredictor(copied, "cpu"), copies, Split.PRIVATE_TEST).report
    every, unseen = before.results
    assert (every.seen, unseen.n) == (2, 19) == (2, expected)
    copied.learnt_path.unlink()  # as a run from before hashes were kept
    without = dataclasses.replace(copied.load_report(), learnt_pictures=None, order=())
    without.save(copied.report_path)
    assert evaluate(RunPredictor(copied, "cpu"), copies, Split.PRIVATE_TEST).report.results == before.results


def test_of_an_old_run_nothing_is_claimed_on_other_data(run: Run, drawn: FaceSamples, tmp_path: Path) -> None:
    old = copy_of(run, tmp_path / "old")
    old.learnt_path.unlink()
    found = evaluate(RunPredictor(old, "cpu"), folder_of(drawn, Usage.TRAINING), Split.PUBLISHED_TEST)
    (result,) = found.report.results
    assert result.seen is None
    (words,) = seen_words(found.report, elsewhere=True)
    assert "not known" in words


def test_what_starts_and_teachers_learnt_from_is_taken_over_through_a_chain(
    run: Run, drawn: FaceSamples, others: FaceSamples, tmp_path: Path
) -> None:
    start = {"weights": str(run.best_checkpoint)}
    second = fit(small_recipe(training=QUICK, model=start), others, tmp_path / "second", accelerator="cpu")
    third_data = drawn_again(drawn, 2)
    taught = {**QUICK, "teachers": [str(second.best_checkpoint)], "teacher_weight": 0.5}
    third = fit(small_recipe(training=taught), third_data, tmp_path / "third", accelerator="cpu")
    expected = hashes(drawn) | hashes(others) | hashes(third_data)
    assert np.load(third.learnt_path).tolist() == sorted(expected)
    assert third.load_report().learnt_pictures == len(expected) == 3 * 168
    found = evaluate(RunPredictor(third, "cpu"), folder_of(drawn, Usage.TRAINING), Split.PUBLISHED_TEST)
    assert found.report.results[0].seen == 168


def test_a_start_of_which_nothing_is_known_makes_unseen_unknown_and_what_is_known_is_still_found(
    run: Run, drawn: FaceSamples, others: FaceSamples, tmp_path: Path
) -> None:
    lone = tmp_path / "lone.ckpt"
    shutil.copy(run.best_checkpoint, lone)
    second = fit(
        small_recipe(training=QUICK, model={"weights": str(lone)}), others, tmp_path / "run", accelerator="cpu"
    )
    assert second.load_report().learnt_pictures is None
    foreign = folder_of(others, Usage.TRAINING)
    half = dataclasses.replace(foreign, images=np.where(foreign.rows[:, None, None] < 84, foreign.images, 9))
    found = evaluate(RunPredictor(second, "cpu"), half, Split.PUBLISHED_TEST)
    (result,) = found.report.results
    assert result.seen == 84
    (words,) = seen_words(found.report, elsewhere=True)
    assert re.search(r"84 of 168 .* not known", words)


def test_weights_from_a_file_of_unknown_origin_leave_no_picture_unseen(drawn: FaceSamples, tmp_path: Path) -> None:
    """On its own data, too, by the run and by its file; copies in Training are told."""
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    start = {"name": "timm:test_resnet", "in_chans": 3, "weights": str(tmp_path / "w.pth")}
    images = np.array(drawn.images)
    private, training = drawn.split(Split.PRIVATE_TEST), drawn.split(Split.TRAINING)
    images[private[0]] = images[training[0]]
    copied = dataclasses.replace(drawn, images=images)
    run = fit(small_recipe(training=QUICK, model=start), copied, tmp_path / "run", accelerator="cpu")
    assert (run.load_report().initialization, run.load_report().learnt_pictures) == ("file", None)
    assert set(np.load(run.learnt_path).tolist()) == hashes(copied)
    file = export_onnx(run, tmp_path / "mine.onnx").path
    for predictor in (RunPredictor(run, "cpu"), open_predictor(file)):
        (result,) = evaluate(predictor, copied, Split.PRIVATE_TEST).report.results
        assert (result.subset, result.seen) == (Subset.ALL, 1)
        (result,) = evaluate(predictor, folder_of(drawn, Usage.PRIVATE_TEST), Split.PUBLISHED_TEST).report.results
        assert (result.subset, result.seen) == (Subset.ALL, None)
    clean = fit(small_recipe(training=QUICK, model=start), drawn, tmp_path / "clean", accelerator="cpu")
    found = evaluate(RunPredictor(clean, "cpu"), drawn, Split.PRIVATE_TEST).report
    assert [result.seen for result in found.results] == [None]
    (words,) = seen_words(found, elsewhere=False)
    assert "not known" in words


def test_what_imagenet_leaves_open_is_said(run: Run, drawn: FaceSamples) -> None:
    found = evaluate(RunPredictor(run, "cpu"), drawn, Split.PRIVATE_TEST).report
    words = [seen_words(dataclasses.replace(found, initialization=start), elsewhere=False)[0] for start in STARTS]
    assert ["ImageNet" in each for each in words] == [False, True]


def test_an_old_start_on_the_same_data_had_seen_nothing_else(run: Run, drawn: FaceSamples, tmp_path: Path) -> None:
    old = copy_of(run, tmp_path / "old")
    old.learnt_path.unlink()
    recipe = small_recipe(training=QUICK, model={"weights": str(old.best_checkpoint)})
    again = fit(recipe, drawn, tmp_path / "again", accelerator="cpu")
    assert again.load_report().learnt_pictures == 168
    assert again.learnt_path.read_bytes() == run.learnt_path.read_bytes()


def test_a_network_of_the_package_learnt_from_fer2013(drawn: FaceSamples, tmp_path: Path) -> None:
    learnt = OnnxPredictor(EmotionNetwork(model_file("base"))).learnt
    assert (learnt.is_complete, len(learnt.hashes)) == (True, 27_473)
    taught = {**QUICK, "teachers": ["nano"], "teacher_weight": 0.5}
    run = fit(small_recipe(training=taught), drawn, tmp_path / "run", accelerator="cpu")
    assert run.load_report().learnt_pictures == 27_473 + 168


def test_an_exported_file_says_it_by_the_file_beside_it(run: Run, drawn: FaceSamples, tmp_path: Path) -> None:
    file = export_onnx(run, tmp_path / "mine.onnx").path
    assert beside(file).stat().st_size < 2_000
    leak = folder_of(drawn, Usage.TRAINING)
    found = evaluate(open_predictor(file), leak, Split.PUBLISHED_TEST)
    assert (found.report.results[0].seen, found.report.learnt_pictures) == (168, 168)
    beside(file).write_bytes(beside(file).read_bytes()[:-8] + bytes(8))  # another's
    assert evaluate(open_predictor(file), leak, Split.PUBLISHED_TEST).report.results[0].seen is None
    beside(file).unlink()
    assert evaluate(open_predictor(file), leak, Split.PUBLISHED_TEST).report.results[0].seen is None


def test_an_exported_file_knows_its_own_data(drawn: FaceSamples, tmp_path: Path) -> None:
    """What it was chosen on is no picture that it learnt from."""
    run = fit(small_recipe(training=QUICK, data={"protocol": "published"}), drawn, tmp_path / "run", accelerator="cpu")
    file = export_onnx(run, tmp_path / "mine.onnx").path
    for split in (Split.VALIDATION, Split.PUBLISHED_TEST):
        by_run, by_file = (evaluate(found, drawn, split).report for found in (RunPredictor(run), open_predictor(file)))
        for one, other in zip(by_run.results, by_file.results, strict=True):
            assert (one.key, one.seen, one.n) == (other.key, other.seen, other.n)
        assert (by_file.data, by_file.trained_on, by_file.data_sha256) == ("synthetic", None, by_run.data_sha256)
        assert seen_words(by_file, elsewhere=False) == seen_words(by_run, elsewhere=False)
    moved = folder_of(drawn, Usage.TRAINING)
    assert evaluate(open_predictor(file), moved, Split.PUBLISHED_TEST).report.trained_on is None


def test_damaged_hashes_are_named(run: Run, tmp_path: Path) -> None:
    damaged = copy_of(run, tmp_path / "run")
    damaged.learnt_path.write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"learnt\.npy is damaged"):
        learnt_by(damaged)
    np.save(damaged.learnt_path, np.zeros(3))
    with pytest.raises(RunError, match=r"uint64 \(M,\), got float64 \(3,\)"):
        learnt_by(damaged)
    damaged.learnt_path.unlink()
    assert learnt_by(damaged) is UNKNOWN
