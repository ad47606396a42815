"""``mien models`` and ``mien doctor``: what this installation holds, and whether it works."""

import importlib
import importlib.metadata
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import typer
from rich.text import Text

from mien import __version__
from mien.cli import shared
from mien.errors import MienError
from mien.face import network, runtime
from mien.files import cache_folder
from mien.report import format as formats
from mien.runs.report import parse_report

BASE = ("av", "numpy", "pillow", "opencv-python-headless", "onnxruntime", "rich", "typer")
EXTRAS = {"report": ("scipy", "matplotlib", "jinja2", "pyarrow"), "train": ("torch", "timm", "lightning-fabric")}
"""Extra -> packages that show whether it is installed."""

REINSTALL = "run: pip install --force-reinstall mien"
NAME_WIDTH = 26
"""Columns for what was looked at."""


def models(kind: shared.Format = "table") -> None:
    """List the networks in the package: accuracy on FER-2013's PrivateTest, size and speed."""
    cards = {name: network.read_card(path) for name, path in network.shipped_models().items()}
    numbers = ["accuracy", "95 % interval", "unseen", "ECE", "size", "faces/s"]
    table = shared.create_table("Accuracy on PrivateTest, one view", ["name", "licence"], numbers)
    for name, card in cards.items():
        report = parse_report(card, name)
        results = {each.key: each for each in report.results}
        found = results["private_test"]
        table.add_row(
            name,
            report.license,
            formats.percent(found.accuracy.value),
            formats.DASH if found.accuracy.ci95 is None else formats.interval(found.accuracy.ci95),
            formats.percent(results["private_test_unseen"].accuracy.value),
            formats.percent(found.metrics["ece"].value),
            f"{(report.bytes or 0) / 1e6:.1f} MB",
            formats.count(report.faces_per_second),
        )
    shared.print_answer([{"name": name, **card} for name, card in cards.items()], table, kind)


@dataclass(frozen=True)
class Finding:
    """One line of ``mien doctor``: what was found, what to do about it, and whether recognition is broken by it."""

    name: str
    state: str
    remedy: str = ""
    broken: bool = False


def doctor(kind: shared.Format = "table") -> None:
    """Say what is installed, what works, and what to do about what does not."""
    findings = [*_versions(), *_recognizer(), _cache(), _gpu()]
    shared.print_answer([asdict(finding) for finding in findings], _findings_text(findings), kind)
    if any(finding.broken for finding in findings):
        raise typer.Exit(1)


def _findings_text(findings: Sequence[Finding]) -> Text:
    lines = []
    for finding in findings:
        mark = ("✗", "red") if finding.broken else ("!", "yellow") if finding.remedy else ("✓", "green")
        lines.append(Text.assemble(mark, f" {finding.name:<{NAME_WIDTH}}{finding.state}"))
        if finding.remedy:
            lines.append(Text(f"{'':{NAME_WIDTH + 2}}{finding.remedy}", style="dim"))
    return Text("\n").join(lines)


def _installed(packages: Sequence[str]) -> tuple[str, list[str]]:
    """The packages that are here with their versions, and the names of those that are missing."""
    found, missing = [], []
    for name in packages:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return ", ".join(found), missing


def _versions() -> Iterator[Finding]:
    yield Finding("mien", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    found, missing = _installed(BASE)
    yield Finding("packages", found, f"missing: {', '.join(missing)}; run: pip install mien" if missing else "")
    for extra, packages in EXTRAS.items():
        found, missing = _installed(packages)
        remedy = f'if you want it: pip install "mien[{extra}]"' if missing else ""
        yield Finding(f"extra {extra}", f"without {', '.join(missing)}" if missing else found, remedy)


def _recognizer() -> Iterator[Finding]:
    """Whether pictures can be recognized; what may be broken is imported here, so that it can be said."""
    for package in ("onnxruntime", "cv2"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            yield Finding(package, f"cannot be imported: {error}", REINSTALL, broken=True)
            return
    yield Finding("ONNX Runtime", ", ".join(importlib.import_module("onnxruntime").get_available_providers()))
    yield (
        Finding("telemetry", "off: no library reports anything")
        if runtime.telemetry_is_off()
        else Finding("telemetry", "on: ONNX Runtime reports its use to Microsoft", f"unset {runtime.TELEMETRY_OFF}")
    )
    if not network.shipped_models():
        yield Finding("models", "none in this installation", "give one: mien predict --model FILE.onnx", broken=True)
    for name in network.shipped_models():
        try:
            loaded = network.EmotionNetwork(name)
        except MienError as error:
            yield Finding(f"model {name}", str(error), REINSTALL, broken=True)
        else:
            yield Finding(f"model {name}", f"{loaded.path.stat().st_size / 1e6:.1f} MB, {loaded.size} px, loads")
    from mien.face.detect import DETECTORS, create_detector  # imports OpenCV

    for name in DETECTORS:
        try:
            create_detector(name)
        except MienError as error:
            yield Finding(f"detector {name}", "cannot be had", str(error))
        else:
            yield Finding(f"detector {name}", "ready")


def _cache() -> Finding:
    folder = cache_folder()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    writable = os.access(nearest, os.W_OK)
    return Finding("cache", str(folder), "" if writable else "cannot be written: set MIEN_CACHE to another folder")


def _gpu() -> Finding:
    """Whether PyTorch, where it is installed, has code for the graphics card of this machine."""
    if _installed(["torch"])[1]:
        return Finding("GPU", "not looked for: recognition runs on the processor, and PyTorch is not installed")
    import torch

    if not torch.cuda.is_available():
        cuda = torch.version.cuda or "none"
        return Finding("GPU", f"none that PyTorch {torch.__version__} (CUDA {cuda}) can use; training is slow")
    name = torch.cuda.get_device_name()
    major, minor = torch.cuda.get_device_capability()
    known = torch.cuda.get_arch_list()
    # A card runs the code of an older one of the same major number.
    if any(arch.startswith(f"sm_{major}") for arch in known):
        return Finding("GPU", f"{name} (sm_{major}{minor})")
    remedy = f"PyTorch {torch.__version__} has code for {', '.join(known)}; install one built for this card"
    return Finding("GPU", f"{name} (sm_{major}{minor}) is not served", remedy)
