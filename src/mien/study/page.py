"""A study directory -> ``index.html``: the answer, the comparison, and each model with its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mien.data import FaceSamples
from mien.evaluation.facts import choice_words, looks
from mien.evaluation.figures import Compared, comparison
from mien.evaluation.pages import render_page
from mien.evaluation.panels import Panel, robustness_compared_panel, run_panels, stored_predictions, write_figures
from mien.evaluation.pictures import sample_groups
from mien.evaluation.robustness import stored_card
from mien.evaluation.svg import save_svg
from mien.evaluation.wording import SPACE, is_test, split_plural, unseen_of
from mien.runs import write_text
from mien.study.answer import answer
from mien.study.comparison import ComparedRow, compare
from mien.study.effects import entries_of, setting_effects
from mien.study.published import DIFFERENCES

FACES = 7
"""Single predictions of each kind; a run's own page shows more."""


def write_index(
    folder: Path, study: Mapping[str, Any], samples: FaceSamples | None = None, *, pictures: bool = True
) -> Path:
    """Write ``index.html`` and its ``figures/`` of a study; equal studies give equal bytes.

    Args:
        folder: the study directory, with the run directories ``<recipe>-s<seed>``; what they lack is left out.
        study: content of ``study.json``: ``published``, ``rows`` and, where it is known, ``command``.
        samples: the data set, for the faces of single predictions.
        pictures: show these faces; without, row numbers stand in their place.

    Returns:
        path of ``index.html``.

    Raises:
        RunError: no row, rows that share no split, or a folder that cannot be written.
        DataError: stored predictions are damaged.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    rows = compare(folder, study)
    entries = entries_of(rows)
    effects = [] if entries is None else setting_effects(rows, entries)
    chart = _chart(rows)
    cards = {row.title: card for row in rows if (card := _robustness(row)) is not None}
    worse = [robustness_compared_panel(cards)] if len(cards) > 1 else []
    write_figures(folder, [chart, *worse])
    values = {
        **_facts(rows, study),
        "rows": rows,
        "chart": chart,
        "answer": answer(rows, entries, effects),
        "effects": effects,
        "worse": worse,
        "sections": [_section(row, samples if pictures else None) for row in rows],
        "differences": DIFFERENCES,
        "published": study["published"],
    }
    page = folder / "index.html"
    write_text(page, render_page("index.html.j2", values, packages=("mien.study", "mien.evaluation")))
    return page


def _chart(rows: Sequence[ComparedRow]) -> Panel:
    entries = [
        Compared(
            title=row.title,
            accuracy=row.accuracy.mean,
            interval=row.interval,
            published=None if row.published is None else row.published["accuracy"],
            comparable=not row.deviations and is_test(row.split),
            seeds=row.accuracies if len(row.accuracies) > 1 else (),
        )
        for row in rows
    ]
    caption = (
        f"Accuracy on {rows[0].count:,} {split_plural(rows[0].split)}. The lines are 95{SPACE}% intervals for the"
        " chance choice of pictures; they do not cover the spread between seeds."
    )
    if any(row.published is not None for row in rows):
        caption += " Filled diamonds: published for the same configuration and pictures; hollow: for others."
    return Panel("comparison", "Accuracy", caption, save_svg(comparison(entries)))


def _robustness(row: ComparedRow) -> Mapping[str, Any] | None:
    """The card of its first seed that has one."""
    return next((card for run in row.runs if (card := stored_card(run.path)) is not None), None)


def _facts(rows: Sequence[ComparedRow], study: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for the whole study."""
    reports = study["rows"]
    split = rows[0].split
    unseen = unseen_of(rows[0].report, split)
    return {
        "split": split,
        "split_plural": split_plural(split),
        "split_short": split_plural(split, short=True),
        "is_test": is_test(split),
        "some_tested": any(is_test(name) for report in reports for name in report["results"]),
        "data": sorted({report["data"] for report in reports}),
        "data_hashes": sorted({report["data_sha256"] for report in reports}),
        "protocols": sorted({report["protocol"] for report in reports}),
        "command": study.get("command", ""),
        "unseen": unseen,
        "copies": 0 if unseen is None else rows[0].count - unseen["n"],
        "looks": sum(len(looks(run)) for row in rows for run in row.runs),
    }


def _section(row: ComparedRow, faces: FaceSamples | None) -> dict[str, Any]:
    """One model: figures and single predictions of its first seed, links to every seed's own page."""
    run, report = row.runs[0], row.report
    predictions = stored_predictions(run, row.split)
    return {
        "row": row,
        "choice": choice_words(run, report, row.split),
        "panels": run_panels(run, report, row.split),
        "groups": [] if predictions is None else sample_groups(predictions, faces, each=FACES),
        "links": [
            (report["seed"], f"{quote(run.path.name, safe='')}/report.html")
            for run, report in zip(row.runs, row.reports, strict=True)
            if (run.path / "report.html").exists()
        ],
    }
