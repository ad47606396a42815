"""Speed of training against the textbook's pipeline, and its memory. Prints Markdown.

    python -m benchmarks.training [--data SPEC] [--cases NAME,...] [--device cpu|cuda] [--repeats N] [--threads N]
                                  [--json FILE]

The two pipelines take turns, each in a process of its own, a window of steps each; what is reported are medians over
the turns, and the smallest and largest ratio of a turn.
"""

import json
import logging
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.machine import describe_machine, matrix_product_rate
from benchmarks.pipelines import PackagePipeline, TextbookPipeline, Window, apart, write_pictures
from mien.data import FaceSamples, read_samples
from mien.emotions import EMOTIONS
from mien.errors import MienError, look_up
from mien.models import create_classifier
from mien.recipe import Recipe, find_recipe, load_recipe
from mien.training.finish import count_macs
from mien.training.room import choose_precision

FLOPS_PER_MAC = 2 * 3
"""A multiplication and an addition, forward and twice backward."""

DRAWN = "synthetic:2000"
"""Faces of the comparisons, unless others are given."""

DRAWN_ALL = "synthetic:35887"
"""As many faces as FER-2013 has, of which 28,709 are for training."""

MEMORY_MINUTES = 3.0
"""Longest training while memory is measured."""

MEMORY_LIMIT = 2e9
"""Bytes that training at 48 px may hold."""


@dataclass(frozen=True)
class Case:
    """A comparison.

    Attributes:
        recipe: name of a recipe.
        input_size: in pixels.
        steps: of a window, on a CPU and on a GPU.
        batch_size: faces per step.
        goal: least ratio of mien's pictures/s to the textbook's; ``None`` measures mien alone.
        goal_rate: least pictures/s, or ``None``.
        device: the type of device that the case is for, or ``None`` for all.
    """

    recipe: str
    input_size: int
    steps: dict[str, int]
    batch_size: int = 32
    goal: float | None = None
    goal_rate: float | None = None
    device: str | None = None

    def load(self) -> Recipe:
        """The recipe with this size, from random weights."""
        overrides = [f"model.input_size={self.input_size}", f"training.batch_size={self.batch_size}"]
        return load_recipe(find_recipe(self.recipe), [*overrides, "model.weights=scratch"])


CASES: dict[str, Case] = {
    "baseline_cnn": Case("published/baseline_cnn", 48, {"cpu": 80, "cuda": 400}, goal=1.6),
    "attention_cnn": Case("published/attention_cnn", 128, {"cpu": 15, "cuda": 200}, goal=3.0),
    "resnet50": Case("published/resnet50", 224, {"cpu": 3, "cuda": 100}, goal=2.0),
    "resnet50_b256": Case("published/resnet50", 224, {"cuda": 50}, batch_size=256, goal_rate=2500, device="cuda"),
}
"""Name -> comparison."""

MEMORY = "memory"
"""The case that measures memory instead of speed."""


@dataclass(frozen=True)
class Result:
    """What the turns of a case gave.

    Attributes:
        case: its settings.
        macs: multiply-adds for one picture.
        ours: windows of mien.
        textbook: windows of the reference, as many, or none.
    """

    case: Case
    macs: int
    ours: list[Window] = field(default_factory=list)
    textbook: list[Window] = field(default_factory=list)

    def rates(self, windows: list[Window]) -> list[float]:
        """Pictures/s of each window."""
        return [window.steps * self.case.batch_size / window.seconds for window in windows]

    def ratios(self) -> list[float]:
        """Of each turn."""
        pairs = zip(self.rates(self.ours), self.rates(self.textbook), strict=True)
        return [ours / textbook for ours, textbook in pairs]

    def batch_share(self) -> float:
        """Share of mien's steps that makes batches."""
        return statistics.median(window.batch_seconds / window.seconds for window in self.ours)

    def flops(self, windows: list[Window]) -> float:
        """Achieved, per second."""
        return FLOPS_PER_MAC * self.macs * statistics.median(self.rates(windows))


