"""The two ways to train that are compared: the package's, and the textbook's.

Both train the network of the same recipe with the same batch size and the same augmentation, on the same faces. A
pipeline is warm between two windows of steps, but does nothing then, so that windows of the two can alternate. Each
stands in a process of its own, because how a process treats its memory is part of what is compared.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision import datasets, transforms

from mien.data import FaceSamples
from mien.emotions import EMOTIONS
from mien.evaluation.predictor import keep_freed_memory
from mien.models import create_classifier
from mien.recipe import AugmentationSettings, Recipe
from mien.training import engine
from mien.training.progress import STEPS_BETWEEN_FETCHES
from mien.training.room import choose_precision
from mien.training.setup import training_splits

WARM_UP_STEPS = 2
"""Before each window: afterwards caches are warm, and the textbook's workers have a head start no longer."""

WORKERS = 2
"""Of the textbook's ``DataLoader``."""

PREFETCHED = 2 * WORKERS
"""Batches that its workers prepare ahead, by default."""


@dataclass(frozen=True)
class Window:
    """Some steps of training.

    Attributes:
        steps: how many.
        seconds: what they took together.
        batch_seconds: of these, spent on making batches: picking faces, augmentation, targets; 0 where unknown.
    """

    steps: int
    seconds: float
    batch_seconds: float = 0.0


class Pipeline(Protocol):
    """Something that trains."""

    def train(self, steps: int) -> Window:
        """Train for ``WARM_UP_STEPS`` steps, then for ``steps`` steps by the clock."""


@contextmanager
def apart(threads: int, seed: int, make: Callable[..., Pipeline], *arguments: object) -> Iterator[Pipeline]:
    """A pipeline in a process of its own, with so many threads; it ends with the context."""
    context = multiprocessing.get_context("spawn")  # a fork would begin with the memory of this process
    first = partial(_begin, threads, seed, make, *arguments)
    with ProcessPoolExecutor(1, context, initializer=first) as process:
        yield _PipelineApart(process)


class _PipelineApart:
    def __init__(self, process: ProcessPoolExecutor) -> None:
        self.process = process

    def train(self, steps: int) -> Window:
        return self.process.submit(_train, steps).result()


_here: Pipeline
"""The pipeline of this process, where :func:`apart` began it."""


def _begin(threads: int, seed: int, make: Callable[..., Pipeline], *arguments: object) -> None:
    global _here
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    _here = make(*arguments)


def _train(steps: int) -> Window:
    return _here.train(steps)


