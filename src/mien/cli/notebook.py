"""Studies in a notebook: progress below the cell, an interrupt that saves, plots, and a face with its bars.

IPython is imported where something is shown: it comes with the notebook.
"""

import html
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mien.cli import shared
from mien.data import FaceSamples, Split
from mien.errors import Interrupted
from mien.face.crop import crop_face
from mien.face.images import read_image
from mien.recipe import find_recipe, load_recipe
from mien.report import format as formats
from mien.report.evidence import face_address
from mien.report.plots import Plot
from mien.runs import Run, locked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mien.training import Progress

BETWEEN_UPDATES = 0.5
"""Seconds between two changes of the progress."""

BAR = (
    "<tr><td style='text-align: left'>{name}</td><td style='text-align: left'><div style='width: {width:.1f}em; height:"
    " 0.9em; background: #3b6ea5'></div></td><td>{rate}</td></tr>"
)


class Stopped(Interrupted):
    """The kernel was interrupted, and the state is saved; IPython shows the message alone, and runs no further cell."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True)
class Study:
    """Finished runs, and the faces that they were trained and tested on."""

    samples: FaceSamples
    runs: tuple[Run, ...]


def train(recipes: Sequence[str], data: str, out: str, settings: Sequence[str] = (), *, final: bool = True) -> Study:
    """Train recipes, or go on; finished runs are not trained again. The page of all is linked below the cell.

    Args:
        recipes: TOML files or names.
        data: as ``--data``.
        out: the study's folder.
        settings: as ``--set``, for all recipes.
        final: also look at the test images, once for each run; noted in its ``looks.jsonl``.

    Raises:
        Stopped: the kernel was interrupted; the state is saved.
        MienError: as ``study.run_study``.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's, when timm is imported
        from mien.cli.train import numbers
        from mien.report.run_page import write_run_page
        from mien.report.study_page import write_study_page
        from mien.study import load_study, run_study
    chosen = [load_recipe(find_recipe(name), settings) for name in recipes]
    samples = shared.Reading().read(data, chosen[0].data)
    runs = []
    try:
        with shared.catching_signals() as stop_signal:
            found = run_study(
                chosen, samples, Path(out), final=final, command="a notebook", show=showing_progress(numbers),
                say=shared.messages.print, stop_signal=stop_signal,
            )  # fmt: skip
            for run in found:
                write_run_page(run, samples)
                with locked(Path(out), wait=True, stop_signal=stop_signal):
                    study = load_study(Path(out))
                    page = write_study_page(
                        Path(out), study.reports, samples, left_out=study.left_out, unfinished=study.unfinished
                    )
                runs.append(run)
    except Interrupted as stopped:
        raise Stopped(f"{stopped}; run this cell again to go on", stopped.signal_number) from None
    show_html(f'<a href="{html.escape(page.as_posix())}" target="_blank">{html.escape(page.as_posix())}</a>')
    return Study(samples, tuple(runs))


def showing_progress(numbers: "Callable[[Progress], str]") -> "Callable[[Run, Progress], None]":
    """A function of a run and its progress, whose ``numbers`` are one line below the cell for each run."""
    from IPython.display import HTML, display

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it reports the precision on every start
    lines: dict[str, object] = {}
    last = 0.0

    def show(run: Run, progress: "Progress") -> None:
        nonlocal last
        name, is_epoch = run.path.name, progress.step == progress.steps
        if name in lines and not is_epoch and time.monotonic() - last < BETWEEN_UPDATES:
            return
        last = time.monotonic()
        done = progress.epoch * progress.steps + progress.step
        line = HTML(
            f"<progress value='{done}' max='{progress.epochs * progress.steps}'></progress>"
            f" {html.escape(name)} {numbers(progress)}"
        )
        if name in lines:
            lines[name].update(line)  # type: ignore[attr-defined]
        else:
            lines[name] = display(line, display_id=True)

    return show


def show_accuracies(study: Study) -> None:
    """A table: each run's accuracy on validation and on the test images, with its 95 % interval."""
    splits = [Split.VALIDATION, Split.PUBLISHED_TEST]
    rows = []
    for run in study.runs:
        found = [run.load_report().result(split) for split in splits]
        cells = [
            formats.DASH
            if each is None
            else f"{formats.percent(each.accuracy.value)} {formats.bounds(each.accuracy.ci95, 1, 100)}"
            for each in found
        ]
        rows.append(f"<tr><th>{html.escape(run.path.name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    titles = "".join(f"<th>accuracy on {title}</th>" for title in ("validation", "test"))
    show_html(f"<table><tr><th></th>{titles}</tr>{''.join(rows)}</table>")


def show_plot(figure: "Figure") -> None:
    """A plot below the cell."""
    show_html(f"<img style='max-width: 34em' src='{Plot.of(figure, 'plot').address}'>")


def show_face(study: Study, run: Run, picture: str | None = None) -> None:
    """A face and what the network says of it, as bars: ``picture``, or the first validation image."""
    from mien.evaluation.predictor import RunPredictor

    predictor = RunPredictor(run)
    if picture is None:
        at = int(predictor.indices(study.samples, Split.VALIDATION)[0])
        face, about = study.samples.images[at], f"row {study.samples.rows[at]} of validation, labelled"
        about += f" {study.samples.classes[study.samples.labels[at]]}"
    else:
        samples = study.samples
        face = crop_face(read_image(picture), size=samples.size, color=samples.color)
        about = picture
    probabilities, _ = predictor.predict(np.asarray(face)[None])
    show_bars(face, probabilities[0], predictor.report.classes, f"{run.path.name}: {about}")


def show_bars(face: NDArray[np.uint8], probabilities: NDArray[np.floating], classes: Sequence[str], title: str) -> None:
    """A face ``(S, S[, 3])`` beside the probabilities ``(K,)`` of its classes."""
    bars = "".join(
        BAR.format(name=html.escape(name), width=12 * rate, rate=f"{rate:.1%}")
        for name, rate in zip(classes, probabilities.tolist(), strict=True)
    )
    show_html(
        f"<p>{html.escape(title)}</p><div style='display: flex; gap: 1.5em; align-items: center'>"
        f"<img style='width: 9em; image-rendering: pixelated' src='{face_address(face)}'><table>{bars}</table></div>"
    )


def show_html(text: str) -> None:
    """HTML below the cell."""
    from IPython.display import HTML, display

    display(HTML(text))
