"""What a page says about a run besides its figures: how it was made, and what was looked at."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from mien.evaluation.wording import count, data_title, duration, energy, fixed, is_test, plural, sentences, short
from mien.runs import Run

Report = Mapping[str, Any]
"""Content of ``report.json``."""
Facts = list[tuple[str, list[tuple[str, str]]]]
"""Heading -> names and values."""

INITIALIZATIONS = {
    "scratch": "from scratch",
    "imagenet": "ImageNet weights",
    "checkpoint": "weights of an earlier run",
    "file": "weights from a file",
}
KEPT = {"best": "of the best epoch on validation", "last": "of the last epoch", "ema": "averaged over training (EMA)"}

_LINES: dict[str, tuple[tuple[str, str, Callable[[Any], str]], ...]] = {
    "Data": (
        ("data set", "data", data_title),
        ("trained on", "trained_on", data_title),
        ("protocol", "protocol", str),
        ("validation", "fold", lambda fold: f"fold {fold} of Training, counted from 0"),
        ("training pictures", "training_rows", count),
        ("left out", "skipped", count),
        ("row numbers from", "row_source", str),
        ("content hash", "data_sha256", str),
    ),
    "Network": (
        ("model", "model", str),
        ("members", "members", ", ".join),
        ("input", "input_size", lambda size: f"{size} \N{MULTIPLICATION SIGN} {size} px"),
        ("parameters", "parameters", count),
        ("multiply-adds", "macs", lambda macs: f"{short(macs)} for one picture"),
        ("initialization", "initialization", lambda name: INITIALIZATIONS.get(name, str(name))),
        ("teachers", "teachers_sha256", lambda hashes: ", ".join(f"sha256 {each[:12]}…" for each in hashes)),
        ("weights", "weights", lambda name: KEPT.get(name, str(name))),
        ("temperature", "temperature", fixed),
    ),
    "Training": (
        ("epochs", "epochs", str),
        ("batch size", "batch_size", str),
        ("seed", "seed", str),
        ("precision", "precision", str),
        ("time", "train_seconds", duration),
        ("energy", "energy_joules", energy),
        ("speed", "pictures_per_second", lambda speed: f"{count(speed)} pictures/s"),
        ("recipe hash", "recipe_sha256", str),
    ),
    "Place": (
        ("machine", "machine", str),
        ("device", "device", str),
        ("processes", "processes", str),
        ("threads", "threads", str),
        ("mien", "mien_version", str),
        ("Python", "python_version", str),
        ("PyTorch", "torch_version", str),
    ),
}
"""Heading -> name on the page, key in the report, how it is said."""


def run_facts(report: Report) -> Facts:
    """What was done, with what, where; what a report does not say is left out."""
    return [
        (heading, [(name, say(report[key])) for name, key, say in lines if report.get(key) is not None])
        for heading, lines in _LINES.items()
    ]


def choice_words(run: Run, report: Report, split: str) -> str:
    """How the weights were chosen, and whether test pictures had a part in it."""
    kept = _kept_words(report)
    if is_test(split):
        times = sum(look.get("split") == split for look in looks(run))
        looked = {0: "", 1: "They were looked at once."}.get(times, f"They were looked at {times} times.")
        return sentences(kept, "Nothing was chosen on the test pictures.", looked)
    flattered = "The epoch was chosen on these very pictures, which flatters the figures a little."
    tested = bool(looks(run)) or any(is_test(name) for name in report["results"])
    return sentences(
        "" if tested else "The test pictures were not looked at.",
        kept,
        flattered if report.get("weights") == "best" else "",
    )


def _kept_words(report: Report) -> str:
    if "members" in report:
        return f"The answers are averages over {plural(len(report['members']), 'network')}."
    epochs = report["epochs"]
    return {
        "best": f"The weights are those of epoch {report.get('best_epoch')} of {epochs}, the best on validation.",
        "last": f"The weights are those of the last of {plural(epochs, 'epoch')}.",
        "ema": f"The weights are the average (EMA) over {plural(epochs, 'epoch')}.",
    }[report["weights"]]


def looks(run: Run) -> list[dict[str, Any]]:
    """Lines of ``looks.jsonl``: each time that test pictures were predicted."""
    path = run.path / "looks.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.strip()]
