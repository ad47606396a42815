"""The search for near copies against the comparison of all pairs: the same pairs, processor seconds, memory.

    python -m benchmarks.audit [--data SPEC] [--pictures N,N,...] [--all-pairs N]

Pictures are those of ``--data``, and after them others made of these by turning, enlarging and shifting each at random.
"""

import argparse
import os
import platform
import resource
import time
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data import copies, read_samples

SCREEN_SIDE, SCREEN_CORRELATION = 16, 0.95
BLOCK = 1024


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic:5000", help="faces to begin with")
    parser.add_argument("--pictures", default="10000,40000,300000", help="how many to audit")
    parser.add_argument("--all-pairs", type=int, default=40000, help="up to so many are compared in all pairs too")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, load average {os.getloadavg()[0]:.1f}")
    columns = ("pictures", "all pairs", "`mien.data.copies`", "times as fast", "near pairs", "memory so far")
    print(f"\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    faces = read_samples(options.data).images
    for count in map(int, options.pictures.split(",")):
        images = varied(faces, count)
        begun = time.process_time()
        found = copies.near_pairs(images, copies.identical_groups(images), copies.constant_pictures(images))
        seconds = time.process_time() - begun
        memory = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB"
        old, times = "", ""
        if count <= options.all_pairs:
            begun = time.process_time()
            expected = set(all_pairs(images))
            textbook = time.process_time() - begun
            if expected != {(pair.first, pair.second, pair.mirrored) for pair in found}:
                raise SystemExit(f"expected {len(expected):,} pairs, got others: {len(found):,}")
            old, times = f"{textbook:.1f} s", f"{textbook / seconds:.0f}"
        print(f"| {count:,} | {old} | {seconds:.1f} s | {times} | {len(found):,} | {memory} |", flush=True)


def varied(faces: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """``faces`` ``(N, S, S)``, and others made of them: ``(count, S, S)``."""
    generator, size = np.random.default_rng(0), faces.shape[1]
    images = np.empty((count, size, size), np.uint8)
    images[: len(faces)] = faces[:count]
    middle = ((size - 1) / 2,) * 2
    for at in range(len(faces), count):
        turn = cv2.getRotationMatrix2D(middle, generator.uniform(-15, 15), generator.uniform(1, 1.35))
        turn[:, 2] = turn[:, 2] + generator.uniform(-4, 4, 2)
        images[at] = cv2.warpAffine(faces[at % len(faces)], turn, (size, size), borderMode=cv2.BORDER_REFLECT)
    return images


def all_pairs(images: NDArray[np.uint8]) -> Iterator[tuple[int, int, bool]]:
    """The near pairs by comparing all at 16 x 16 pixels, and those that are alike there at full size."""
    side = (SCREEN_SIDE, SCREEN_SIDE)
    small = np.stack([cv2.resize(image, side, interpolation=cv2.INTER_AREA) for image in images])
    vectors, full = standardized(small), standardized(images)
    shows = images.reshape(len(images), -1).std(1) >= copies.MIN_DEVIATION
    for mirrored in (False, True):
        turned = standardized(small[..., ::-1]) if mirrored else vectors
        turned_full = full.reshape(images.shape)[..., ::-1].reshape(full.shape) if mirrored else full
        for start in range(0, len(images), BLOCK):
            first, second = np.nonzero(turned[start : start + BLOCK] @ vectors[start:].T >= SCREEN_CORRELATION)
            first, second = first + start, second + start
            later = (second > first) & shows[first] & shows[second]
            first, second = first[later], second[later]
            near = np.einsum("np,np->n", turned_full[first], full[second]) >= copies.NEAR_CORRELATION
            for one, other in zip(first[near].tolist(), second[near].tolist(), strict=True):
                if not np.array_equal(images[one], images[other]):
                    yield one, other, mirrored


def standardized(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Vectors ``(N, S * S)`` whose products are correlations."""
    vectors = images.reshape(len(images), -1).astype(np.float32)
    vectors -= vectors.mean(1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    return unit


if __name__ == "__main__":
    main()
