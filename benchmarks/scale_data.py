"""Many pictures of one's own: time and memory of the first reading, the next, training, evaluation and audit.

    python -m benchmarks.scale_data --count 300000

Draws ``count`` small JPEG pictures in class folders (or takes those that ``--folder`` has), reads them in colour at
96 pixels and runs each command in a process of its own. Prints Markdown; ``--json FILE`` writes the figures.

Two kinds of memory are told: all that is resident, and what of it is the process's own (anonymous). The rest are pages
of files, the cache's pictures above all, which the system takes back when it needs them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mien.data import draw_faces
from mien.emotions import EMOTIONS

SIDE = 96
MOTIFS = 700
"""Drawn faces that the pictures vary."""

PER_PERSON = 20
POLL_SECONDS = 0.1
KEYS = ("VmHWM", "RssAnon")
"""In Linux's ``/proc/PID/status``, kilobytes: the most that was resident, and what is the process's own now."""

TRAIN = """[model]
name = "compact_resnet"
in_chans = 3
options = {widths = [8, 16], depths = [1, 1]}
"""


@dataclass(frozen=True)
class Bound:
    """What was promised for 300,000 pictures: seconds and gigabytes, where they were."""

    seconds: float | None
    gigabytes: float


BOUNDS = {
    "first reading": Bound(None, 1.0),
    "later reading": Bound(None, 4.0),
    "training": Bound(None, 4.0),
    "evaluation": Bound(None, 4.0),
    "audit": Bound(180.0, 4.0),
}


@dataclass(frozen=True)
class Measured:
    """One command: seconds, and gigabytes at the most."""

    name: str
    seconds: float
    resident: float
    anonymous: float


def draw_pictures(folder: Path, count: int) -> None:
    """``count`` pictures of 96 pixels in ``folder/<split>/<class>/``; none is like another."""
    drawn = draw_faces(MOTIFS, size=SIDE)

    def draw(number: int) -> None:
        generator = np.random.default_rng(number)
        clouds = cv2.resize(generator.uniform(0, 255, (8, 8, 3)).astype(np.float32), (SIDE, SIDE))
        at = number % MOTIFS
        picture = 0.5 * drawn.images[at][..., None] + 0.5 * clouds  # (S, S, 3)
        split = ("val", "test")[number % 10] if number % 10 < 2 else "train"
        name = f"person{number // PER_PERSON:05d}_{number:06d}.jpg"
        Image.fromarray(picture.astype(np.uint8)).save(folder / split / EMOTIONS[drawn.labels[at]] / name, quality=85)

    for split in ("train", "val", "test"):
        for emotion in EMOTIONS:
            (folder / split / emotion).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, count, 4096):
            list(pool.map(draw, range(start, min(start + 4096, count))))


def measure(name: str, command: list[str], cache: Path) -> Measured:
    """Run ``mien`` once and look at its memory ten times a second."""
    start, resident, anonymous = time.perf_counter(), 0, 0
    environment = {**os.environ, "MIEN_CACHE": str(cache)}
    process = subprocess.Popen([sys.executable, "-m", "mien", *command], env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        found = {key: int(value.split()[0]) for key, _, value in (line.partition(":") for line in lines) if key in KEYS}
        resident = max(resident, found.get("VmHWM", 0))
        anonymous = max(anonymous, found.get("RssAnon", 0))
        time.sleep(POLL_SECONDS)
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}: mien {' '.join(command)}")
    return Measured(name, time.perf_counter() - start, resident / 1e6, anonymous / 1e6)


def measure_all(folder: Path, work: Path, minutes: float) -> list[Measured]:
    """All commands on the pictures below ``folder``; training for so many minutes, which need not be an epoch."""
    (work / "scale.toml").write_text(TRAIN, encoding="utf-8")
    spec, stored = f"folder:{folder}", ["--set", f"data.size={SIDE}", "--set", "data.color=true"]
    run, cache = str(work / "run"), work / "cache"
    commands = {
        "first reading": ["data", spec, *stored],
        "later reading": ["data", spec, *stored],
        "training": [
            "train", str(work / "scale.toml"), "--data", spec, "--out", run, "--no-pictures", *stored,
            "--set", f"training.minutes={minutes}", "--set", "training.epochs=1",
        ],
        "evaluation": ["evaluate", run, "--data", spec, "--split", "published_test", "--no-pictures"],
        "audit": ["audit", "--data", spec, *stored],
    }  # fmt: skip
    return [measure(name, command, cache) for name, command in commands.items()]


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300_000)
    parser.add_argument("--folder", type=Path, help="where the pictures are, or are drawn and stay")
    parser.add_argument("--minutes", type=float, default=2.0, help="of training")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "pictures"
        if not (folder / "train").exists():
            draw_pictures(folder, arguments.count)
        measured = measure_all(folder, Path(scratch), arguments.minutes)
    print(f"{arguments.count:,} pictures of {SIDE} x {SIDE} in colour, {os.cpu_count()} cores\n")
    print("| what | time | resident at most | of these anonymous | bound for 300,000 |")
    print("|---|---|---|---|---|")
    for each in measured:
        bound = BOUNDS[each.name]
        limit = f"< {bound.gigabytes:g} GB" + ("" if bound.seconds is None else f", < {bound.seconds:g} s")
        print(f"| {each.name} | {each.seconds:.1f} s | {each.resident:.2f} GB | {each.anonymous:.2f} GB | {limit} |")
    if arguments.json is not None:
        content = {"pictures": arguments.count, "side": SIDE, "measured": [asdict(each) for each in measured]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
