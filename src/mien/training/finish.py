"""The end of a training: batch norm's statistics, the temperature, the stored predictions, and the report."""

import copy
import dataclasses
import os
import platform
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mien import __version__
from mien.data import Split
from mien.data.pictures import choose
from mien.emotions import EMOTIONS
from mien.evaluation import predictor
from mien.evaluation.evaluate import measure, write_results
from mien.evaluation.metrics import fit_temperature
from mien.evaluation.predictions import Predictions
from mien.models import FaceClassifier, pretrained_weights
from mien.runs import Report, checkpoint
from mien.runs.learnt import Learnt
from mien.training import augment
from mien.training.engine import StreamedImages
from mien.training.networks import learnt_from
from mien.training.setup import Setup

NORM_BATCH = 256
"""Faces of a pass that gathers batch norm's statistics."""

WRITTEN_WHEN_UNKNOWN = ("best_epoch", "energy_joules", "energy_source")
"""Keys of a training's report that are ``null`` where there is no value; others stay away."""


class Environment(TypedDict):
    """Where something was computed."""

    device: str
    processes: int
    machine: str
    threads: int
    python_version: str
    torch_version: str
    mien_version: str


def finish_run(setup: Setup, command: str, votes: NDArray[np.uint8] | None) -> None:
    """Settle batch norm where the recipe asks for it, calibrate, store validation's predictions and write the report.

    The training is over; the arguments are those of ``fit``. Done again after an interruption, it writes the same.
    """
    run, recipe, samples, indices = setup.run, setup.recipe, setup.samples, setup.splits.validation
    classifier = checkpoint.load_checkpoint(run.best_checkpoint).classifier().to(setup.fabric.device)
    if recipe.training.precise_norm:
        reestimate_norm(classifier, setup.faces.images, _crops(setup))
    logits = predictor.predict_logits(classifier, choose(samples.images, indices))  # (1, N, K)
    temperature = fit_temperature(logits[0], samples.labels[indices])
    kept = checkpoint.Checkpoint(recipe, classifier.state_dict(), temperature, samples.classes)
    checkpoint.save_checkpoint(run.best_checkpoint, kept)
    uncalibrated, calibrated = predictor.probabilities_of(logits), predictor.probabilities_of(logits, temperature)
    predictions = Predictions.of(samples, indices, calibrated)
    votes = None if votes is None else votes[indices]
    called = samples.name_of(indices)
    results = measure(Split.VALIDATION.value, predictions, uncalibrated=uncalibrated, votes=votes, called=called)
    learnt = learnt_from(recipe, samples, setup.data_sha256)
    learnt.save(run.learnt_path)
    report = dataclasses.replace(_report(setup, classifier, temperature, learnt, command), results=tuple(results))
    write_results(run, report, {Split.VALIDATION.value: predictions})  # what was measured on test splits stays


def _crops(setup: Setup) -> augment.Crops | None:
    """Which training faces are seen as a detector's crops, in the recipe's share of them."""
    faces, recipe = setup.faces, setup.recipe
    if faces.points is None:
        return None
    rows, epoch = faces.rows.cpu().numpy(), recipe.training.epochs  # the random numbers of no epoch
    return augment.draw_crops(recipe.augmentation, faces.points, faces.size, rows, recipe.seed, epoch)


