"""Write src/mien/data/assets/fer2013_index.npz: hashes and labels of FER-2013's rows, no pixels.

    python -m tools.build_index PATH [OUT]

PATH is a lossless copy of the whole data set that tells Training, PublicTest and PrivateTest apart and keeps each in
its original order: the original fer2013.csv, or a folder of Parquet files. The same data give the same bytes.
"""

import sys
from pathlib import Path

import numpy as np

from mien.data.index import PRIVATE_TEST_ROWS, PUBLIC_TEST_ROWS, TRAINING_ROWS
from mien.data.layouts.fer2013 import read_layout
from mien.data.layouts.raw import ReadOptions
from mien.data.layouts.tree import open_tree
from mien.data.samples import Split, picture_hashes

OUT = Path(__file__).resolve().parents[1] / "src" / "mien" / "data" / "assets" / "fer2013_index.npz"
COUNTS = {
    Split.TRAINING: TRAINING_ROWS,
    Split.PUBLIC_TEST: PUBLIC_TEST_ROWS,
    Split.PRIVATE_TEST: PRIVATE_TEST_ROWS,
}


def main(path: Path, out: Path) -> None:
    """Read the copy at ``path``, check its counts, write the index to ``out``."""
    with open_tree(path) as tree:
        found = read_layout(tree, ReadOptions())
    counts = {split: found.splits.count(split) for split in COUNTS}
    if counts != COUNTS:
        sys.exit(f"{path}: expected {COUNTS}, got {counts}; give the whole of FER-2013")
    order = np.argsort([list(COUNTS).index(split) for split in found.splits if split in COUNTS], kind="stable")
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, picture_hashes=picture_hashes(found.images[order]), labels=found.labels[order])
    print(f"{out}: {len(found)} rows, {out.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else OUT)
