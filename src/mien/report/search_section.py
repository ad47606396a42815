"""A study's search in words, rows and a plot: for its page and for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mien.evaluation.significance import interval_of
from mien.report import comparison_plots, plots
from mien.report.html import render_sentences
from mien.study.grid import value_text
from mien.study.search import Search, Try


@dataclass(frozen=True)
class SearchRow:
    """A line of the table of tries; ``level`` says whether it cannot be told from the chosen one, where that is known.

    ``pages`` are the numbers of its seeds and the addresses of their reports.
    """

    tried: Try
    values: tuple[str, ...]
    epochs_of: int
    accuracy: float | None
    interval: tuple[float, float] | None
    seconds: float
    is_chosen: bool
    level: bool | None
    pages: tuple[tuple[int, str], ...]

    @property
    def verdict(self) -> str:
        """How it compares with the chosen one, in a word or two."""
        if self.is_chosen:
            return "chosen"
        if not self.tried.is_finished:
            return "stopped early"
        return {None: "not compared", True: "cannot be told apart", False: "lower"}[self.level]


def search_rows(search: Search) -> list[SearchRow]:
    """Every try, in the order of its values."""
    return [
        SearchRow(
            tried=each,
            values=tuple(map(value_text, search.values(each))),
            epochs_of=each.recipe.training.epochs,
            accuracy=each.accuracy,
            interval=search.interval(each),
            seconds=search.seconds(each),
            is_chosen=each == search.chosen,
            level=search.level.get(each.name),
            pages=_pages(each),
        )
        for each in search.tries
    ]


def _pages(found: Try) -> tuple[tuple[int, str], ...]:
    return tuple(
        (report.seed or 0, f"{quote(run.path.name, safe='')}/report.html")
        for run, report in ((each.run, each.report) for each in found.tried)
        if report is not None and (run.path / "report.html").exists()
    )


def search_section(folder: Path, search: Search) -> dict[str, object]:
    """What ``search.html.j2`` shows; the plot is written beside the page."""
    plot = search_plot(search)
    plots.write_plots(folder, plot)
    return {"search": search, "search_rows": search_rows(search), "search_plots": plot, **_told(search)}


def search_sentences(search: Search) -> list[str]:
    """What the page says of the search, for the terminal."""
    return [line for line in render_sentences("search.txt.j2", {"search": search, **_told(search)}) if line]


def _told(search: Search) -> Mapping[str, object]:
    """Numbers of the sentences."""
    chosen = search.chosen
    if chosen is None or chosen.accuracy is None:
        return {"plain_interval": None, "level": [], "test": None, "test_interval": None}
    test = chosen.test
    tested = None if test is None else chosen.reports[0].result(test[0])
    return {
        "plain_interval": interval_of(chosen.results[0], chosen.accuracy),
        "level": [name for name, is_level in search.level.items() if is_level],
        "test": test,
        "test_interval": None if test is None or tested is None else interval_of(tested, test[2]),
    }


def search_plot(search: Search) -> list[plots.Plot]:
    """Accuracy by the one or two keys that vary, where numbers are among them and all others stay; else none."""
    values = {key: [search.values(each)[at] for each in search.tries] for at, key in enumerate(search.keys)}
    varied = {key: found for key, found in values.items() if len(set(map(value_text, found))) > 1}
    numeric = [key for key, found in varied.items() if all(type(value) in (int, float) for value in found)]
    if not numeric or len(varied) > 2:
        return []
    # The key with more values along the axis.
    key = max(numeric, key=lambda each: len(set(map(value_text, varied[each]))))
    other = next((each for each in varied if each != key), None)
    names = list(dict.fromkeys(map(value_text, sorted(varied[key], key=float))))  # type: ignore[arg-type]
    points = [
        comparison_plots.TriedPoint(
            place=names.index(value_text(varied[key][at])),
            line="" if other is None else f"{other} {value_text(varied[other][at])}",
            accuracy=each.accuracy,
            interval=interval,
            is_finished=each.is_finished,
            is_chosen=each == search.chosen,
        )
        for at, each in enumerate(search.tries)
        if each.accuracy is not None and (interval := search.interval(each)) is not None
    ]
    if not points or len({point.line for point in points}) > len(comparison_plots.LINES):
        return []
    return [
        plots.Plot.of(comparison_plots.search(_sorted(points), key, names), "search", key=key, other=other, n=search.n)
    ]


def _sorted(points: Sequence[comparison_plots.TriedPoint]) -> list[comparison_plots.TriedPoint]:
    return sorted(points, key=lambda point: point.place)
