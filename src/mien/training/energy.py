"""The energy that a training uses, where the hardware counts it; it is never estimated.

The processor counts in Linux's powercap (RAPL, Intel's and AMD's), an NVIDIA GPU from Volta on in NVML. What a counter
holds is all that its part used, other programs' work included; power supplies, fans and disks are in none. Where a
counter cannot be read, as by other users than root on many systems and in most virtual machines, the energy is not
known.

codecarbon reads the same counters, but it puts an estimate from the processor's name in the place of one that is
missing, brings pandas and a dozen packages more, and cannot go on from the sum that a checkpoint holds.

Sources: Linux, Documentation/power/powercap/powercap.rst; NVIDIA, nvmlDeviceGetTotalEnergyConsumption.
"""

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")

COUNTED = ("package", "dram")
"""Zones that do not hold one another; ``core`` and ``uncore`` are parts of a package, and ``psys`` holds it."""


@dataclass(frozen=True)
class EnergyCounter:
    """A counter that only grows.

    Attributes:
        name: of the part that it counts for.
        read: its microjoules; raises ``OSError`` where they cannot be read any more.
        limit: the most that it holds before it begins at 0 again; ``None`` where it never does.
    """

    name: str
    read: Callable[[], int]
    limit: int | None = None


def spent(before: int, now: int, limit: int | None = None) -> int:
    """Microjoules between two readings, with at most one return to 0 between them."""
    return now - before if now >= before or limit is None else limit - before + now


class EnergyMeter:
    """Several counters read together.

    Attributes:
        source: names of their parts, or ``None`` where there is none.
    """

    def __init__(self, counters: Sequence[EnergyCounter]) -> None:
        self.source = ", ".join(counter.name for counter in counters) or None
        self._counters = counters
        self._before = self._read()

    def joules(self) -> float | None:
        """Since the last call or the beginning; ``None`` where it is not known."""
        before, now = self._before, self._read()
        self._before = now
        if not before or not now:  # one of them failed, or there is no counter
            return None
        limits = [counter.limit for counter in self._counters]
        return sum(map(spent, before, now, limits)) / 1e6

    def _read(self) -> list[int] | None:
        try:
            return [counter.read() for counter in self._counters]
        except (OSError, ValueError):
            return None


def create_meter(device: torch.device, processes: int) -> EnergyMeter:
    """A meter of all that a training uses on this machine: the processor, and every GPU of its processes.

    Without the counters of the device that computes, or on several machines, it measures nothing.

    Args:
        device: that this process computes on.
        processes: of the training.
    """
    if int(os.environ.get("GROUP_WORLD_SIZE", 1)) > 1:
        return EnergyMeter([])
    processor = processor_counters(POWERCAP)
    if device.type == "cpu":
        return EnergyMeter(processor)
    gpus = gpu_counters(processes)
    return EnergyMeter([*processor, *gpus] if gpus else [])


def processor_counters(powercap: Path) -> list[EnergyCounter]:
    """Counters of every processor package and of its memory; none where one of them cannot be read.

    Args:
        powercap: folder with ``intel-rapl:0``, ``intel-rapl:0:1``, ..., as Linux calls them on AMD's processors too.
    """
    found = []
    try:
        for zone in sorted(powercap.glob("intel-rapl:*")):
            name = (zone / "name").read_text().strip()
            if name.startswith(COUNTED):
                limit = int((zone / "max_energy_range_uj").read_text())
                found.append(EnergyCounter(name, _reader(zone / "energy_uj"), limit))
                found[-1].read()
    except (OSError, ValueError):
        return []
    return found


def _reader(path: Path) -> Callable[[], int]:
    return lambda: int(path.read_text())


def gpu_counters(number: int) -> list[EnergyCounter]:
    """Counters of the first GPUs that this process sees; none where NVML or one of them does not tell."""
    try:
        nvml = importlib.import_module("pynvml")
    except ModuleNotFoundError:
        return []
    try:
        nvml.nvmlInit()
        # NVML numbers all GPUs of the machine, CUDA those that it was given: only the UUID means the same to both.
        uuids = [f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in range(number)]
        found = [
            EnergyCounter(f"GPU {index}", _nvml_reader(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid)))
            for index, uuid in enumerate(uuids)
        ]
        for counter in found:
            counter.read()
    except (nvml.NVMLError, OSError):
        return []
    return found


def _nvml_reader(nvml: ModuleType, handle: Any) -> Callable[[], int]:
    def read() -> int:
        try:
            return 1000 * int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))  # it counts millijoules
        except nvml.NVMLError as error:
            raise OSError(str(error)) from error

    return read
