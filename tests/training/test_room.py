"""What a training needs is estimated, compared with what there is, and told with what would fit."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import small_recipe

from mien.data import FaceSamples
from mien.errors import RoomError
from mien.recipe import ModelSettings, OptimizerSettings, TrainingSettings
from mien.runs import Run
from mien.training import fit, room

MEASURE = """
import sys, numpy, torch
from mien import models
from mien.evaluation.predictor import keep_freed_memory, predict_logits
from mien.recipe import ModelSettings, OptimizerSettings
from mien.training import engine
def peak():
    # ru_maxrss would be that of the process that started this one, where that was larger.
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) << 10
keep_freed_memory()
torch.nn.Conv2d(1, 4, 3)(torch.randn(2, 1, 9, 9)).sum().backward()  # what the libraries take by themselves
before = peak()
name, size, batch, validated = sys.argv[1], *map(int, sys.argv[2:])
network = models.create_classifier(ModelSettings(name=name, input_size=size))
optimizer = engine.create_optimizer(network, OptimizerSettings())
for _ in range(2):
    loss = network.train()(torch.rand(batch, 1, size, size)).square().mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
predict_logits(network, numpy.zeros((validated, 48, 48), numpy.uint8))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("name", "size", "batch", "validated"),
    [("baseline_cnn", 96, 32, 2), ("attention_cnn", 96, 16, 256), ("resnet50", 64, 2, 2)],
    ids=["the batch counts", "validation counts", "the weights count"],
)
def test_the_estimate_is_less_than_what_is_taken_and_more_than_half_of_it(
    name: str, size: int, batch: int, validated: int
) -> None:
    model = ModelSettings(name=name, input_size=size)
    need = room.estimate_need(model, TrainingSettings(), OptimizerSettings(), validated=validated)
    command = [sys.executable, "-c", MEASURE, name, str(size), str(batch), str(validated)]
    taken = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 0.95 * need.memory(batch) < taken < 2.2 * need.memory(batch)


def test_what_is_kept_follows_from_the_optimizer_and_the_average() -> None:
    model = ModelSettings(name="baseline_cnn", input_size=48)

    def need(average: float | None = None, optimizer: str = "adam", precision: str = "float32") -> room.Need:
        training = TrainingSettings(ema_decay=average)
        return room.estimate_need(model, training, OptimizerSettings(name=optimizer), precision=precision)

    weights = need().fixed / 4  # weights, gradients, two moments
    assert need(0.9).fixed == pytest.approx(5 * weights, rel=0.01)
    assert need(optimizer="sgd").fixed == pytest.approx(3 * weights, rel=0.01)
    assert need().kept - room.SPARE_BYTES == pytest.approx(4 * weights, rel=0.01)
    assert need(precision="bfloat16").face == need().face // 2


def test_too_little_memory_is_refused_with_a_batch_that_fits(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = room.Need(fixed=100 << 20, face=10 << 20, validation=0, kept=0, replaced=0)
    monkeypatch.setattr(room, "_main_memory", lambda: 500 << 20)
    room.check_memory(need, 40, "cpu")
    with pytest.raises(RoomError, match=r"at least 776 MB .* got 524 MB; add --set training\.batch_size=32,"):
        room.check_memory(need, 64, "cpu")
    with pytest.raises(RoomError, match=r"add --set small:training\.batch_size=32,"):
        room.check_memory(need, 64, "cpu", row="small")
    with pytest.raises(RoomError, match=r"training\.batch_size=16,"):  # two processes hold the weights twice
        room.check_memory(need, 64, "cpu", processes=2)
    monkeypatch.setattr(room, "_main_memory", lambda: 50 << 20)
    with pytest.raises(RoomError, match=r"model\.input_size=N"):
        room.check_memory(need, 64, "cpu")
    monkeypatch.setattr(room, "_main_memory", lambda: 1 << 20)
    with pytest.raises(RoomError):
        fit(small_recipe(), drawn, tmp_path / "run", accelerator="cpu")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(room, "_main_memory", lambda: None)  # the system does not tell
    room.check_memory(need, 1 << 20, "cpu")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_may_allow_less_than_the_machine_has(tmp_path: Path, version: int) -> None:
    write(tmp_path / "proc" / "meminfo", "MemTotal: 4000000 kB\nMemAvailable: 3000000 kB\nSwapFree: 0 kB\n")
    own = room._freed()
    assert abs(room._main_memory(tmp_path) - (3_000_000 << 10) - own) < 1 << 24  # type: ignore[operator]
    top = tmp_path / "sys" / "fs" / "cgroup"
    if version == 2:
        write(tmp_path / "proc" / "self" / "cgroup", "0::/job/step\n")
        names, cached, group = ("memory.max", "memory.current"), "inactive_file", top / "job"
        write(top / "job" / "step" / "memory.max", "max\n")
    else:
        write(tmp_path / "proc" / "self" / "cgroup", "4:cpu,memory:/docker/ab12\n0::/\n")  # not seen from inside
        names, cached, group = ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file", top / "memory"
    for name, value in (*zip(names, ("1000000000", "700000000"), strict=True), ("memory.stat", f"{cached} 200000000")):
        write(group / name, value)
    assert min(room._group_memory(tmp_path)) == 500_000_000


def test_the_disk_is_asked_for_all_rows_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    needs = {
        Run(tmp_path / name): room.Need(fixed=0, face=0, validation=0, kept=300 << 20, replaced=100 << 20)
        for name in ("one", "two")
    }
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(1 << 40, 0, 650 << 20))
    with pytest.raises(RoomError, match="734 MB of room for 2 runs, got 682 MB"):
        room.check_disk(needs)
    checkpoint = Run(tmp_path / "one").last_checkpoint  # is there already
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(bytes(60 << 20))
    room.check_disk(needs)
    room.check_disk({})
