"""A comparison of stored predictions as ``compare.json`` and one page, ``compare.html``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mien.evaluation.compare import Entry, Pair, comparison_words
from mien.evaluation.figures import Compared, comparison
from mien.evaluation.pages import render_page
from mien.evaluation.panels import Panel, robustness_compared_panel, write_figures
from mien.evaluation.svg import save_svg
from mien.evaluation.wording import SPLIT_TITLES
from mien.runs import write_text


def write_comparison(
    out: Path,
    rows: dict[str, Any],
    entries: Sequence[Entry],
    pairs: Sequence[Pair],
    cards: Mapping[str, Mapping[str, Any]],
) -> Path:
    """Write ``compare.json``, ``compare.html`` and its figures.

    Args:
        out: folder.
        rows: by ``compare.comparison_rows``.
        entries: what was compared.
        pairs: by ``compare.compare``.
        cards: name of a network -> its robustness card, of those that have one; two are put side by side.

    Returns:
        path of ``compare.html``.

    Raises:
        RunError: ``out`` cannot be written.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    lines = [
        Compared(entry["name"], entry["accuracy"]["value"], tuple(entry["accuracy"]["ci95"]))
        for entry in rows["entries"]
    ]
    caption = "Accuracy with 95 % intervals for the chance choice of pictures. Intervals that overlap can still differ:"
    chart = Panel(
        "comparison", "Accuracy", f"{caption} the pictures are the same, so look at the pairs below.",
        save_svg(comparison(lines)),
    )  # fmt: skip
    write_text(out / "compare.json", json.dumps(rows, indent=1) + "\n")
    worse = [robustness_compared_panel(cards)] if len(cards) > 1 else []
    write_figures(out, [chart, *worse])
    page = out / "compare.html"
    values = {
        "rows": rows,
        "title": SPLIT_TITLES.get(rows["split"], "the files' pictures"),
        "words": comparison_words(entries, pairs),
        "chart": chart,
        "worse": worse,
    }
    write_text(page, render_page("compare.html.j2", values))
    return page
