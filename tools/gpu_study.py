"""The trainings that want a GPU, a few at a time on one; again to go on where it was.

    python -m tools.gpu_study DATA OUT PART... [--votes FILE] [--seconds N] [--workers N] [--set a.b=v]...

PART is published (the study's ResNets at full size), recipe (the study's architectures under the release recipe),
seeds (two more of these), contest (the best of them under that protocol), teachers (for the package's networks),
members (of an ensemble) or students (which learn from the members), one after the other; DATA as for mien train, with
its whole path. Every finished run is evaluated on its test split, if the part has one. Without --votes none are learnt.
After N seconds (570) what is unfinished is stopped and saved, and the exit code is 1.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

RESNETS = ("resnet50_cbam", "resnet50")
SMALL = ("baseline_cnn", "attention_cnn")


@dataclass(frozen=True)
class Job:
    """One training: its folder below ``runs/``, its recipe, further options, and the split to evaluate, if any."""

    folder: str
    recipe: str
    options: tuple[str, ...] = ()
    split: str | None = "published_test"


def _job(
    recipe: str, seed: int = 0, *values: str, suite: str | None = None, split: str | None = "published_test"
) -> Job:
    own, name = recipe.split("/")
    options = tuple(part for value in (f"seed={seed}", *values) for part in ("--set", value))
    return Job(f"{suite or own}/{name}-s{seed}", recipe, options, split)


PARTS: dict[str, Sequence[Job]] = {
    "published": [_job(f"published/{name}", 0, "model.weights=scratch") for name in RESNETS],
    "recipe": [_job(f"recipe/{name}") for name in (*RESNETS, *SMALL)],
    "seeds": [_job(f"recipe/{name}", seed) for seed in (1, 2) for name in (*RESNETS, *SMALL)],
    "contest": [
        _job(f"recipe/{RESNETS[0]}", 0, "data.protocol=contest", suite="contest", split="private_test"),
    ],
    "teachers": [
        _job("release/teacher", split=None),
        _job("release/teacher_wide", split=None),
        _job("release/teacher", 1, split=None),
    ],
    "members": [
        *(_job("release/member", seed, split=None) for seed in range(3)),
        *(_job(f"release/{name}", split=None) for name in ("member_full", "member_imagenet")),
    ],
    "students": [_job(f"gpu/{name}", 0, "training.minutes=3", split=None) for name in ("base", "nano")],
}


class Runner:
    """Trains and evaluates jobs, each in a process of its own, until a deadline."""

    def __init__(
        self,
        data: str,
        out: Path,
        votes: Path | None,
        values: Sequence[str],
        deadline: float,
        mien: Sequence[str] = (sys.executable, "-m", "mien"),
    ) -> None:
        self.data, self.out, self.deadline, self.mien = ["--data", data], out, deadline, mien
        self.votes = [] if votes is None else ["--votes", str(votes.resolve())]
        # Without FER+'s votes none are learnt, whatever the recipe says.
        learnt = self.votes or ["--set", "training.votes_weight=0"]
        self.options = [*learnt, "--no-pictures", *(part for value in values for part in ("--set", value))]

    def __call__(self, job: Job) -> bool:
        """Whether the job is trained and evaluated."""
        run, begin = f"runs/{job.folder}", time.monotonic()
        calls = []
        if not (self.out / run / "report.json").exists():
            calls.append(["train", job.recipe, *self.data, "--out", run, "--resume", *job.options, *self.options])
        if job.split is not None and not (self.out / run / "predictions" / f"{job.split}.npz").exists():
            calls.append(["evaluate", run, *self.data, "--split", job.split, *self.votes])
        done = all(self._call(call) for call in calls)
        print(f"{job.folder}: {'done' if done else 'unfinished'}, {time.monotonic() - begin:.0f} s", flush=True)
        return done

    def _call(self, arguments: Sequence[str]) -> bool:
        """Run mien until it ends or the deadline is reached, when it saves its state; whether it did its work."""
        if time.monotonic() > self.deadline:
            return False
        process = subprocess.Popen([*self.mien, *arguments], cwd=self.out)
        try:
            return process.wait(max(0.0, self.deadline - time.monotonic())) == 0
        except subprocess.TimeoutExpired:
            process.terminate()
            return process.wait() == 0


def run_parts(runner: Runner, parts: Sequence[str], workers: int) -> bool:
    """Whether all jobs of all parts are done; a part begins when the one before has ended."""
    with ThreadPoolExecutor(workers) as pool:
        done = [list(pool.map(runner, PARTS[part])) for part in parts]
    return all(map(all, done))


def main() -> None:
    """Parse, train, say by the exit code whether all is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--votes", type=Path)
    parser.add_argument("--seconds", type=float, default=570)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--set", dest="values", action="append", default=[])
    call = parser.parse_args()
    call.out.mkdir(parents=True, exist_ok=True)
    runner = Runner(call.data, call.out, call.votes, call.values, time.monotonic() + call.seconds)
    sys.exit(not run_parts(runner, call.parts, call.workers))


if __name__ == "__main__":
    main()
