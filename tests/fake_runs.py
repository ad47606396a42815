"""Run directories without a training: predictions drawn from a generator, and all that follows from them."""

import base64
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceSamples, Protocol, Split
from mien.evaluation import Predictions
from mien.evaluation.evaluate import measure
from mien.evaluation.predictor import probabilities_of
from mien.evaluation.robustness import CORRUPTIONS, CorruptionResult, RobustnessReport
from mien.runs import MetricRow, Report, Run, SplitResult
from mien.runs.learnt import UNKNOWN, Learnt
from mien.runs.report import is_test, parse_report

VOID = {"meta", "link", "img", "br", "hr", "input", "base", "embed", "source"}


def fake_predictions(samples: FaceSamples, split: str, protocol: str, seed: int, skill: float) -> Predictions:
    """Predictions of a split's faces that are the better, the greater ``skill`` is."""
    indices = samples.split(Split(split), Protocol(protocol))
    labels = samples.labels[indices]
    logits = np.random.default_rng(seed).normal(size=(len(labels), 7)) + skill * np.eye(7)[labels]
    return Predictions(samples.rows[indices], labels, probabilities_of(logits[None].astype(np.float32)))


def fake_robustness(relative: float, **others: float) -> RobustnessReport:
    """A robustness report where as much is left under every corruption, and other fractions under ``others``."""
    corruptions: dict[str, CorruptionResult] = {
        name: {
            "accuracy": [0.5, 0.4, 0.3, 0.2, 0.1],
            "relative": others.get(name, relative),
            "amounts": list(corruption.amounts),
        }
        for name, corruption in CORRUPTIONS.items()
    }
    return {"n": 21, "clean": 0.6, "clean_ci95": [0.4, 0.8], "corruptions": corruptions, "relative": relative}


def fake_run(
    path: Path,
    samples: FaceSamples,
    *,
    splits: tuple[str, ...] = ("validation",),
    stored: bool = True,
    skill: float = 1.5,
    **changes: Any,
) -> Run:
    """A finished run with figures of ``splits``; ``stored`` adds what the figures come from.

    ``changes`` replace values of ``report.json``.
    """
    report: dict[str, Any] = {
        "model": "attention_cnn", "recipe": "small", "data": samples.name, "data_sha256": "ab12", "protocol": "contest",
        "row_source": "file", "skipped": 0, "training_rows": 168, "weights": "best", "initialization": "scratch",
        "seed": 0, "temperature": 1.25, "parameters": 94122, "macs": 21_900_000, "input_size": 48, "epochs": 3,
        "best_epoch": 2, "batch_size": 24, "train_seconds": 100.0, "pictures_per_second": 1234.0, "device": "cpu",
        "processes": 1, "machine": "a computer", "threads": 1, "precision": "float32", "command": "mien train small",
        "mien_version": "0.1.0", "views": 1, **changes,
    }  # fmt: skip
    run = Run(path)
    results: list[SplitResult] = []
    for split in splits:
        predictions = fake_predictions(samples, split, report["protocol"], report["seed"], skill)
        _, *unseen = measure(split, predictions, unseen=np.arange(len(predictions)) > 1 if is_test(split) else None)
        results += [*measure(split, predictions, uncalibrated=predictions.probabilities), *unseen]
        if stored:
            predictions.save(run.predictions_path(split))
    parse_report({**report, "results": {}}, source=str(path)).with_results(results).save(run.report_path)
    if stored:
        rows = fake_metrics(training=[0.3, 0.5, 0.7], validation=[0.3, 0.6, 0.5])
        run.append_metrics(MetricRow(**row) for row in rows)
    return run


@dataclass(frozen=True)
class FakePredictor:
    """A network that is a function of images ``(N, S, S)``."""

    answer: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    path: Path = Path("fake.onnx")
    run: Run | None = None
    report: Report = Report(model="fake", recipe="fake")  # noqa: RUF009
    stored: None = None
    learnt: Learnt = Learnt(UNKNOWN.hashes, is_complete=True)  # noqa: RUF009

    def indices(self, samples: FaceSamples, split: Split) -> NDArray[np.int64]:
        return samples.split(split)

    def predict(self, images: NDArray[np.uint8], views: int = 1) -> tuple[NDArray[np.float32], None]:
        return self.answer(images), None


