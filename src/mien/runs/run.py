"""The run directory: written whole or not at all.

::

    RUN/
        recipe.toml               resolved: every value spelled out
        metrics.jsonl             one number a line: epoch, split, name, value
        checkpoints/last.ckpt     all that training needs to go on
        checkpoints/best.ckpt     the weights that the report speaks of, their recipe, labels and temperature
        predictions/<split>.npz   row, label, calibrated probabilities
        learnt.npy                hashes of the pictures that it learnt from
        report.json, report.html, figures/, model_card.md
        looks.jsonl               when, by which command, and with which weights the test pictures were looked at

Checkpoints are read and written by ``mien.runs.checkpoint``, so that reports of stored predictions need no torch.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mien.errors import MissingPathError, RunError
from mien.files import saying_what_fails, write_text
from mien.runs.report import Report, load_report


@dataclass(frozen=True)
class MetricRow:
    """One number of one epoch; ``epoch`` counts from 0."""

    epoch: int
    split: str
    name: str
    value: float


@dataclass(frozen=True)
class Look:
    """One evaluation on a test split."""

    when: str  # UTC, ISO 8601
    split: str
    command: str
    sha256: str  # of the weights, or of stored predictions that were evaluated again


@dataclass(frozen=True)
class Run:
    """A run directory; every path in it by name."""

    path: Path

    @property
    def recipe_path(self) -> Path:
        """``recipe.toml``."""
        return self.path / "recipe.toml"

    @property
    def metrics_path(self) -> Path:
        """``metrics.jsonl``."""
        return self.path / "metrics.jsonl"

    @property
    def last_checkpoint(self) -> Path:
        """``checkpoints/last.ckpt``."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """``checkpoints/best.ckpt``."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def report_path(self) -> Path:
        """``report.json``."""
        return self.path / "report.json"

    @property
    def learnt_path(self) -> Path:
        """``learnt.npy``."""
        return self.path / "learnt.npy"

    def predictions_path(self, split: str) -> Path:
        """``predictions/<split>.npz``."""
        return self.path / "predictions" / f"{split}.npz"

    def load_report(self) -> Report:
        """``report.json``.

        Raises:
            RunError: there is none yet, or it is damaged.
        """
        return load_report(self.report_path)

    def load_metrics(self) -> list[MetricRow]:
        """Rows of ``metrics.jsonl``, an unfinished last line left out; none where there is no such file.

        Raises:
            RunError: they are damaged.
        """
        if not self.metrics_path.exists():
            return []
        lines = self.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
        try:
            return [MetricRow(**json.loads(line)) for line in lines if line.endswith("\n")]
        except (ValueError, TypeError) as error:
            raise RunError(f"{self.metrics_path} is damaged: {error}; remove it: the curves go, no result") from error

    def looks(self) -> list[Look]:
        """Lines of ``looks.jsonl``: each evaluation on a test split.

        Raises:
            RunError: it is damaged.
        """
        path = self.path / "looks.jsonl"
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            # The hash is called by what was hashed: checkpoint_sha256, predictions_sha256, model_sha256.
            hashes = [next(line[key] for key in line if key.endswith("_sha256")) for line in lines]
            looks = zip(lines, hashes, strict=True)
            return [Look(line["when"], line["split"], line["command"], sha256) for line, sha256 in looks]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise RunError(
                f"{path} is damaged: {error}; mend the line, which tells of a look at test images"
            ) from error

    def settings(self) -> dict[str, Any]:
        """Content of ``recipe.toml``, read without its schema, which needs the laboratory; empty where there is none.

        Raises:
            RunError: it is damaged.
        """
        try:
            return tomllib.loads(self.recipe_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:  # not TOML, or not UTF-8
            raise RunError(f"{self.recipe_path}: not a TOML recipe: {error}") from error

    def append_metrics(self, rows: Iterable[MetricRow]) -> None:
        """Add rows to ``metrics.jsonl``."""
        with saying_what_fails(self.metrics_path), self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(_lines(rows))

    def keep_metrics_before(self, epoch: int) -> None:
        """Drop rows of ``epoch`` and later, which a resumed run will write again."""
        write_text(self.metrics_path, _lines(row for row in self.load_metrics() if row.epoch < epoch))

    def note_look(self, split: str, command: str, weights: Path | None = None) -> None:
        """Append to ``looks.jsonl`` that a test split was looked at, with ``best.ckpt`` or another file.

        The other file holds weights, or predictions that were stored before and are looked at again.
        """
        weights = weights or self.best_checkpoint
        kind = {".ckpt": "checkpoint", ".npz": "predictions"}.get(weights.suffix, "model")
        line = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "split": split,
            "command": command,
            f"{kind}_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        }
        looks = self.path / "looks.jsonl"
        with saying_what_fails(looks), looks.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _lines(rows: Iterable[MetricRow]) -> str:
    return "".join(json.dumps(asdict(row)) + "\n" for row in rows)


def load_run(path: Path) -> Run:
    """The run in a directory, or what ``mien evaluate --out`` wrote there.

    Raises:
        MissingPathError: there is no such directory.
        RunError: it holds neither.
    """
    if not path.exists():
        raise MissingPathError(f"no run at {path}: expected the folder of mien train --out; check the path")
    run = Run(path)
    if not run.recipe_path.is_file() and not run.report_path.is_file():
        raise RunError(
            f"{path} holds no run: expected {run.recipe_path.name} or {run.report_path.name} in it; give the folder of"
            " mien train --out"
        )
    return run
