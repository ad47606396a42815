"""The trainings that want a GPU, side by side on one; again to go on where it was.

    python -m tools.gpu_study DATA OUT PART... [--votes FILE] [--seconds N]

PART is published (the study at full size), members (of an ensemble) or students (which learn from the members), one
after the other; DATA as for mien train, with its whole path. Without --votes none are learnt. After N seconds (570)
what is unfinished is stopped and saved, and the exit code is 1. Test images are looked at afterwards:
mien evaluate OUT/runs/... --split SPLIT.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SCRATCH = ["--set", "model.weights=scratch"]
PARTS: dict[str, dict[str, Sequence[str]]] = {
    "published": {
        "published/resnet50_cbam-s0": SCRATCH,
        "published/resnet50-s0": SCRATCH,
        "published/baseline_cnn-s0": ["--set", "model.batch_norm=false"],
        "published/attention_cnn-s0": [],
    },
    "members": {f"release/{name}": [] for name in
                ("member-s0", "member-s1", "member-s2", "member_full-s0", "member_imagenet-s0")},
    "students": {f"gpu/{name}-s0": ["--set", "training.minutes=3"] for name in ("base", "nano")},
}  # fmt: skip
"""Part -> ``<recipe>-s<seed>``, which is also the folder below ``runs/``, and further options."""


def train_part(part: str, out: Path, mien: Sequence[str], options: Sequence[str], deadline: float) -> int:
    """Train what is not finished of a part, all at once, until the deadline; how many did not end well."""
    running = []
    for name, more in PARTS[part].items():
        recipe, _, seed = name.rpartition("-s")
        if not (out / "runs" / name / "report.json").exists():
            run = ["train", recipe, "--out", f"runs/{name}", "--resume", "--set", f"seed={seed}"]
            running.append(subprocess.Popen([*mien, *run, *more, *options], cwd=out))
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.terminate()  # mien saves its state and ends
    return sum(process.wait() != 0 for process in running)


def options_of(data: str, votes: Path | None) -> list[str]:
    """What all trainings are given; without FER+'s votes they learn none, whatever the recipe says."""
    learnt = ["--set", "training.votes_weight=0"] if votes is None else ["--votes", str(votes.resolve())]
    return ["--data", data, *learnt, "--no-pictures"]


def main() -> None:
    """Parse, train, say by the exit code whether all is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--votes", type=Path)
    parser.add_argument("--seconds", type=float, default=570)
    call = parser.parse_args()
    call.out.mkdir(parents=True, exist_ok=True)
    options, deadline = options_of(call.data, call.votes), time.monotonic() + call.seconds
    mien = [sys.executable, "-m", "mien"]
    sys.exit(sum(train_part(part, call.out, mien, options, deadline) for part in call.parts) > 0)


if __name__ == "__main__":
    main()
