"""A run directory -> ``figures/``, its page ``report.html`` and its model card: the answer, the evidence, the facts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mien.data import FaceSamples
from mien.emotions import EMOTIONS
from mien.evaluation.card import write_card
from mien.evaluation.facts import choice_words, looks, run_facts
from mien.evaluation.pages import render_page
from mien.evaluation.panels import confusion_panel, run_panels, stored_predictions, write_figures
from mien.evaluation.pictures import sample_groups
from mien.evaluation.results import FERPLUS
from mien.evaluation.wording import headline_split, split_plural, split_title, unseen_of
from mien.runs import Run, write_text


def write_report(run: Run, samples: FaceSamples | None = None, *, pictures: bool = True) -> Path:
    """Write figures, page and model card of a finished run from what it has stored; equal runs give equal bytes.

    Args:
        run: with ``report.json``; ``metrics.jsonl`` and ``predictions/`` add what they can.
        samples: the data set, for the faces of single predictions.
        pictures: show these faces; without, row numbers stand in their place.

    Returns:
        path of ``report.html``.

    Raises:
        RunError: the run is not finished, has no results, or cannot be written.
        DataError: stored predictions are damaged.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    report = run.report()
    split = headline_split(report)
    panels = run_panels(run, report, split)
    if split != "validation" and "validation" in report["results"]:
        panels.append(confusion_panel(report, "validation"))
    write_figures(run.path, panels)
    predictions = stored_predictions(run, split)
    groups = [] if predictions is None else sample_groups(predictions, samples if pictures else None)
    values = {**_values(run, report, split), "panels": panels, "groups": groups}
    page = run.path / "report.html"
    write_text(page, render_page("report.html.j2", values))
    write_card(run)
    return page


def _values(run: Run, report: Mapping[str, Any], split: str) -> dict[str, Any]:
    """What the template says in words and tables."""
    results = report["results"]
    return {
        "report": report,
        "split": split,
        "split_plural": split_plural(split),
        "split_short": split_plural(split, short=True),
        "found": results[split],
        "unseen": unseen_of(report, split),
        "voted": results.get(split + FERPLUS),
        "choice": choice_words(run, report, split),
        "emotions": [emotion.value for emotion in EMOTIONS],
        "splits": [(split_title(name), found) for name, found in results.items()],
        "facts": run_facts(report),
        "looks": looks(run),
        "predicted": [name for name in results if run.predictions_path(name).exists()],
    }
