"""Bring finished runs into results/, and write the tables that follow from what lies there.

    python -m tools.publish [RUN]...                  # each is runs/<study>/<run>
    python -m tools.publish --renew [RUN]...          # every number again from its predictions; each RUN is
                                                      # results/<study>/<run>, by default all
    python -m tools.publish --renew [RUN]... --votes FILE  # with FER+'s labels: looks at the test splits

Writes results/README.md, ablations.md and cross.md, docs/speed.svg, and README.md's tables and answers.
tools.pages builds pages.
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import read_votes
from mien.errors import CallError, MienError
from mien.files import write_text
from mien.report.plots import save_svg
from mien.runs import Run, load_run
from tools import cross, published, speed, tables
from tools.renew import renew

README = published.ROOT / "README.md"
SPEED = published.ROOT / "docs" / "speed.svg"


def written() -> dict[Path, str]:
    """Every file that follows from the results and is committed, with its content."""
    runs = published.published_runs()
    texts = {published.RESULTS / name: text for name, text in tables.results_tables(runs).items()}
    texts[published.RESULTS / "cross.md"] = cross.page()
    sections = tables.readme_sections(published.RESULTS, runs)
    return {**texts, README: tables.with_sections(README.read_text(encoding="utf-8"), sections)}


def speed_svg() -> str:
    """The plot of speed against accuracy."""
    entries = [*(speed.of_card(name, card) for name, card in published.shipped().items()), *speed.OTHERS]
    return save_svg(speed.speed_plot(entries))


def renew_run(run: Run, votes: NDArray[np.uint8] | None, assets: Path = published.ASSETS) -> None:
    """Compute its results again from its predictions; the card of a network in the package too."""
    renew(run, votes, command="tools/publish --renew" + ("" if votes is None else " --votes fer2013new.csv"))
    if run.path.parent.name == "shipped":
        shutil.copy(run.report_path, assets / f"{run.path.name}.json")


def published_folder(path: Path) -> Path:
    """A run's folder below the folder of results, whole.

    Raises:
        CallError: it lies elsewhere.
    """
    if not path.resolve().is_relative_to(published.RESULTS):
        raise CallError(f"--renew: expected folders of results/, got {path}")
    return path.resolve()


def main() -> None:
    """Parse, publish, write what follows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="*")
    parser.add_argument("--renew", action="store_true")
    parser.add_argument("--votes", type=Path)
    call = parser.parse_args()
    try:
        if call.renew:
            votes = None if call.votes is None else read_votes(call.votes)
            chosen = [load_run(published_folder(path)) for path in call.run]
            for run in chosen or [each.run for each in published.published_runs()]:
                renew_run(run, votes)
        else:
            for path in call.run:
                published.publish_run(Run(path), published.RESULTS / path.parent.name)
        for file, text in written().items():
            write_text(file, text)
    except MienError as error:
        sys.exit(f"tools.publish: {error}")
    write_text(SPEED, speed_svg())


if __name__ == "__main__":
    main()
