"""A comparison of stored predictions: its sentences, ``compare.json`` and one page, ``compare.html``."""

import json
from collections.abc import Sequence
from pathlib import Path

from mien.evaluation import METRICS
from mien.evaluation.compare import Entry, Pair, comparison_rows, ranked
from mien.files import write_text
from mien.report import comparison_plots, html, plots
from mien.report.format import SPLIT_TITLES
from mien.report.run_page import robustness_compared_plot


def write_comparison_page(out: Path, split: str, entries: Sequence[Entry], pairs: Sequence[Pair]) -> Path:
    """Write ``compare.json``, ``compare.html`` and its plots into ``out``, and return the page's path.

    Robustness reports of two or more entries stand side by side. ``split`` is its name by ``compare.load_entries``.

    Raises:
        RunError: ``out`` cannot be written.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    rows = comparison_rows(split, entries, pairs)
    write_text(out / "compare.json", json.dumps(rows, indent=1) + "\n")
    reports = {entry.name: entry.robustness for entry in entries if entry.robustness is not None}
    accuracies = [(entry.name, entry.metrics["accuracy"]) for entry in ranked(entries)]
    lines = [
        comparison_plots.Compared(name, found.value, found.ci95 or (found.value, found.value))
        for name, found in accuracies
    ]
    chart = plots.Plot.of(comparison_plots.comparison(lines), "comparison")
    robustness = [robustness_compared_plot(reports)] if len(reports) > 1 else []
    plots.write_plots(out, [chart, *robustness])
    values = {
        **_lead(entries, pairs),
        "rows": rows,
        "metrics": METRICS,
        "best_values": {name: _best(name, entries) for name in METRICS},
        "title": {**SPLIT_TITLES, "published_test": "the test split"}.get(split, "the files' images"),
        "chart": chart,
        "robustness": robustness,
    }
    page = out / "compare.html"
    write_text(page, html.render_page("comparison.html.j2", values))
    return page


def _best(name: str, entries: Sequence[Entry]) -> float:
    values = [entry.metrics[name].value for entry in entries]
    return min(values) if METRICS[name].lower_is_better else max(values)


def comparison_words(entries: Sequence[Entry], pairs: Sequence[Pair]) -> list[str]:
    """The comparison in sentences: who comes first, and from whom that is distinguishable; then every pair."""
    return html.render_sentences("comparison.txt.j2", {**_lead(entries, pairs), "pairs": pairs})


def _lead(entries: Sequence[Entry], pairs: Sequence[Pair]) -> dict[str, object]:
    best = ranked(entries)[0]
    against = [pair for pair in pairs if pair.one == best.name]
    return {"best": best, "others": len(against), "level": [pair.other for pair in against if not pair.is_shown]}
