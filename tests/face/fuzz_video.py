"""Videos with bytes flipped, cut out, spliced and zeroed: none may crash, hang, or call spoilt pixels whole.

    python -m tests.face.fuzz_video [SECONDS] [SEED]

Each case runs in a process that is watched. It prints how many cases there were, what became of them, and for each kind
of video how many of its frames were spoilt and not marked as damaged; the file of each such case is kept.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.face.videos import CODECS, write_video

from mien.errors import MediaError
from mien.face.video import VideoReader

KINDS = (
    ("mp4", "H.264"), ("mov", "ProRes"), ("mkv", "HEVC"), ("mkv", "H.264"), ("mkv", "MJPEG"), ("webm", "VP9"),
    ("webm", "AV1"), ("avi", "MPEG-4"), ("avi", "MJPEG"), ("ts", "H.264"), ("ts", "MPEG-2"), ("mpg", "MPEG-2"),
    ("flv", "H.264"), ("avi", "DV"), ("mov", "HEVC"),
)  # fmt: skip
FRAMES, HANG_SECONDS = 24, 60
SPOILT = 12.0
"""Mean difference of grey levels in some block of 16 x 16 pixels, beyond which a frame is not what was recorded."""


def pictures(count: int, width: int = 192, height: int = 96) -> list[NDArray[np.uint8]]:
    """A bright square that moves over a pattern, so that what is lost is seen: uint8 ``(H, W, 3)``."""
    ground = np.random.default_rng(0).integers(0, 90, (height // 8, width // 8, 3)).astype(np.uint8)
    drawn = []
    for number in range(count):
        picture = np.roll(ground, number // 2, axis=1).repeat(8, axis=0).repeat(8, axis=1)
        x = 8 + number * (width - 64) // count
        picture[24:72, x : x + 48] = 230
        drawn.append(picture)
    return drawn


@dataclass
class Case:
    """What became of one damaged file."""

    kind: str
    result: str  # "whole", "told" (damage), "refused"
    frames: int = 0
    way: str = ""
    unmarked: list[int] = field(default_factory=list)  # frames that are spoilt and not marked


def flip(content: bytearray, random: np.random.Generator) -> bytearray:
    """One to twenty bits, anywhere."""
    for place in random.integers(0, len(content), random.integers(1, 21)):
        content[place] ^= 1 << int(random.integers(8))
    return content


def zero(content: bytearray, random: np.random.Generator) -> bytearray:
    """A hole of zeros."""
    start, length = int(random.integers(len(content))), int(random.integers(1, len(content) // 4))
    return content[:start] + bytearray(len(content[start : start + length])) + content[start + length :]


def remove(content: bytearray, random: np.random.Generator) -> bytearray:
    """A part is missing."""
    start = int(random.integers(len(content)))
    return content[:start] + content[start + int(random.integers(1, len(content) // 4)) :]


def cut(content: bytearray, random: np.random.Generator) -> bytearray:
    """The end is missing."""
    return content[: int(random.integers(1, len(content)))]


def splice(content: bytearray, random: np.random.Generator) -> bytearray:
    """A part comes twice, in another place."""
    start, place = (int(each) for each in random.integers(0, len(content), 2))
    return content[:place] + content[start : start + int(random.integers(1, len(content) // 4))] + content[place:]


WAYS: tuple[Callable[[bytearray, np.random.Generator], bytearray], ...] = (flip, zero, remove, cut, splice)


def originals(folder: Path, kinds: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Path]]:
    """Each kind of video: its name and a whole file."""
    for container, codec in kinds:
        drawn = pictures(FRAMES, *((720, 576) if codec == "DV" else (192, 96)))
        options = {} if codec in ("ProRes", "MJPEG", "DV") else {"g": "8"}
        path = folder / f"{codec}.{container}"
        yield path.name, write_video(path, drawn, codec=CODECS[codec], options=options)


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    """What a whole file shows."""
    with VideoReader(path) as reader:
        shown = [frame.pixels for frame in reader.read()]
        reader.check_end()
    return shown


def judge(name: str, path: Path, shown: list[NDArray[np.uint8]]) -> Case:
    """Read a damaged file, and compare each frame that is not marked with that of the whole file at its time."""
    case = Case(name, "whole")
    try:
        with VideoReader(path) as reader:
            for frame in reader.read():
                case.frames += 1
                if not frame.damaged and not _is_one_of(frame.pixels, shown):
                    case.unmarked.append(frame.number)
            reader.check_end()
    except MediaError as error:
        case.result = "told" if case.frames else "refused"
        if "\n" in str(error):
            raise
    return case


def _is_one_of(pixels: NDArray[np.uint8], shown: list[NDArray[np.uint8]]) -> bool:
    """The pixels are those of some frame of the whole file; one may be shown twice after a splice."""
    return any(_difference(pixels, each) <= SPOILT for each in shown)


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    if one.shape != other.shape:
        return 255.0
    height, width = (16 * (side // 16) for side in one.shape[:2])
    apart = np.abs(one[:height, :width].astype(np.int16) - other[:height, :width]).mean(axis=2)
    return float(apart.reshape(height // 16, 16, width // 16, 16).mean(axis=(1, 3)).max())


def cases(
    folder: Path, seed: int, kinds: Sequence[tuple[str, str]] = KINDS
) -> Iterator[tuple[str, str, Path, list[NDArray[np.uint8]]]]:
    """Damaged files without end, each kind and way in turn; the file is overwritten by the next."""
    random = np.random.default_rng(seed)
    whole = [(name, path.read_bytes(), frames_of(path)) for name, path in originals(folder, kinds)]
    while True:
        for way in WAYS:
            for name, content, shown in whole:
                path = folder / f"damaged-{name}"
                path.write_bytes(way(bytearray(content), random))
                yield name, way.__name__, path, shown


def main(seconds: float = 1800, seed: int = 0) -> int:
    """Fuzz for so long; 1 where a case crashed or hung."""
    folder, begun = Path(tempfile.mkdtemp(prefix="mien-fuzz-")), time.monotonic()
    results, frames, unmarked, failed = Counter[str](), Counter[str](), Counter[str](), 0
    ways_of = Counter[tuple[str, str]]()
    pool = ProcessPoolExecutor(1)
    for number, (name, way, path, shown) in enumerate(cases(folder, seed)):
        if time.monotonic() - begun > seconds:
            break
        kept = folder / f"kept-{number}-{name}"
        try:
            case = pool.submit(judge, name, path, shown).result(HANG_SECONDS)
        except (BrokenProcessPool, TimeoutError, Exception) as error:
            failed += 1
            path.rename(kept)
            print(f"{kept}: {type(error).__name__} {error}", flush=True)
            for process in list((pool._processes or {}).values()):
                process.kill()
            pool = ProcessPoolExecutor(1)
            continue
        results[case.result] += 1
        frames[name] += case.frames
        unmarked[name] += len(case.unmarked)
        ways_of[name, way] += len(case.unmarked)
        if case.unmarked:
            path.rename(kept)
    pool.shutdown()
    print(f"{sum(results.values()) + failed} cases, {failed} crashed or hung; {dict(results)}; files in {folder}")
    for name, count in frames.items():
        by_way = {way: number for (kind, way), number in ways_of.items() if kind == name and number}
        print(f"  {name}: {unmarked[name]} of {count} frames spoilt and not marked {by_way or ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*(float(each) for each in sys.argv[1:2]), *(int(each) for each in sys.argv[2:3])))
