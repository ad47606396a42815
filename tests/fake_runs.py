"""Run directories without a training: predictions drawn from a generator, and all that follows from them."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from mien.data import FaceSamples, Protocol, Split
from mien.evaluation import Predictions
from mien.evaluation.predict import probabilities_of
from mien.evaluation.results import figures
from mien.evaluation.robustness import CORRUPTIONS
from mien.runs import Run

VOID = {"meta", "link", "img", "br", "hr", "input", "base", "embed", "source"}


def fake_predictions(samples: FaceSamples, split: str, protocol: str, seed: int, skill: float) -> Predictions:
    """Predictions of a split's faces that are the better, the greater ``skill`` is."""
    positions = samples.split(Split(split), Protocol(protocol))
    labels = samples.labels[positions]
    logits = np.random.default_rng(seed).normal(size=(len(labels), 7)) + skill * np.eye(7)[labels]
    return Predictions(samples.rows[positions], labels, probabilities_of(logits[None].astype(np.float32)))


def fake_card(relative: float, **others: float) -> dict[str, Any]:
    """A robustness card on which as much is left under every corruption, and other shares under ``others``."""
    corruptions = {
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
    results = {}
    for split in splits:
        predictions = fake_predictions(samples, split, report["protocol"], report["seed"], skill)
        results[split] = figures(predictions, predictions.probabilities)
        if split.endswith("_test"):
            results[f"{split}_unseen"] = figures(predictions.subset(np.arange(len(predictions)) > 1))
        if stored:
            predictions.save(run.predictions_path(split))
    run.write_report({**report, "results": results})
    if stored:
        run.append_metrics(fake_metrics(training=[0.3, 0.5, 0.7], validation=[0.3, 0.6, 0.5]))
    return run


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
        """Addresses of the embedded pictures."""
        return [attributes.get("src") or "" for tag, attributes in self.tags if tag == "img"]


def read_page(path: Path) -> Page:
    """A page that needs nothing but itself: no program, and no address outside it but its runs' own pages."""
    content = path.read_text(encoding="utf-8")
    page = Page(content)
    assert content.startswith("<!doctype html>")
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form", "image"}
    assert all(source.startswith("data:image/png;base64,") for source in page.values("src"))
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
    # The only other address is the name of SVG's language.
    assert "://" not in content.replace("http://www.w3.org/2000/svg", "")
    return page
