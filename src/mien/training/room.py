"""What a training needs of memory and of the disk, estimated before it begins, and what there is.

The estimate of the memory is of what must be held at one moment: weights, gradients, the optimizer's moments and
averages, what the backward pass needs of a batch or validation of its own, and the faces on the device. Libraries take
more, about half as much again (``tests/training/test_room.py`` measures it). Who is refused has too little, therefore.
"""

import ctypes
import logging
import math
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mien import errors, models
from mien.evaluation.predictor import device_type
from mien.recipe import ModelSettings, OptimizerSettings, TrainingSettings
from mien.runs import Run

logger = logging.getLogger(__name__)

SPARE_BYTES = 8 << 20
"""Room on the disk for a run's predictions, rows, reports and plots."""

VALIDATION_BATCH = 256
"""Faces that validation gives the network at once, at most."""

PROBED = 2
"""Faces that the network is given to measure what it keeps; batch norm needs two."""

UNLIMITED = 1 << 60
"""Limits of memory from here on are none."""


@dataclass(frozen=True)
class Need:
    """Bytes that a training needs.

    Attributes:
        fixed: in memory, whatever the batch.
        face: in memory, for each face of a batch of training.
        validation: in memory, beside ``fixed`` and instead of a batch of training.
        kept: on the disk, when it is over.
        replaced: on the disk, for as long as a checkpoint takes the place of another.
    """

    fixed: int
    face: int
    validation: int
    kept: int
    replaced: int

    def memory(self, batch_size: int) -> int:
        """Of a training with so many faces in a batch."""
        return self.fixed + max(self.face * batch_size, self.validation)

    def largest_batch(self, memory: int) -> int:
        """The power of two that fits, or 0."""
        if self.fixed + max(self.face, self.validation) > memory:
            return 0
        return 1 << int(math.log2((memory - self.fixed) / max(self.face, 1)))


def estimate_need(
    model: ModelSettings,
    training: TrainingSettings,
    optimizer: OptimizerSettings,
    *,
    outputs: int = 7,
    faces: int = 0,
    validated: int = VALIDATION_BATCH,
    precision: str = "float32",
) -> Need:
    """What a recipe needs, from one pass without memory or arithmetic (torch's ``meta`` device).

    Args:
        model: the recipe's ``[model]``.
        training: the recipe's ``[training]``.
        optimizer: the recipe's ``[optimizer]``.
        outputs: of the network, for classes and votes.
        faces: bytes of the faces that are held on the device.
        validated: images of validation.
        precision: float32 or bfloat16, resolved.

    Raises:
        UnknownNameError, RecipeError, ModelError: as ``models.create_classifier``.
    """
    classifier = _without_memory(model, outputs)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in classifier.state_dict().values())
    learnt = sum(each.numel() * each.element_size() for each in classifier.parameters() if each.requires_grad)
    moments = {"sgd": 1 if optimizer.momentum else 0}.get(optimizer.name, 2)
    averages = 0 if training.ema_decay is None else 1
    kept, passed = _bytes_of_a_face(classifier)
    wide = 0.5 if precision == "bfloat16" else 1.0
    last = weights * (1 + averages) + learnt * moments
    return Need(
        fixed=last + learnt + faces,  # and the gradients
        face=int(kept * wide),
        validation=int(passed * wide * min(validated, VALIDATION_BATCH)),
        kept=last + weights + SPARE_BYTES,
        replaced=last,
    )


