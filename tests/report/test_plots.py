"""Plots show the numbers they are given, leave matplotlib as it was, and become SVG that fits any page."""

import base64
import copy
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from tests.fake_runs import fake_metrics

from mien.emotions import EMOTIONS
from mien.evaluation import METRICS
from mien.evaluation.predictor import probabilities_of
from mien.report.comparison_plots import Compared, comparison
from mien.report.plots import (
    INK,
    MEASURED,
    PUBLISHED,
    TRAINING,
    Plot,
    confusion,
    learning_curves,
    per_class,
    reliability,
    save_svg,
    write_plots,
)
from mien.runs import MetricRow

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 7, 300).astype(np.int8)
PROBABILITIES = probabilities_of((GENERATOR.normal(size=(1, 300, 7)) + np.eye(7)[LABELS]).astype(np.float32))
CURVES = [MetricRow(**row) for row in fake_metrics(training=[0.3, 0.5, 0.7], validation=[0.2, 0.6, 0.5])]
ENTRIES = [
    Compared("Alike", 0.5, (0.45, 0.55), published=0.52),
    Compared("Other", 0.6, (0.55, 0.65), published=0.4, comparable=False, seeds=(0.58, 0.62)),
    Compared("Alone", 0.7, (0.65, 0.75)),
]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def points(line: Any) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_learning_curves_are_the_rows_by_epoch_from_one() -> None:
    figure = learning_curves([*reversed(CURVES)], best_epoch=2)
    accuracy, loss, rate = figure.axes
    training, validation, best = accuracy.lines
    assert points(training) == [(1, 0.3), (2, 0.5), (3, 0.7)]
    assert points(validation) == [(1, 0.2), (2, 0.6), (3, 0.5)]
    assert [to_hex(line.get_color()) for line in (training, validation)] == [TRAINING, MEASURED]
    assert points(best) == [(2, 0), (2, 1)]
    assert points(loss.lines[0])[0] == (1, 1.7)
    assert points(rate.lines[0])[-1] == (3, 0.001)
    assert [label.get_text() for label in accuracy.get_legend().get_texts()] == ["training", "validation"]
    assert len(learning_curves(CURVES).axes[0].lines) == 2


def test_a_single_epoch_is_visible() -> None:
    rows = [row for row in CURVES if row.epoch == 0]
    figure = learning_curves(rows)
    assert len(figure.axes) == 2  # the rate at its end says nothing of it
    assert all(line.get_marker() == "o" for axes in figure.axes for line in axes.lines)
    figure.draw_without_rendering()
    ticks = figure.axes[-1].get_xticks()
    assert [tick for tick in ticks if 0.5 <= tick <= 1.5] == [1]


def test_confusion_writes_fractions_of_the_label_and_counts() -> None:
    counts = np.zeros((7, 7), int)
    counts[0, 0], counts[0, 6], counts[3, 3] = 30, 10, 1200
    figure = confusion(counts)
    shown = texts(figure)
    assert len(shown) == 2 * 14  # rows without faces are empty
    assert shown[:2] == ["75 %", "30"]
    assert shown[12:14] == ["25 %", "10"]
    assert {"100 %", "1,200"} <= set(shown)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[:2] == ["angry\n40", "disgust\nno faces"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [emotion.value for emotion in EMOTIONS]
    opacity = [patch.get_alpha() for patch in figure.axes[0].patches if patch.get_fill()]
    assert opacity[6] == pytest.approx(opacity[10] / 4)


def test_bars_are_precision_recall_and_f1() -> None:
    figure = per_class([0.1] * 7, [0.2] * 7, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0])
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == [0.1] * 7 + [0.2] * 7 + [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0]
    assert texts(figure) == ["0.30", "0.40", "0.50", "0.60", "0.70", "0.80", "1.00"]


