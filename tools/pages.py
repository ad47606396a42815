"""Build every page, plot and model card of results/ without a face, and the table of all runs: make pages.

    python -m tools.pages [FOLDER]       # by default build/pages

What the folder held before is replaced.
"""

import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

from mien.files import write_text
from mien.report.run_page import write_run_page
from mien.report.study_page import write_study_page
from mien.runs import Run
from tools import publish, published, tables

OUT = published.ROOT / "build" / "pages"


def build_run(run: Run) -> None:
    """Page, plots and model card of a run."""
    write_run_page(run, pictures=False)


def build_study(study: Path) -> bool:
    """The page of a folder that holds several runs ``<recipe>-s<seed>``; of others there is none."""
    reports = published.study_reports(study)
    if len(reports) > 1:
        write_study_page(study, reports, pictures=False)
    return len(reports) > 1


def build(out: Path, runs: Sequence[published.PublishedRun], *, processes: int | None = None) -> None:
    """Every page of ``runs``, of their studies, and the table of them all, below ``out``.

    Pages lie beside copies of the predictions that they are made of, as in a run directory. ``processes`` draw at once,
    by default one a core.
    """
    shutil.rmtree(out, ignore_errors=True)
    copies = []
    for each in runs:
        shutil.copytree(each.run.path, out / each.name)
        copies.append(Run(out / each.name))
    studies = sorted({each.study for each in runs})
    # Fresh processes, since threads of this one may hold locks.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) if processes != 1 else nullcontext() as pool:
        apply = map if pool is None else pool.map
        list(apply(build_run, copies))  # studies link to pages that are there
        have_page = list(apply(build_study, [out / study for study in studies]))
    paged = [study for study, has_page in zip(studies, have_page, strict=True) if has_page]
    write_text(out / "all.md", tables.long_table(runs, paged))
    write_text(out / "speed.svg", publish.speed_svg())


def main() -> None:
    """Build, say where it lies."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    runs = published.published_runs()
    build(out, runs)
    print(f"{out}: pages of {len(runs)} runs; the table of all is all.md")


if __name__ == "__main__":
    main()
