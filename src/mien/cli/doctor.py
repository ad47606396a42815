"""``mien doctor``: whether this installation works. Nothing that may be broken is imported before it can be said."""

import contextlib
import importlib
import importlib.metadata
import io
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import typer
from rich.text import Text

from mien import __version__
from mien.cli import shared
from mien.errors import MienError, OutputError, first_line
from mien.files import cache_folder

BASE = {
    "av": "av", "numpy": "numpy", "pillow": "PIL", "opencv-python-headless": "cv2", "onnxruntime": "onnxruntime",
    "rich": "rich", "typer": "typer",
}  # fmt: skip
"""Packages that recognition needs -> what they are imported as."""

EXTRAS = {
    "heic": ("pillow-heif",),
    "report": ("scipy", "matplotlib", "jinja2", "pyarrow"),
    "train": ("torch", "timm", "lightning-fabric"),
}
"""Extra -> packages that show whether it is installed."""

REINSTALL = "run: pip install --force-reinstall {}"
NAME_WIDTH = 26
"""Columns for what was looked at."""

TRIAL_SECONDS = 120.0
TRIAL = "from mien.cli.doctor import recognize_one; recognize_one()"


@dataclass(frozen=True)
class Finding:
    """One line of ``mien doctor``: what was found, what to do about it, and whether recognition is broken by it."""

    name: str
    state: str
    remedy: str = ""
    broken: bool = False