def main(
    data: Annotated[str | None, typer.Option(metavar="SPEC", help="Faces; by default drawn ones.")] = None,
    cases: Annotated[str | None, typer.Option(metavar="NAME,...", help="By default all that the device has.")] = None,
    device: Annotated[str, typer.Option(metavar="cpu|cuda")] = "cpu",
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each pipeline.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Of arithmetic on the CPU; by default PyTorch's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of each window; by default the case's own.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Every window.")] = None,
) -> None:
    """Measure, and print a table."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it reports the precision on every start
    if threads is not None:
        torch.set_num_threads(threads)
    where = torch.device(device)
    chosen = _chosen(cases, device)
    machine = describe_machine(where)
    # A device that imitates bfloat16 would take minutes for one product.
    dtypes = {"float32": torch.float32} | ({"bfloat16": torch.bfloat16} if _precision(device) == "bfloat16" else {})
    peaks = {name: [matrix_product_rate(dtype, where)] for name, dtype in dtypes.items()}
    samples = read_samples(data or DRAWN)
    results = {}
    for name in chosen:
        if name != MEMORY:
            results[name] = measure(CASES[name], samples, where, repeats, steps)
            for dtype_name, dtype in dtypes.items():
                peaks[dtype_name].append(matrix_product_rate(dtype, where))
    peak = {name: max(rates) for name, rates in peaks.items()}
    memory = measure_memory(data or DRAWN_ALL, device) if MEMORY in chosen else None
    print("\n".join(_page(machine, peak, _precision(device), results, memory, samples.name)))
    if json_file is not None:
        json_file.write_text(json.dumps(_tree(machine, peak, results, memory), indent=1) + "\n", encoding="utf-8")


def measure(case: Case, samples: FaceSamples, device: torch.device, repeats: int, steps: int | None) -> Result:
    """Let mien and the textbook take turns."""
    recipe = case.load()
    steps = steps or case.steps[device.type]
    result = Result(case, count_macs(create_classifier(recipe.model, len(EMOTIONS))))
    process = (torch.get_num_threads(), recipe.seed)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as open_until_done:
        ours = open_until_done.enter_context(apart(*process, PackagePipeline, recipe, samples, device))
        textbook = None
        if case.goal is not None:
            write_pictures(recipe, samples, Path(folder))
            textbook = open_until_done.enter_context(apart(*process, TextbookPipeline, recipe, Path(folder), device))
        for turn in range(repeats):
            result.ours.append(ours.train(steps))
            if textbook is not None:
                result.textbook.append(textbook.train(steps))
            print(f"{case.recipe}: turn {turn + 1} of {repeats}", file=sys.stderr)
    return result


def measure_memory(data: str, device: str) -> int:
    """Most bytes in main memory while ``mien train`` trains ``baseline_cnn`` at 48 px for an epoch.

    On a slow machine the epoch ends after ``MEMORY_MINUTES``: memory does not grow with steps.
    """
    helper = str(Path(__file__).with_name("peak_memory.py"))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mien", "train", "published/baseline_cnn", "--data", data]
        command += ["--out", f"{folder}/run", "--accelerator", device, "--no-pictures"]
        command += ["--set", "model.input_size=48", "--set", "training.epochs=1"]
        command += ["--set", f"training.minutes={MEMORY_MINUTES}"]
        found = subprocess.run([sys.executable, helper, *command], stdout=subprocess.PIPE, text=True, check=True)
    return int(found.stdout)


def _precision(device: str) -> str:
    """What mien computes in on this type of device."""
    return choose_precision("auto", device)


def _chosen(cases: str | None, device: str) -> list[str]:
    fitting = {name: case for name, case in CASES.items() if case.device in (None, device)}
    known = [*fitting, MEMORY]
    if cases is None:
        return known
    return [look_up(dict(zip(known, known, strict=True)), name, "case") for name in cases.split(",")]


def _page(
    machine: list[str],
    peak: dict[str, float],
    precision: str,
    results: dict[str, Result],
    memory: int | None,
    data: str,
) -> Iterator[str]:
    """Lines of Markdown."""
    yield from (f"- {line}" for line in machine)
    products = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in peak.items())
    yield f"- mien computes in {precision}, the textbook in float32"
    yield f"- matrix products, best seen, GFLOP/s: {products}; data: {data}"
    yield ""
    if results:
        yield _row("case", "batch", "textbook, pictures/s", "mien, pictures/s", "ratio (spread)", "goal",
                   "making batches, share of mien's step", "textbook, GFLOP/s (of float32 peak)",
                   f"mien, GFLOP/s (of {precision} peak)")  # fmt: skip
        yield _row("---", *8 * ["---:"])
        yield from (_result_row(result, peak["float32"], peak[precision]) for result in results.values())
        yield ""
    if memory is not None:
        met = "met" if memory < MEMORY_LIMIT else "missed"
        yield (
            "Memory: an epoch of `mien train published/baseline_cnn` at 48 px on all of the data holds"
            f" {memory / 1e9:.2f} GB at most (goal: below {MEMORY_LIMIT / 1e9:.0f} GB, {met})."
        )


def _result_row(result: Result, textbook_peak: float, our_peak: float) -> str:
    case = result.case
    ours, textbook, ratio = statistics.median(result.rates(result.ours)), "", ""
    if result.textbook:
        ratios = result.ratios()
        textbook = f"{statistics.median(result.rates(result.textbook)):,.0f}"
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    goal = f">= {case.goal} times" if case.goal else f"> {case.goal_rate:,.0f} pictures/s"
    return _row(
        f"`{case.recipe.rpartition('/')[2]}`, {case.input_size} px", str(case.batch_size),
        textbook, f"{ours:,.0f}", ratio, goal, f"{result.batch_share():.1%}",
        _achieved(result.flops(result.textbook), textbook_peak) if result.textbook else "",
        _achieved(result.flops(result.ours), our_peak),
    )  # fmt: skip


def _achieved(flops: float, peak: float) -> str:
    return f"{flops / 1e9:,.0f} ({flops / peak:.0%})"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _tree(machine: list[str], peak: dict[str, float], results: dict[str, Result], memory: int | None) -> dict[str, Any]:
    """Everything that was measured, for ``--json``."""
    return {
        "machine": machine,
        "matrix_product_flops": peak,
        "memory_bytes": memory,
        "cases": {
            name: {
                "input_size": result.case.input_size,
                "batch_size": result.case.batch_size,
                "macs": result.macs,
                "pictures_per_second": result.rates(result.ours),
                "textbook_pictures_per_second": result.rates(result.textbook),
                "batch_share": result.batch_share(),
            }
            for name, result in results.items()
        },
    }


if __name__ == "__main__":
    try:
        typer.run(main)
    except MienError as error:
        sys.exit(str(error))
