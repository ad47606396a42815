"""Energy is what the GPUs' counters say, over every interruption, and not known where any part of it is not."""

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.conftest import small_recipe

from mien.data import FaceSamples
from mien.errors import Interrupted
from mien.runs import Run
from mien.runs.checkpoint import load_checkpoint, save_checkpoint
from mien.training import fit, progress
from mien.training.progress import gpu_joules
from mien.training.setup import Counters

CUDA = torch.device("cuda")


class FakeNvml:
    """A driver of three GPUs, of which CUDA sees two; the other must not be counted."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.millijoules = {"GPU-aa": 1000, "GPU-bb": 5000, "GPU-cc": 250}

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if handle not in self.millijoules:
            raise self.NVMLError("not supported")
        return self.millijoules[handle]


def test_the_gpus_that_cuda_sees_are_counted_or_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", driver)  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=["bb", "cc"][index]))
    assert gpu_joules(CUDA, 1) == 5.0
    assert gpu_joules(CUDA, 2) == 5.25
    assert gpu_joules(torch.device("cpu"), 1) is None
    del driver.millijoules["GPU-cc"]
    assert gpu_joules(CUDA, 2) is None
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert gpu_joules(CUDA, 1) is None
    monkeypatch.delenv("GROUP_WORLD_SIZE")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_joules(CUDA, 1) is None


def test_sums_are_known_as_long_as_every_part_is() -> None:
    counters = Counters()
    counters.add_energy(2.0, "GPU 0")
    counters.add_energy(0.5, "GPU 0")
    assert (counters.energy_joules, counters.energy_source) == (2.5, "GPU 0")
    for joules, source in ((None, "GPU 0"), (1.0, "GPU 0, GPU 1")):
        other = Counters(energy_joules=2.5, energy_source="GPU 0")
        for added in (joules, 1.0):
            other.add_energy(added, source)
            assert (other.energy_joules, other.energy_source) == (None, None)


@pytest.fixture
def one_joule_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that uses a joule from each look at its counter to the next."""
    readings = itertools.count()
    monkeypatch.setattr(progress, "gpu_joules", lambda _device, _gpus: float(next(readings)))


def interrupted(path: Path, drawn: FaceSamples, after: int) -> Run:
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        fit(small_recipe(), drawn, path, accelerator="cpu", stop_signal=lambda: 15 if next(steps) == after else None)
    return Run(path)


@pytest.mark.usefixtures("one_joule_a_reading")
def test_a_resumed_run_adds_up_its_energy(tmp_path: Path, drawn: FaceSamples) -> None:
    whole = fit(small_recipe(), drawn, tmp_path / "whole", accelerator="cpu").load_report()
    assert (whole.energy_joules, whole.energy_source) == (2, "GPU 0")  # read at the end of each epoch, never in it
    run = interrupted(tmp_path / "run", drawn, after=9)
    assert load_checkpoint(run.last_checkpoint).state["counters"]["energy_joules"] == 1 + 1
    resumed = fit(small_recipe(), drawn, run.path, resume=True, accelerator="cpu").load_report()
    assert (resumed.energy_joules, resumed.energy_source) == (3, "GPU 0")


@pytest.mark.usefixtures("one_joule_a_reading")
@pytest.mark.parametrize("source", ["package-0, GPU 0", None])
def test_a_checkpoint_that_counted_otherwise_or_not_at_all_goes_on_without(
    tmp_path: Path, drawn: FaceSamples, source: str | None
) -> None:
    run = interrupted(tmp_path / "run", drawn, after=3)
    stored = load_checkpoint(run.last_checkpoint)
    if source is None:
        del stored.state["counters"]["energy_joules"], stored.state["counters"]["energy_source"]
    else:  # as when the processor's counters were read too
        stored.state["counters"]["energy_source"] = source
    save_checkpoint(run.last_checkpoint, stored)
    report = fit(small_recipe(), drawn, run.path, resume=True, accelerator="cpu").load_report()
    assert (report.train_seconds or 0) > 0
    assert (report.energy_joules, report.energy_source) == (None, None)
