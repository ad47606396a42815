"""Energy is what the counters say, over every interruption, and not known where any part of it is not."""

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.conftest import small_recipe

from mien.data import FaceSamples
from mien.errors import Interrupted
from mien.runs import Checkpoint, Run, load_checkpoint, save_checkpoint
from mien.training import energy, fit
from mien.training.energy import EnergyCounter, EnergyMeter, create_meter, gpu_counters, processor_counters, spent
from mien.training.progress import Counters

CPU = torch.device("cpu")


def write_zone(folder: Path, name: str, microjoules: int, limit: int = 1000) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit}\n")


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two sockets as Linux shows them: flat, parts beside the whole, and the same package twice."""
    folder = tmp_path / "powercap"
    zones = {
        "intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram", "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys", "intel-rapl-mmio:0": "package-0",
    }  # fmt: skip
    for zone, name in zones.items():
        write_zone(folder / zone, name, 100)
    (folder / "intel-rapl").mkdir()
    return folder


def test_every_part_is_counted_once_and_over_its_limit(powercap: Path) -> None:
    meter = EnergyMeter(processor_counters(powercap))
    assert meter.source == "package-0, dram, package-1"
    assert meter.joules() == 0
    write_zone(powercap / "intel-rapl:0", "package-0", 350)
    write_zone(powercap / "intel-rapl:0:0", "core", 300)
    write_zone(powercap / "intel-rapl:1", "package-1", 40)  # 900 up to its limit and 40 beyond
    assert meter.joules() == pytest.approx((250 + 940) / 1e6)
    write_zone(powercap / "intel-rapl:0:1", "dram", 107)
    assert meter.joules() == pytest.approx(7 / 1e6)
    assert (spent(5, 5, 9), spent(8, 1, 9), spent(2, 7)) == (0, 2, 5)


def test_one_counter_that_cannot_be_read_leaves_the_whole_unknown(
    powercap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = EnergyMeter(processor_counters(powercap))
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.joules() is None
    assert processor_counters(powercap) == []
    write_zone(powercap / "intel-rapl:1", "package-1", 100)
    assert meter.joules() is None  # since when is not known
    assert meter.joules() == 0

    readable = Path.read_text

    def only_by_root(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return readable(path)

    monkeypatch.setattr(Path, "read_text", only_by_root)
    assert processor_counters(powercap) == []
    nothing = EnergyMeter([])
    assert (nothing.source, nothing.joules()) == (None, None)


class FakeNvml:
    """A driver of two GPUs, of which CUDA sees the second."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.millijoules = {"GPU-aa": 1000, "GPU-bb": 5000}

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if handle not in self.millijoules:
            raise self.NVMLError("not supported")
        return self.millijoules[handle]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    driver = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", driver)  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=["bb", "cc"][index]))
    return driver


def test_a_gpu_counts_beside_the_processor(powercap: Path, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", powercap)
    meter = create_meter(torch.device("cuda"), 1)
    assert meter.source == "package-0, dram, package-1, GPU 0"
    nvml.millijoules |= {"GPU-aa": 9000, "GPU-bb": 7500}
    write_zone(powercap / "intel-rapl:0", "package-0", 200)
    assert meter.joules() == pytest.approx(2.5 + 100 / 1e6)
    del nvml.millijoules["GPU-bb"]
    assert meter.joules() is None
    # The processor alone is not what a training on GPUs uses, nor is one machine of several.
    assert gpu_counters(2) == []
    assert create_meter(torch.device("cuda"), 2).source is None
    assert create_meter(CPU, 2).source == "package-0, dram, package-1"
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert create_meter(CPU, 2).source is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_counters(1) == []


def test_sums_are_known_as_long_as_every_part_is() -> None:
    counters = Counters()
    counters.add_energy(2.0, "package-0")
    counters.add_energy(0.5, "package-0")
    assert (counters.energy_joules, counters.energy_source) == (2.5, "package-0")
    for joules, source in ((None, "package-0"), (1.0, "package-0, GPU 0")):
        other = Counters(energy_joules=2.5, energy_source="package-0")
        other.add_energy(joules, source)
        assert (other.energy_joules, other.energy_source) == (None, None)
        other.add_energy(1.0, "package-0")
        assert (other.energy_joules, other.energy_source) == (None, None)


@pytest.fixture
def one_joule_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that uses a joule from each look at its counter to the next."""

    def counters(_powercap: Path) -> list[EnergyCounter]:
        readings = itertools.count(0, 1_000_000)
        return [EnergyCounter("package-0", lambda: next(readings))]

    monkeypatch.setattr(energy, "processor_counters", counters)


def interrupted(path: Path, drawn: FaceSamples, after: int) -> Run:
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        fit(small_recipe(), drawn, path, accelerator="cpu", stop_signal=lambda: 15 if next(steps) == after else None)
    return Run(path)


@pytest.mark.usefixtures("one_joule_a_reading")
def test_a_resumed_run_adds_up_its_energy(tmp_path: Path, drawn: FaceSamples) -> None:
    whole = fit(small_recipe(), drawn, tmp_path / "whole", accelerator="cpu").report()
    assert whole["energy_joules"] == 2 * (7 + 1)  # 7 steps an epoch, and its validation
    assert whole["energy_source"] == "package-0"
    run = interrupted(tmp_path / "run", drawn, after=9)
    assert load_checkpoint(run.last_checkpoint).state["counters"]["energy_joules"] == 8 + 2
    resumed = fit(small_recipe(), drawn, run.path, resume=True, accelerator="cpu").report()
    assert (resumed["energy_joules"], resumed["energy_source"]) == (16, "package-0")


@pytest.mark.usefixtures("one_joule_a_reading")
def test_a_checkpoint_that_does_not_tell_its_energy_goes_on_without(tmp_path: Path, drawn: FaceSamples) -> None:
    run = interrupted(tmp_path / "run", drawn, after=3)
    stored = load_checkpoint(run.last_checkpoint)
    for name in ("energy_joules", "energy_source"):
        del stored.state["counters"][name]
    save_checkpoint(run.last_checkpoint, Checkpoint(stored.recipe, stored.weights, state=stored.state))
    report = fit(small_recipe(), drawn, run.path, resume=True, accelerator="cpu").report()
    assert report["train_seconds"] > 0
    assert (report["energy_joules"], report["energy_source"]) == (None, None)