def test_reliability_has_the_bins_of_the_ece() -> None:
    above, below = reliability(LABELS, PROBABILITIES).axes
    gaps = [abs(accuracy - confidence) for confidence, accuracy in points(above.lines[1])]
    assert len(gaps) == 15
    assert np.mean(gaps) == pytest.approx(METRICS["ece"](LABELS, PROBABILITIES), abs=1e-6)  # 20 faces in each
    assert sum(patch.get_height() for patch in below.patches) == 300
    assert len(points(reliability(LABELS[:4], PROBABILITIES[:4]).axes[0].lines[1])) == 4


def test_comparison_marks_what_was_published_for_the_same_configuration() -> None:
    figure = comparison(ENTRIES)
    axes = figure.axes[0]
    shown = [(points(line), line.get_marker(), line.get_markerfacecolor()) for line in axes.lines]
    assert ([(0.52, 0)], "D", PUBLISHED) in shown
    assert ([(0.4, 1)], "D", "none") in shown
    assert [place for place, marker, _ in shown if marker == "o"] == [[(0.5, 0)], [(0.6, 1)], [(0.7, 2)]]
    assert [place for place, marker, _ in shown if marker == "|"] == [[(0.58, 1)], [(0.62, 1)]]
    assert next(place for place, marker, _ in shown if marker == "None") == [(0.45, 0), (0.55, 0)]
    assert texts(figure) == ["Alike", "50.0 %", "Other", "60.0 %", "Alone", "70.0 %"]
    low, high = axes.get_xlim()
    assert low < 0.4
    assert high > 0.75


FIGURES = {
    "learning_curves": lambda: learning_curves(CURVES, 2),
    "confusion": lambda: confusion(np.eye(7, dtype=int)),
    "per_class": lambda: per_class([1.0] * 7, [1.0] * 7, [1.0] * 7),
    "reliability": lambda: reliability(LABELS, PROBABILITIES),
    "comparison": lambda: comparison([*ENTRIES, Compared("$x$ <b> & " + "long " * 20, 0.99, (0.98, 1.0))]),
}


def test_svg_is_a_file_for_light_and_dark_and_equal_figures_give_equal_text(tmp_path: Path) -> None:
    before = copy.deepcopy(dict(mpl.rcParams))
    for name, draw in FIGURES.items():
        svg = save_svg(draw())
        assert svg == save_svg(draw()), name
        root = ElementTree.fromstring(svg)
        assert root.attrib["aria-label"]
        assert "width" not in root.attrib  # it is as wide as its place
        used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
        assert used
        assert used <= {element.attrib["id"] for element in root.iter() if "id" in element.attrib}
        assert "currentColor" in svg
        assert INK not in svg
        assert "prefers-color-scheme: dark" in "".join(root.itertext())
        drawn = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
        assert not re.search(r"#000000|black|#ffffff|white", drawn), name  # neither would do on both pages
    assert dict(mpl.rcParams) == before


def test_a_plot_is_a_file_and_an_address(tmp_path: Path) -> None:
    plot = Plot.of(FIGURES["confusion"](), "confusion", "confusion_validation", n=49)
    assert (plot.name, plot.kind, plot.numbers) == ("confusion_validation", "confusion", {"n": 49})
    assert plot.alt.startswith("Confusion matrix")
    write_plots(tmp_path, [plot])
    assert (tmp_path / "figures" / "confusion_validation.svg").read_text() == plot.svg
    kind, _, content = plot.address.partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(content).decode() == plot.svg


def test_everything_is_within_the_figure() -> None:
    for name, draw in FIGURES.items():
        figure = draw()
        figure.draw_without_rendering()
        width, height = figure.get_size_inches()
        box = figure.get_tightbbox()
        assert -0.01 <= box.x0 <= box.x1 <= width + 0.01, name
        assert -0.01 <= box.y0 <= box.y1 <= height + 0.01, name


def test_names_are_text_and_long_ones_are_cut() -> None:
    svg = save_svg(FIGURES["comparison"]())
    shown = "".join(ElementTree.fromstring(svg).itertext())
    assert "$x$ <b> & long long" in shown
    assert "…" in shown