@torch.no_grad()
def reestimate_norm(
    classifier: FaceClassifier, faces: Tensor | StreamedImages, crops: augment.Crops | None = None
) -> None:
    """Replace every batch norm's running statistics by those of ``faces``, in place; weights stay as they are.

    What training gathers is of augmented and mixed faces and of weights on their way; validation, test and use see
    faces as they are. ``torch.optim.swa_utils.update_bn`` would leave dropout on, which stands before batch norm in
    ``baseline_cnn``.

    Source: "PreciseBN", Wu, Johnson 2021, arXiv:2105.07576, section 3.
    Deviations: the mean of the batches' variances, not the variance of all faces together.

    Args:
        classifier: left in evaluation mode. Without batch norm, nothing happens.
        faces: uint8 ``(M, C, H, W)``, of the training split, on the classifier's device.
        crops: of ``(M,)`` faces, where some are seen as a detector's crops.
    """
    norms = [module for module in classifier.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    classifier.eval()  # dropout stays off
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for start in range(0, len(faces), NORM_BATCH):
        batch = faces[start : start + NORM_BATCH]
        if crops is not None:
            batch = augment.cropped(batch, crops.at(torch.arange(start, start + len(batch))).to(batch.device))
        classifier(classifier.prepare(batch))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    classifier.eval()


def count_macs(classifier: FaceClassifier) -> int:
    """Multiply-adds for one face at the network's input size."""
    on_cpu = copy.deepcopy(classifier).cpu().eval()
    face = torch.zeros(1, 1, classifier.input_size, classifier.input_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        on_cpu(face)
    return int(counter.get_total_flops()) // 2


def describe_environment(device: torch.device, processes: int) -> Environment:
    """Device, machine, threads and versions."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": processes,
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "threads": torch.get_num_threads(),
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
        "mien_version": __version__,
    }


def _report(setup: Setup, classifier: FaceClassifier, temperature: float, learnt: Learnt, command: str) -> Report:
    """All but the results."""
    recipe, samples, counters = setup.recipe, setup.samples, setup.counters
    report = Report(
        model=recipe.model.name,
        recipe=recipe.name,
        recipe_sha256=recipe.sha256(),
        teachers_sha256=tuple(setup.teachers_sha256) or None,
        data=samples.name,
        data_sha256=setup.data_sha256,
        row_source=samples.row_source.value,
        skipped=len(samples.skipped),
        labels=None if samples.classes == EMOTIONS else samples.classes,
        protocol=recipe.data.protocol,
        fold=recipe.data.fold,
        folds=None if recipe.data.fold is None else recipe.data.folds,
        group=recipe.data.group,
        validation_subjects=_validation_subjects(setup),
        training_rows=len(setup.splits.training),
        learnt_pictures=len(learnt.hashes) if learnt.is_complete else None,
        most_frequent=samples.classes[np.bincount(samples.labels[setup.splits.training]).argmax()],
        weights=recipe.training.weights,
        initialization=recipe.model.initialization,
        pretrained=pretrained_weights(recipe.model),
        seed=recipe.seed,
        input_size=recipe.model.input_size,
        color=recipe.data.color or None,
        precision="bfloat16" if setup.fabric.strategy.precision.precision == "bf16-mixed" else "float32",
        temperature=temperature,
        parameters=sum(parameter.numel() for parameter in classifier.parameters()),
        macs=count_macs(classifier),
        epochs=counters.epoch,
        best_epoch=None if counters.best_epoch is None else counters.best_epoch + 1,  # counts from 1
        batch_size=recipe.training.batch_size,
        train_seconds=counters.seconds,
        pictures_per_second=counters.pictures / max(counters.seconds, 1e-9),
        energy_joules=counters.energy_joules,
        energy_source=counters.energy_source,
        **describe_environment(setup.fabric.device, setup.fabric.world_size),
        command=command,
        views=1,
    )
    keys = (each.name for each in dataclasses.fields(Report))
    known = (key for key in keys if key in WRITTEN_WHEN_UNKNOWN or getattr(report, key) is not None)
    return dataclasses.replace(report, order=tuple(known))


def _validation_subjects(setup: Setup) -> int | None:
    """Subjects in validation, where subjects are known and none of them is in training too."""
    groups, splits = setup.samples.groups, setup.splits
    if groups is None or len(setup.samples.shared_subjects(splits.training, splits.validation)):
        return None
    subjects = np.unique(groups[splits.validation])
    return int((subjects >= 0).sum())


def _processor() -> str:
    """Name of the processor, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