def _without_memory(model: ModelSettings, outputs: int) -> models.FaceClassifier:
    """The network of a recipe on the ``meta`` device."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return models.create_classifier(model, outputs, load_weights=False)
        except errors.MienError:
            pass  # also where a constructor looks at its values, which are none on meta
        return models.create_classifier(model, outputs, load_weights=False).to("meta")


def _bytes_of_a_face(classifier: models.FaceClassifier) -> tuple[int, int]:
    """Bytes that the backward pass needs of a face, and the most that two neighbouring layers hold of it."""
    owned = {each.untyped_storage()._cdata for each in classifier.state_dict(keep_vars=True).values()}
    kept: dict[int, torch.UntypedStorage] = {}
    passed = [0]

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in owned:
            kept[storage._cdata] = storage
        return tensor

    def note(_module: nn.Module, given: tuple[object, ...], got: object) -> None:
        storages = [each.untyped_storage() for each in (*given, got) if isinstance(each, Tensor)]
        passed.append(sum({each._cdata: each.nbytes() for each in storages}.values()))

    leaves = [module for module in classifier.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    faces = torch.zeros(PROBED, classifier.in_chans, classifier.input_size, classifier.input_size, device="meta")
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            classifier.train()(faces)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return 0, 0  # a network that cannot be run without its values: what it keeps of a face is not known
    finally:
        for hook in hooks:
            hook.remove()
    return sum(each.nbytes() for each in kept.values()) // PROBED, max(passed) // PROBED


def choose_precision(precision: str, device: str) -> str:
    """``float32`` or ``bfloat16``, with ``auto`` resolved for a type of device.

    A processor without bfloat16 instructions imitates them: measured on one with AVX2 only, matrix products took 160
    times as long as in float32.
    """
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else False
    else:
        # torch.cpu.get_capabilities tells the same and more, from torch 2.10 on.
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if precision == "bfloat16" and not native:
        logger.warning("this device has no bfloat16 arithmetic and imitates it slowly; set training.precision=auto")
    return precision if precision != "auto" else "bfloat16" if native else "float32"


def check_memory(need: Need, batch_size: int, accelerator: str, processes: int = 1, row: str = "") -> None:
    """Refuse a training that needs more memory than its device has to give.

    Args:
        need: of one process.
        batch_size: faces of a step over all processes.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        processes: that share a batch, on this machine.
        row: of a study, whose settings the remedy names.

    Raises:
        RoomError: with what is needed, what there is and what would fit.
        CallError: there is no GPU, and one is asked for.
    """
    device = device_type(accelerator)
    available = _gpu_memory() if device == "cuda" else _main_memory()
    if device == "cpu":  # the processes share it
        available = None if available is None else available // processes
    needed = need.memory(batch_size // processes)
    if available is None or needed <= available:
        return
    fitting = need.largest_batch(available) * processes
    place = f"--set {row}:" if row else "--set "
    remedy = f"{place}training.batch_size={fitting}" if fitting else f"{place}model.input_size=N with a smaller N"
    where = "the GPU's memory" if device == "cuda" else "memory"
    raise errors.RoomError(
        f"expected at least {_size(needed)} of free {where} for batches of {batch_size} faces, got {_size(available)};"
        f" add {remedy}, or take a smaller model"
    )


def check_disk(needs: Mapping[Run, Need]) -> None:
    """Refuse runs whose checkpoints will not fit on the disk together; what lies there already counts.

    Raises:
        RoomError: with what is needed and what is free.
    """
    if not needs:
        return
    out = next(iter(needs)).path.absolute()
    place = next(each for each in (out, *out.parents) if each.exists())
    missing = sum(max(0, need.kept - _bytes_in(run)) for run, need in needs.items())
    needed = missing + max(need.replaced for need in needs.values())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise errors.RoomError(
            f"{place}: expected about {_size(needed)} of room for {len(needs)} run{'s' if len(needs) > 1 else ''}, got"
            f" {_size(free)}; free some space, or choose another --out"
        )


def _bytes_in(run: Run) -> int:
    return sum(path.stat().st_size for path in (run.last_checkpoint, run.best_checkpoint) if path.exists())


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _gpu_memory() -> int:
    """What is free, with what torch holds and does not use."""
    free, _total = torch.cuda.mem_get_info()
    return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def _main_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still have, swap included; ``None`` where the system does not tell.

    Linux tells what is available, and a control group (a container, a job of Slurm) may allow less. ``root`` is there
    for tests.
    """
    meminfo = root / "proc" / "meminfo"
    if not meminfo.exists():
        known = "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {})
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else None
    lines = (line.split() for line in meminfo.read_text(encoding="ascii").splitlines())
    system = {words[0].rstrip(":"): int(words[1]) << 10 for words in lines}
    swap = system.get("SwapFree", 0)
    return min(system["MemAvailable"] + swap, *(limit + swap for limit in _group_memory(root))) + _freed()


def _group_memory(root: Path) -> Iterable[int]:
    """What each control group that this process is in still allows, by version 2 or 1."""
    yield UNLIMITED
    cgroup = root / "proc" / "self" / "cgroup"
    for line in cgroup.read_text(encoding="utf-8").splitlines() if cgroup.exists() else ():
        _, controllers, name = line.split(":", 2)
        names = ("memory.max", "memory.current", "inactive_file")
        top = root / "sys" / "fs" / "cgroup"
        if "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top /= "memory"
        elif controllers:
            continue
        group = top / name.strip("/")
        for folder in (group, *group.parents):  # a container may see its own group as the top
            if folder.is_relative_to(top) and (allowed := _allowed(folder, *names)) is not None:
                yield allowed


def _allowed(folder: Path, limit_name: str, used_name: str, cache_name: str) -> int | None:
    """A group's limit minus what it uses but for files that are cached; ``None`` without a limit."""
    try:
        limit = int((folder / limit_name).read_text())
        used = int((folder / used_name).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or "max"
        return None
    return None if limit >= UNLIMITED else max(0, limit - used + int(stat.get(cache_name, 0)))


class _Mallinfo2(ctypes.Structure):
    """See mallinfo(3)."""

    _fields_ = [(f"field_{number}", ctypes.c_size_t) for number in range(10)]


def _freed() -> int:
    """Bytes that this process freed and glibc kept: an earlier training's, which the next one uses again."""
    if platform.libc_ver()[0] != "glibc" or not hasattr(library := ctypes.CDLL(None), "mallinfo2"):
        return 0
    library.mallinfo2.restype = _Mallinfo2
    return int(library.mallinfo2().field_8)
