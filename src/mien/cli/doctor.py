"""``mien doctor``."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass

import typer
from rich.console import Console
from rich.text import Text

BASE = ("numpy", "pillow", "opencv-python-headless", "onnxruntime", "rich", "typer")
EXTRAS = {"report": ("scikit-learn", "matplotlib", "jinja2", "pyarrow"), "train": ("torch", "timm", "lightning-fabric")}
"""Extra -> packages that show whether it is installed."""


NAME_WIDTH = 26
"""Columns for what was looked at."""


@dataclass(frozen=True)
class Finding:
    """One line of the answer.

    Attributes:
        name: what was looked at.
        state: what was found.
        remedy: what to do about it, or nothing.
        broken: pictures cannot be recognized.
    """

    name: str
    state: str
    remedy: str = ""
    broken: bool = False


def doctor() -> None:
    """Say what is installed, what works, and what to do about what does not."""
    console = Console(highlight=False)
    broken = False
    for finding in (*_versions(), *_recognizer(), *_place()):
        broken |= finding.broken
        mark = ("✗", "red") if finding.broken else ("!", "yellow") if finding.remedy else ("✓", "green")
        line = Text(f"{mark[0]} ", style=mark[1]).append(f"{finding.name:<{NAME_WIDTH}}", style="default")
        console.print(line.append(finding.state, style="default"), soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"{'':{NAME_WIDTH + 2}}{finding.remedy}", style="dim"), soft_wrap=True)
    if broken:
        raise typer.Exit(1)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> Iterator[Finding]:
    from mien import __version__

    yield Finding("mien", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    missing = [name for name in BASE if _version(name) is None]
    found = ", ".join(f"{name} {_version(name)}" for name in BASE if name not in missing)
    yield Finding("packages", found, f"missing: {', '.join(missing)}; run: pip install mien" if missing else "")
    for extra, packages in EXTRAS.items():
        absent = [name for name in packages if _version(name) is None]
        have = ", ".join(f"{name} {_version(name)}" for name in packages if name not in absent)
        remedy = f'if you want it: pip install "mien[{extra}]"' if absent else ""
        yield Finding(f"extra {extra}", have if not absent else f"without {', '.join(absent)}", remedy)


def _recognizer() -> Iterator[Finding]:
    from mien.errors import MienError
    from mien.face.detect import DETECTORS, create_detector
    from mien.face.network import EmotionNetwork, shipped_models
    from mien.face.runtime import TELEMETRY_OFF, telemetry_is_off

    try:
        import onnxruntime

        yield Finding("ONNX Runtime", ", ".join(onnxruntime.get_available_providers()))
    except ImportError as error:
        yield Finding("ONNX Runtime", str(error), "run: pip install --force-reinstall onnxruntime", broken=True)
        return
    yield (
        Finding("telemetry", "off: no library reports anything")
        if telemetry_is_off()
        else Finding("telemetry", "on: ONNX Runtime reports its use to Microsoft", f"unset {TELEMETRY_OFF}")
    )
    if not shipped_models():
        yield Finding("models", "none in this installation", "give one: mien predict --model FILE.onnx", broken=True)
    for name in shipped_models():
        try:
            network = EmotionNetwork(name)
        except MienError as error:
            yield Finding(f"model {name}", str(error), "run: pip install --force-reinstall mien", broken=True)
        else:
            yield Finding(f"model {name}", f"{network.path.stat().st_size / 1e6:.1f} MB, {network.size} px, loads")
    for name in DETECTORS:
        try:
            create_detector(name)
        except MienError as error:
            yield Finding(f"detector {name}", "cannot be had", str(error))
        else:
            yield Finding(f"detector {name}", "ready")


def _place() -> Iterator[Finding]:
    from mien.face.cache import cache_folder

    folder = cache_folder()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    writable = os.access(nearest, os.W_OK)
    yield Finding("cache", str(folder), "" if writable else "cannot be written: set MIEN_CACHE to another folder")
    yield _gpu()


def _gpu() -> Finding:
    """Whether PyTorch, where it is installed, has code for the graphics card of this machine."""
    if _version("torch") is None:
        return Finding("GPU", "not looked for: recognition runs on the processor, and PyTorch is not installed")
    import torch

    if not torch.cuda.is_available():
        cuda = torch.version.cuda
        return Finding(
            "GPU", f"none that PyTorch {torch.__version__} (CUDA {cuda or 'none'}) can use; training is slow"
        )
    name = torch.cuda.get_device_name()
    major, minor = torch.cuda.get_device_capability()
    known = torch.cuda.get_arch_list()
    if f"sm_{major}{minor}" in known or any(arch.startswith(f"sm_{major}") for arch in known):
        return Finding("GPU", f"{name} (sm_{major}{minor})")
    remedy = f"PyTorch {torch.__version__} has code for {', '.join(known)}; install one built for this card"
    return Finding("GPU", f"{name} (sm_{major}{minor}) is not served", remedy)
