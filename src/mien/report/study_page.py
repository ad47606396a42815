"""A study directory -> ``index.html``: the answer, the comparison, and each model with its plots."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from mien.data import FaceSamples
from mien.errors import DataError
from mien.evaluation.robustness import RobustnessReport, load_robustness
from mien.files import write_text
from mien.report import comparison_plots, plots, run_page
from mien.report import format as wording
from mien.report.evidence import read_evidence, sample_groups
from mien.report.html import render_page
from mien.report.search_section import search_section
from mien.report.study_conclusions import conclude
from mien.runs import Report, Run, Subset
from mien.runs.report import is_test
from mien.study import published
from mien.study.comparison import ComparedRow, compare
from mien.study.folder import LeftOut
from mien.study.search import read_search

FACES = 7
"""Single predictions of each kind; a run's own page shows more."""

MAX_CHARTED = 12
"""Of a search, so many of the best rows are drawn."""


def write_study_page(
    folder: Path,
    reports: Sequence[Report],
    samples: FaceSamples | None = None,
    *,
    command: str = "",
    pictures: bool = True,
    left_out: Sequence[LeftOut] = (),
    unfinished: Sequence[str] = (),
) -> Path:
    """Write ``index.html`` and its ``figures/`` of a study; equal studies give equal bytes.

    Args:
        folder: the study directory, with the run directories ``<recipe>-s<seed>``; what they lack is left out.
        reports: of its runs.
        samples: the data set; without it, or without ``pictures``, row numbers stand in the place of faces.
        command: that made the study, where it is known.
        pictures: show faces.
        left_out: rows that are not compared, told with their reasons.
        unfinished: rows of the study that are still to be trained.

    Returns the path of ``index.html``.

    Raises:
        RunError: no row, rows that share no split, or a folder that cannot be written.
        DataError: stored predictions are damaged.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    rows = compare(folder, reports)
    return write_comparison(
        folder, rows, samples, command=command, pictures=pictures, left_out=left_out, unfinished=unfinished
    )


def write_comparison(
    folder: Path,
    rows: Sequence[ComparedRow],
    samples: FaceSamples | None = None,
    *,
    command: str = "",
    pictures: bool = True,
    left_out: Sequence[LeftOut] = (),
    unfinished: Sequence[str] = (),
    is_study: bool = True,
) -> Path:
    """The same page of rows whose runs may lie anywhere, which ``is_study`` denies; as ``write_study_page`` otherwise.

    Raises:
        DataError: ``samples`` are not the runs' data, too.
    """
    if not is_study:  # a study has made sure
        _check_data(rows, samples)
    search = read_search(folder) if is_study else None
    chart = _chart(rows if search is None else sorted(rows, key=lambda row: -row.accuracy.mean)[:MAX_CHARTED])
    cards = {row.title: card for row in rows if (card := _robustness(row)) is not None}
    robustness = [run_page.robustness_compared_plot(cards)] if len(cards) > 1 else []
    plots.write_plots(folder, [chart, *robustness])
    values = {
        **_facts(rows),
        "told": conclude(rows),
        "rows": rows,
        "chart": chart,
        "robustness": robustness,
        "sections": [
            _section(folder, row, samples, pictures, brief=search is not None and not search.shows(row.name))
            for row in rows
        ],
        **({"search": None} if search is None else search_section(folder, search)),
        "first_run": _place(rows[0].runs[0], folder),
        "command": command,
        "is_study": is_study,
        "left_out": left_out,
        "unfinished": () if search is not None else unfinished,
        "published": published.PUBLISHED,
    }
    page = folder / "index.html"
    write_text(page, render_page("study.html.j2", values))
    return page


def _chart(rows: Sequence[ComparedRow]) -> plots.Plot:
    entries = [
        comparison_plots.Compared(
            title=row.title,
            accuracy=row.accuracy.mean,
            interval=row.interval,
            published=None if row.published is None else row.published["accuracy"],
            comparable=not row.deviations and is_test(row.split),
            seeds=tuple(found.accuracy.value for found in row.results) if len(row.results) > 1 else (),
        )
        for row in rows
    ]
    comparable = {entry.comparable for entry in entries if entry.published is not None}
    published = {(): None, (True,): "filled", (False,): "hollow"}.get(tuple(comparable), "both")
    figure = comparison_plots.comparison(entries)
    return plots.Plot.of(figure, "study_comparison", "comparison", result=rows[0].result, published=published)


def _robustness(row: ComparedRow) -> RobustnessReport | None:
    """The robustness report of its first seed that has one."""
    return next((card for run in row.runs if (card := load_robustness(run.path)) is not None), None)


def _check_data(rows: Sequence[ComparedRow], samples: FaceSamples | None) -> None:
    """Refuse faces of other data than those that the rows answer for."""
    trained = rows[0].report.data_sha256
    if samples is not None and trained is not None and samples.content_sha256() != trained:
        raise DataError(
            f"expected the runs' own data, {rows[0].report.data} with content hash {trained[:12]}, got {samples.name}"
            f" with {samples.content_sha256()[:12]}; give the runs' --data, or none"
        )


def _facts(rows: Sequence[ComparedRow]) -> dict[str, object]:
    """What holds for the whole study."""
    reports = [report for row in rows for report in row.reports]
    first, split = rows[0], rows[0].split
    unseen = first.report.result(split, Subset.UNSEEN)
    return {
        "split": split,
        "split_plural": wording.split_plural(first.result),
        "split_short": wording.split_plural(first.result, short=True),
        "is_test": is_test(split),
        "some_tested": any(found.is_test for report in reports for found in report.results),
        "data": sorted({str(report.data) for report in reports}),
        "data_hashes": sorted({str(report.data_sha256) for report in reports}),
        "protocols": sorted({str(report.protocol) for report in reports}),
        "seeds": sorted({len(row.reports) for row in rows}),
        "always_unseen": first.always(Subset.UNSEEN),
        "copies": 0 if unseen is None else first.result.n - unseen.n,
        "looks": sum(len(run.looks()) for row in rows for run in row.runs),
    }


def _place(run: Run, folder: Path) -> str:
    """Where a run lies, as seen from the page's folder."""
    return Path(os.path.relpath(run.path, folder)).as_posix()


def _section(
    folder: Path, row: ComparedRow, data: FaceSamples | None, pictures: bool, *, brief: bool
) -> dict[str, object]:
    """One model: plots and single predictions of its first seed, unless it is ``brief``; links to every seed's page."""
    evidence = read_evidence(row.runs[0], row.split, data)
    predictions, faces = evidence.predictions, data if pictures else None
    return {
        "row": row,
        "evidence": evidence,
        "plots": [] if brief else run_page.run_plots(evidence),
        "groups": [] if brief or predictions is None else sample_groups(predictions, faces, FACES, data=data),
        "links": [
            (each.seed, f"{quote(_place(run, folder))}/report.html")
            for run, each in zip(row.runs, row.reports, strict=True)
            if (run.path / "report.html").exists()
        ],
    }
