"""The run directory and its checkpoints: written whole or not at all, rebuilt from themselves.

::

    RUN/
        recipe.toml               resolved: every value spelled out
        metrics.jsonl             one number a line: epoch, split, name, value
        checkpoints/last.ckpt     all that training needs to go on
        checkpoints/best.ckpt     the weights that the report speaks of, their recipe, labels and temperature
        predictions/<split>.npz   row, label, calibrated probabilities
        report.json, report.html, figures/, model_card.md
        looks.jsonl               when, by which command, and with which weights the test pictures were looked at

Torch and the recipe's schema are imported where a checkpoint is read or written, so that reports of stored
predictions need neither.
"""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mien.emotions import EMOTIONS
from mien.errors import UNREADABLE, MissingPathError, RunError, RunExistsError, first_line

if TYPE_CHECKING:
    from mien.models import FaceClassifier
    from mien.recipe import Recipe

CHECKPOINT_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Weights that describe themselves.

    Attributes:
        recipe: how they were made; rebuilds the network.
        weights: tensors by name.
        temperature: divides the logits before the softmax; 1 until it is fitted.
        labels: class names in the order of the logits.
        state: what training needs to go on; empty in weights that are only to be used.
    """

    recipe: "Recipe"
    weights: dict[str, Any]
    temperature: float = 1.0
    labels: tuple[str, ...] = tuple(emotion.value for emotion in EMOTIONS)
    state: dict[str, Any] = field(default_factory=dict)

    def classifier(self) -> "FaceClassifier":
        """The network with these weights, on the CPU, in evaluation mode.

        Raises:
            RunError: the weights are not those of the recipe's network.
        """
        from mien.models import create_classifier

        classifier = create_classifier(
            self.recipe.model, len(self.labels), votes=self.recipe.votes_outputs(), load_weights=False
        )
        try:
            classifier.load_state_dict(self.weights)
        except RuntimeError as error:
            raise RunError(f"the checkpoint's weights are not those of its recipe's model: {error}") from error
        return classifier.eval()


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

    def predictions_path(self, split: str) -> Path:
        """``predictions/<split>.npz``."""
        return self.path / "predictions" / f"{split}.npz"

    def report(self) -> dict[str, Any]:
        """Content of ``report.json``.

        Raises:
            RunError: there is none yet, or it is damaged.
        """
        try:
            content: dict[str, Any] = json.loads(self.report_path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(
                f"{self.path} has no report.json: its training has not ended; go on with --resume"
            ) from error
        except ValueError as error:
            raise RunError(f"{self.report_path} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise RunError(f"{self.report_path} is damaged: expected an object, came a {type(content).__name__}")
        return content

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

    def write_report(self, report: dict[str, Any]) -> None:
        """Replace ``report.json``."""
        write_text(self.report_path, json.dumps(report, indent=2) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Rows of ``metrics.jsonl``: ``{"epoch", "split", "name", "value"}``; an unfinished last line is left out.

        Raises:
            RunError: it is damaged.
        """
        if not self.metrics_path.exists():
            return []
        lines = self.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
        try:
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError as error:
            raise RunError(f"{self.metrics_path} is damaged: {error}") from error

    def append_metrics(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows to ``metrics.jsonl``."""
        with saying_what_fails(self.metrics_path), self.metrics_path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))

    def keep_metrics_before(self, epoch: int) -> None:
        """Drop rows of ``epoch`` and later, which a resumed run will write again."""
        rows = [row for row in self.metrics() if row["epoch"] < epoch]
        write_text(self.metrics_path, "".join(json.dumps(row) + "\n" for row in rows))

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


def create_run(path: Path, recipe: "Recipe") -> Run:
    """A new run directory, or the same one again where it holds no more than the same recipe.

    Raises:
        RunExistsError: ``path`` already holds a run, or is a file.
        RunError: it cannot be written.
    """
    from mien.recipe import to_toml

    run = Run(path)
    if path.exists() and not path.is_dir():
        raise RunExistsError(f"--out must be a folder; {path} is a file")
    if run.last_checkpoint.exists() or run.report_path.exists():
        raise RunExistsError(f"{path} already holds a run; add --resume to go on, or choose another --out")
    with saying_what_fails(path):
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        (path / "predictions").mkdir(exist_ok=True)
    write_text(run.recipe_path, to_toml(recipe))
    write_text(run.metrics_path, "")
    return run


def load_run(path: Path) -> Run:
    """The run in a directory, or what ``mien evaluate --out`` wrote there.

    Raises:
        MissingPathError: there is no such directory.
        RunError: it holds neither.
    """
    if not path.exists():
        raise MissingPathError(f"no run at {path}")
    run = Run(path)
    if not run.recipe_path.is_file() and not run.report_path.is_file():
        raise RunError(f"{path} holds no run: expected {run.recipe_path.name} or {run.report_path.name} in it")
    return run


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all; it loads with ``torch.load(..., weights_only=True)``.

    Raises:
        RunError: the folder cannot be written or has no room.
    """
    import torch

    content = {
        "format": CHECKPOINT_FORMAT,
        "recipe": checkpoint.recipe.model_dump(),
        "labels": list(checkpoint.labels),
        "temperature": checkpoint.temperature,
        "weights": checkpoint.weights,
        "state": checkpoint.state,
    }
    write_whole(path, lambda file: torch.save(content, file))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the CPU.

    Raises:
        RunError: it is missing, damaged or of another format.
    """
    import torch

    from mien.recipe import parse_recipe

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"no checkpoint at {path}: nothing has been trained there yet") from error
    except UNREADABLE as error:
        raise RunError(f"{path} is no readable checkpoint: {first_line(error)}") from error
    if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
        raise RunError(f"{path} is no checkpoint of format {CHECKPOINT_FORMAT} that this version of mien reads")
    return Checkpoint(
        recipe=parse_recipe(content["recipe"], source=str(path)),
        weights=content["weights"],
        temperature=content["temperature"],
        labels=tuple(content["labels"]),
        state=content["state"],
    )


def write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file under another name, bring it to the disk, and only then give it its name.

    Raises:
        RunError: the folder cannot be written or has no room; what stood at ``path`` still stands.
    """
    with saying_what_fails(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all. Raises as :func:`write_whole`."""
    write_whole(path, lambda file: _write_encoded(file, text))


def _write_encoded(file: IO[bytes], text: str) -> None:
    file.write(text.encode())


@contextlib.contextmanager
def saying_what_fails(path: Path) -> Iterator[None]:
    """Turn the system's errors about ``path`` into one line that says what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        # torch.save reports a failed write as a RuntimeError of its own.
        if not isinstance(error, OSError) and "write" not in str(error):
            raise
        if full or not isinstance(error, OSError):
            raise RunError(f"no room left to write {path}: free some space, then go on with --resume") from error
        raise RunError(f"cannot write {path}: {error.strerror}; choose another --out") from error