def content(result: SplitResult) -> dict[str, Any]:
    """A result as it stands in ``report.json``."""
    report = Report(model="", recipe="", results=(result,))
    found: dict[str, Any] = json.loads(report.to_json())["results"][result.key]
    return found


def fake_metrics(**accuracies: list[float]) -> list[dict[str, Any]]:
    """Rows of ``metrics.jsonl``; the losses and rates do not matter."""
    rows = []
    for split, values in accuracies.items():
        for epoch, value in enumerate(values):
            rows += [{"epoch": epoch, "split": split, "name": name, "value": number}
                     for name, number in (("accuracy", value), ("loss", 2 - value))]  # fmt: skip
            if split == "training":
                rows.append({"epoch": epoch, "split": split, "name": "lr", "value": 0.001})
    return rows


def note_look(run: Run, split: str, command: str = "mien evaluate") -> None:
    """A line in ``looks.jsonl``, without the checkpoint that it is about."""
    line = {"when": "2026-01-02T03:04:05+00:00", "split": split, "command": command, "checkpoint_sha256": "cd34"}
    with (run.path / "looks.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def plain(text: str) -> str:
    """The text with one ordinary space wherever it has space of any kind."""
    return " ".join(text.split())


@contextlib.contextmanager
def locked_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works in a folder until it is killed, or the block ends."""
    program = "import sys, pathlib; from mien.runs import locked\n"
    program += "with locked(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


class Page(HTMLParser):
    """What a browser would find on a page.

    Attributes:
        tags: names and attributes in order.
        text: all that is shown, with ordinary spaces.
        rows: every table's lines, as texts of their cells, likewise.
    """

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self._texts: list[str] = []
        self.feed(content)
        assert not self._open, f"not closed: {self._open}"
        self.text = plain(" ".join(self._texts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            assert "url(" not in data
            assert "@import" not in data
            return
        self._texts.append(data)
        if "tr" in self._open and self.rows[-1]:
            self.rows[-1][-1] = plain(f"{self.rows[-1][-1]} {data}")

    def values(self, *names: str) -> list[str]:
        """Values of the attributes of these names, in order."""
        return [value or "" for _, attributes in self.tags for name, value in attributes.items() if name in names]

    @property
    def faces(self) -> list[str]:
        """Addresses of the embedded pictures; plots are SVG, faces are PNG."""
        return [address for address in self.values("src") if address.startswith("data:image/png;base64,")]

    @property
    def plots(self) -> list[str]:
        """The embedded plots, as SVG."""
        start = "data:image/svg+xml;base64,"
        encoded = [address for address in self.values("src") if address.startswith(start)]
        return [base64.b64decode(address.removeprefix(start)).decode() for address in encoded]


def read_page(path: Path) -> Page:
    """A page that needs nothing but itself: no program, and no address outside it but its runs' own pages."""
    content = path.read_text(encoding="utf-8")
    page = Page(content)
    assert content.startswith("<!doctype html>")
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form", "image"}
    assert len(page.faces) + len(page.plots) == len(page.values("src"))
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    for plot in page.plots:
        assert "://" not in plot.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")
        assert not re.search(r"<(script|image|foreignObject|use[^>]*href=\"[^#])", plot)
    assert not page.values("srcset", "poster", "action", "data", "background", "onload", "onerror", "onclick")
    assert "url(" not in " ".join(page.values("style", "fill", "stroke")).replace("url(#", "")
    identifiers = set(page.values("id"))
    for address in page.values("href", "xlink:href"):
        assert urlsplit(address)[:2] == ("", ""), address  # neither scheme nor host
        if address.startswith("#"):
            assert address[1:] in identifiers
        else:
            assert address.endswith("/report.html")
            assert (path.parent / unquote(address)).is_file()
    assert "://" not in content
    return page