class PackagePipeline:
    """The training step of ``mien train``: everything between two checkpoints but the progress on the screen."""

    def __init__(self, recipe: Recipe, samples: FaceSamples, device: torch.device) -> None:
        self.recipe = recipe
        if device.type == "cpu":
            keep_freed_memory()
        precision = choose_precision(recipe.training.precision, device.type)
        self.fabric = Fabric(
            accelerator=device.type,
            devices=1,
            precision="bf16-mixed" if precision == "bfloat16" else "32-true",
        )
        classifier = create_classifier(recipe.model, len(EMOTIONS))
        if recipe.training.channels_last:
            classifier = classifier.to(memory_format=torch.channels_last)
        classifier.to(device)
        network: Any = torch.compile(classifier) if recipe.training.compile else classifier
        optimizer = engine.create_optimizer(classifier, recipe.optimizer)
        self.network, self.optimizer = self.fabric.setup(network, optimizer)
        positions = training_splits(recipe.data, samples).training
        self.faces = engine.TrainingFaces(
            images=torch.from_numpy(np.array(samples.images[positions])).unsqueeze(1).to(device),
            labels=torch.from_numpy(samples.labels[positions].astype(np.int64)).to(device),
            rows=torch.from_numpy(samples.rows[positions].astype(np.int64)).to(device),
        )
        self.stopwatch = _Stopwatch(device)
        self.steps = self._steps()

    def train(self, steps: int) -> Window:
        """Train for ``WARM_UP_STEPS`` steps, then for ``steps`` steps by the clock."""
        self._take(WARM_UP_STEPS)
        self.stopwatch.reset()
        seconds = _clocked(lambda: self._take(steps), self.fabric.device)
        return Window(steps, seconds, self.stopwatch.seconds())

    def _take(self, steps: int) -> None:
        """Steps whose losses are fetched as often as ``fit`` does."""
        often = 1 if self.fabric.device.type == "cpu" else STEPS_BETWEEN_FETCHES
        pending: list[engine.Step] = []
        for step in islice(self.steps, steps):
            pending.append(step)
            if len(pending) >= often:
                torch.stack([step.loss for step in pending]).tolist()
                torch.stack([step.correct for step in pending]).sum().item()
                pending.clear()

    def _steps(self) -> Iterator[engine.Step]:
        self.network.train()
        settings, lr = self.recipe.training, self.recipe.optimizer.lr
        for number, batch in enumerate(self._batches()):
            torch.manual_seed(number)
            yield engine.train_step(self.network, self.optimizer, batch, lr, settings, self.fabric)

    def _batches(self) -> Iterator[engine.Batch]:
        """Batches of one epoch after another."""
        recipe, size = self.recipe, self.recipe.training.batch_size
        for number in count():
            epoch = engine.Epoch(
                self.faces,
                recipe.augmentation,
                recipe.model.input_size,
                seed=recipe.seed,
                number=number,
                batch_size=size,
            )
            for step in range(len(self.faces.rows) // size):
                with self.stopwatch:
                    batch = epoch.batch(step)
                yield batch


class TextbookPipeline:
    """A folder of PNG files, PIL transforms, a ``DataLoader`` with two workers, float32, NCHW, Adam as it comes."""

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device) -> None:
        """``folder`` is what :func:`write_pictures` wrote."""
        self.batch_size, self.device = recipe.training.batch_size, device
        self.dataset = datasets.ImageFolder(
            str(folder), textbook_transforms(recipe.augmentation, recipe.model.input_size)
        )
        self.model = create_classifier(recipe.model, len(EMOTIONS)).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=recipe.optimizer.lr)
        self.criterion = nn.CrossEntropyLoss()

    def train(self, steps: int) -> Window:
        """Train for ``WARM_UP_STEPS`` steps, then for ``steps`` steps by the clock."""
        # Workers of its own for each window, so that none is busy while the other pipeline runs.
        count = self.batch_size * (WARM_UP_STEPS + steps + PREFETCHED)
        sampler = RandomSampler(self.dataset, replacement=True, num_samples=count)
        pinned = self.device.type == "cuda"
        loader: Any = DataLoader(self.dataset, self.batch_size, sampler=sampler, num_workers=WORKERS, pin_memory=pinned)
        batches = iter(loader)
        self.model.train()
        self._take(batches, WARM_UP_STEPS)
        return Window(steps, _clocked(lambda: self._take(batches, steps), self.device))

    def _take(self, batches: Iterator[tuple[Tensor, Tensor]], steps: int) -> None:
        for images, labels in islice(batches, steps):
            images, labels = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            loss.item()


def textbook_transforms(settings: AugmentationSettings, size: int) -> Callable[[Image.Image], Tensor]:
    """The published configuration's, in its order: PIL picture to float32 ``(1, S, S)`` in [0, 1]."""
    steps: list[Callable[[Any], Any]] = [
        transforms.Grayscale(),
        transforms.Resize((size, size)),
        transforms.RandomHorizontalFlip(settings.flip),
        transforms.RandomRotation(settings.rotation),
        transforms.ColorJitter(brightness=settings.brightness),
        transforms.ToTensor(),
    ]
    composed: Callable[[Image.Image], Tensor] = transforms.Compose(steps)
    return composed


def write_pictures(recipe: Recipe, samples: FaceSamples, folder: Path) -> None:
    """Write the training faces as ``<class>/<row>.png`` below ``folder``."""
    for emotion in EMOTIONS:
        (folder / emotion).mkdir(parents=True)
    for position in training_splits(recipe.data, samples).training:
        name = f"{EMOTIONS[samples.labels[position]]}/{samples.rows[position]}.png"
        Image.fromarray(samples.images[position]).save(folder / name)


class _Stopwatch:
    """Adds up the time that the device spends on what happens inside of its context."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
        self.marks: list[Any] = []

    def __enter__(self) -> None:
        self.marks.append(self._mark())

    def __exit__(self, *_error: object) -> None:
        self.marks.append(self._mark())

    def seconds(self) -> float:
        _synchronize(self.device)
        pairs = list(zip(self.marks[::2], self.marks[1::2], strict=True))
        if self.device.type == "cuda":
            return float(sum(start.elapsed_time(end) for start, end in pairs)) / 1000
        return float(sum(end - start for start, end in pairs))

    def _mark(self) -> Any:
        # On a GPU the clock on the wall would only tell how long it takes to ask for the work.
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _clocked(work: Callable[[], None], device: torch.device) -> float:
    """Seconds until ``work`` is done, on the device too."""
    _synchronize(device)
    start = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