def doctor(kind: shared.Format = "table") -> None:
    """Say what is installed, what works, and what to do about what does not."""
    trial = _trial()
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [("packages", _versions), ("packages", _owned_twice)]
    if trial.state.startswith("the program died"):
        looks += [("cache", _cache)]  # what is imported here might end this program, too
    else:
        looks += [("recognizer", _recognizer), ("cache", _cache), ("GPU", _gpu)]
    findings = [finding for name, look in looks for finding in _guarded(name, look)]
    findings.append(trial)
    shared.print_answer([asdict(finding) for finding in findings], _findings_text(findings), kind)
    broken = [finding.name for finding in findings if finding.broken]
    if broken:
        shared.print_error(f"pictures cannot be recognized, because of: {', '.join(broken)}; see what to do above")
        raise typer.Exit(1)


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings; a fault in the middle of looking is one of them."""
    try:
        yield from look()
    except Exception as error:  # a broken installation raises anything
        yield Finding(name, f"cannot be told: {type(error).__name__}: {first_line(error)}", REINSTALL.format("mien"))


def _findings_text(findings: Sequence[Finding]) -> Text:
    lines = []
    for finding in findings:
        mark = ("✗", "red") if finding.broken else ("!", "yellow") if finding.remedy else ("✓", "green")
        lines.append(Text.assemble(mark, f" {finding.name:<{NAME_WIDTH}}{shared.visible(finding.state)}"))
        if finding.remedy:
            lines.append(Text(f"{'':{NAME_WIDTH + 2}}{finding.remedy}", style="dim"))
    return Text("\n").join(lines)


def _trial() -> Finding:
    """What ``mien predict photo.jpg`` does, in a process of its own: broken libraries may end it in any way."""
    name = "recognition"
    if getattr(sys, "frozen", False) or not sys.executable:  # there is no Python to start
        try:
            recognize_one()
        except Exception as error:
            return Finding(name, f"{type(error).__name__}: {first_line(error)}", REINSTALL.format("mien"), broken=True)
        return Finding(name, "a picture was recognized")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", "-c", TRIAL]
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=TRIAL_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(name, f"cannot be tried: {first_line(error)}", REINSTALL.format("mien"), broken=True)
    if done.returncode == 0:
        return Finding(name, "a picture was recognized")
    if done.returncode < 0:
        with contextlib.suppress(ValueError):
            number = signal.Signals(-done.returncode)
            remedy = "a package was built for another processor or system; " + REINSTALL.format("mien")
            return Finding(name, f"the program died of {number.name}", remedy, broken=True)
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
    return Finding(name, lines[-1].removeprefix("mien.errors."), REINSTALL.format("mien"), broken=True)


def recognize_one() -> None:
    """Read a picture, search it, and name the face of a box in it; raises whatever stands in the way."""
    from PIL import Image

    from mien.face.images import decode_image
    from mien.face.recognizer import Recognizer

    Image.new("RGB", (320, 240), "grey").save(stream := io.BytesIO(), "JPEG")
    pixels, recognizer = decode_image(stream.getvalue(), "a picture"), Recognizer()
    recognizer.recognize(pixels)
    recognizer.recognize(pixels, boxes=[(80, 60, 120, 120)])


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
    yield Finding("packages", _installed(tuple(BASE))[0])
    for extra, packages in EXTRAS.items():
        found, missing = _installed(packages)
        remedy = f'if you want it: pip install "mien[{extra}]"' if missing else ""
        yield Finding(f"extra {extra}", f"without {', '.join(missing)}" if missing else found, remedy)


def _owned_twice() -> Iterator[Finding]:
    """Distributions that put their files into one folder: the later one wins, and each takes all along when it goes."""
    owners = importlib.metadata.packages_distributions()
    for module in BASE.values():
        names = sorted({name.lower().replace("_", "-") for name in owners.get(module, ())})
        if len(names) > 1:
            remedy = f"keep one: pip uninstall -y {' '.join(names)}; then pip install that one"
            yield Finding(module, f"belongs to {' and '.join(names)}, which overwrite each other's files", remedy)


def _recognizer() -> Iterator[Finding]:
    """Whether the parts of a recognizer can be had."""
    broken = [finding for distribution, module in BASE.items() for finding in _import(distribution, module)]
    yield from broken
    if broken:
        return
    from mien.face import network, runtime
    from mien.face.detect import create_detector

    onnxruntime: Any = importlib.import_module("onnxruntime")
    yield Finding("ONNX Runtime", ", ".join(onnxruntime.get_available_providers()))
    yield (
        Finding("telemetry", "off: no library reports anything")
        if runtime.telemetry_is_off()
        else Finding("telemetry", "on: ONNX Runtime reports its use to Microsoft", f"unset {runtime.TELEMETRY_OFF}")
    )
    if not network.shipped_models():
        yield Finding("models", "none in this installation", network.no_model_remedy(), broken=True)
    for name in network.shipped_models():
        try:
            loaded = network.EmotionNetwork(name)
        except MienError as error:
            yield Finding(f"model {name}", str(error), REINSTALL.format("mien"), broken=name == network.DEFAULT_MODEL)
        else:
            yield Finding(f"model {name}", f"{loaded.path.stat().st_size / 1e6:.1f} MB, {loaded.size} px, loads")
    try:
        yield Finding(f"detector {create_detector().name}", "ready")
    except MienError as error:
        yield Finding("detector", "cannot be had", str(error), broken=True)


def _import(distribution: str, module: str) -> Iterator[Finding]:
    """Why a package cannot be imported, if so."""
    remedy = REINSTALL.format(distribution)
    try:
        imported = importlib.import_module(module)
    except Exception as error:  # a library for another system raises anything
        yield Finding(module, f"cannot be imported: {first_line(error)}", remedy, broken=True)
    else:
        if getattr(imported, "__file__", None) is None:
            yield Finding(module, "only an empty folder is left of it", remedy, broken=True)


def _cache() -> Iterator[Finding]:
    try:
        folder = cache_folder()
    except OutputError as error:
        yield Finding("cache", "none", f"{error}, if you train")
        return
    nearest = next((place for place in (folder, *folder.absolute().parents) if os.path.exists(place)), folder)
    writable = os.path.isdir(nearest) and os.access(nearest, os.W_OK)
    yield Finding("cache", str(folder), "" if writable else "cannot be written: set MIEN_CACHE to another folder")


def _gpu() -> Iterator[Finding]:
    """Whether PyTorch, where it is installed, has code for the graphics card of this machine."""
    if _installed(["torch"])[1]:
        yield Finding("GPU", "not looked for: recognition runs on the processor, and PyTorch is not installed")
        return
    import torch

    if not torch.cuda.is_available():
        cuda = torch.version.cuda or "none"
        yield Finding("GPU", f"none that PyTorch {torch.__version__} (CUDA {cuda}) can use; training is slow")
        return
    name = torch.cuda.get_device_name()
    major, minor = torch.cuda.get_device_capability()
    known = torch.cuda.get_arch_list()
    # A card runs the code of an older one of the same major number.
    if any(arch.startswith(f"sm_{major}") for arch in known):
        yield Finding("GPU", f"{name} (sm_{major}{minor})")
        return
    remedy = f"PyTorch {torch.__version__} has code for {', '.join(known)}; install one built for this card"
    yield Finding("GPU", f"{name} (sm_{major}{minor}) is not served", remedy)
