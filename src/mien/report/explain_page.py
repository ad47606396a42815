"""An explanation as ``explain.json``, ``figures/``, and one page, ``explain.html``."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.explain import explain, faithfulness, regions
from mien.face.crop import Frame, bilinear
from mien.face.images import read_image
from mien.face.result import shown_path
from mien.files import write_text, writing
from mien.report import plots
from mien.report.evidence import png, png_address
from mien.report.html import render_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SIDE = 720
"""Pixels; larger pictures are made smaller."""
MAX_PICTURES = 12
"""On the page; ``explain.json`` and ``figures/`` hold all."""
MAX_TOLD = 2
"""Attention modules of which the page speaks: those nearest to the answer. Tables have all."""
ALIKE = 0.8
"""Rank correlation between the maps of different faces from which on they say little about the single face."""

HEAT = np.array([235, 70, 20], np.float32)
"""RGB laid over the pixels that count."""
OPAQUE = 0.75
"""Opacity of the heat at a map's maximum; the face stays visible beneath."""
FACE_SIDE = 144
"""Pixels of a face on the page: 48 times a whole number, and sharp on dense screens."""

Map = NDArray[np.float32]
"""``(S, S)`` in [0, 1]."""


@dataclass(frozen=True)
class ShownMap:
    """A map on the page, for an emotion or, with ``is_attention``, of a module; ``picture`` is a ``data:`` address.

    Attributes:
        n: faces that it is the mean of.
        bands: name of a band -> fraction of the maps in it.
        weights: minimum and maximum of an attention module's weights.
        verdict: on the method, where the map stands for it.
        probability: of the emotion.
        row: of the face in its data set.
    """

    picture: str
    title: str
    is_attention: bool = False
    n: int | None = None
    bands: dict[str, float] | None = None
    weights: tuple[float, float] | None = None
    verdict: str | None = None
    probability: float | None = None
    row: int | None = None


@dataclass(frozen=True)
class Sheet:
    """Maps that belong together, in lines; ``wide`` is the address of a picture above them.

    ``kind`` is ``by_emotion``, ``attention``, ``single`` or ``picture``; a picture has a ``title``.
    """

    kind: str
    groups: tuple[tuple[ShownMap, ...], ...]
    title: str = ""
    wide: str | None = None


def write_explain_page(out: Path, explanation: explain.Explanation, *, pictures: bool = True) -> Path:
    """Write ``explain.json``, ``figures/`` and ``explain.html`` into a folder, and return the page's path.

    Without ``pictures``, maps lie on nothing, and row numbers and names stand for faces.

    Raises:
        RunError: ``out`` cannot be written.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    write_text(out / "explain.json", json.dumps(explanation_rows(explanation), indent=1) + "\n")
    shown = [_removal_plot(found) for found in explanation.findings]
    plots.write_plots(out, shown)
    figures = out / "figures"
    if explanation.split is not None:
        sheets = _split_sheets(figures, explanation.findings, explanation.split, pictures)
    else:
        sheets = _picture_sheets(figures, explanation.pictures, pictures)
    values = {
        "explanation": explanation,
        "told": [*explanation.findings[:1], *explanation.findings[1:][-MAX_TOLD:]],
        "plots": shown,
        "sheets": sheets,
        "alike": ALIKE,
        "max_averaged": explain.MAX_AVERAGED,
        "bands": regions.BANDS,
        "similar": faithfulness.SIMILAR,
        "random_maps": faithfulness.RANDOM_MAPS,
    }
    page = out / "explain.html"
    write_text(page, render_page("explain.html.j2", values))
    return page


def _removal_plot(found: explain.Findings) -> plots.Plot:
    figure, name = _removal_curves(found.checks), f"removal_{_file_name(found)}"
    return plots.Plot.of(figure, "removal", name, found=found, random_maps=faithfulness.RANDOM_MAPS)


def _removal_curves(checks: faithfulness.Checks) -> "Figure":
    """The emotion's probability as pixels are removed and inserted, against that in random orders."""
    with plots.styled():
        figure = plots.new_figure(2.7, "The emotion's probability as pixels are removed and as they are inserted")
        fraction = np.linspace(0, 1, faithfulness.STEPS + 1)
        curves = {"removed": checks.deletion, "inserted": checks.insertion}
        for axes, (name, curve) in zip(figure.subplots(1, 2, sharey=True), curves.items(), strict=True):
            low, high, ink = curve.random.min(0), curve.random.max(0), plots.INK
            axes.fill_between(fraction, low, high, color=ink, alpha=0.2, linewidth=0)
            axes.plot(fraction, curve.random.mean(0), color=ink, linewidth=1, linestyle="--", label="random orders")
            axes.plot(fraction, curve.values, color=plots.MEASURED, label="the map's order")
            axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=f"pixels {name}")
            axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
            axes.grid()
        figure.axes[0].set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        figure.axes[0].set_ylabel("probability of the emotion")
        plots.legend_above(figure.axes[0], ncols=2)
    return figure


def _split_sheets(
    figures: Path, findings: Sequence[explain.Findings], split: explain.ExplainedSplit, pictures: bool
) -> list[Sheet]:
    """Mean maps, those of Grad-CAM by emotion, and single faces."""
    if not findings:
        return []
    grad_cam, *attention = findings
    under = None if split.mean_face is None else _stretched(split.mean_face)
    by_emotion = tuple(
        ShownMap(
            _mean_map(figures / f"grad_cam_{_as_file(average.emotion)}.png", average.map, under),
            average.emotion,
            n=average.n,
            bands={name: band.value for name, band in average.bands.items()},
        )
        for average in grad_cam.averages
    )
    modules = tuple(
        ShownMap(
            _mean_map(figures / f"{_file_name(found)}.png", found.map, under),
            found.method.layer,
            is_attention=True,
            bands={name: band.value for name, band in found.bands.items()},
            weights=_limits(found.map),
            verdict=found.checks.verdict,
        )
        for found in attention
    )
    single = tuple(
        ShownMap(
            _address(heat_on_face(face.face if pictures else None, face.map)),
            face.emotion,
            probability=float(face.probabilities.max()),
            row=face.row,
        )
        for face in split.examples
    )
    sheets = {"by_emotion": by_emotion, "attention": modules, "single": single}
    return [Sheet(kind, (maps,)) for kind, maps in sheets.items() if maps]


def _mean_map(path: Path, heat: Map, under: NDArray[np.uint8] | None) -> str:
    return _address(heat_on_face(under, _full_range(heat)), path)


def _address(pixels: NDArray[np.uint8], path: Path | None = None) -> str:
    """``data:`` address of pixels as a PNG, which is written as a file, too, where there is a path."""
    content = png(Image.fromarray(pixels))
    if path is not None:
        with writing(path) as file:
            file.write(content)
    return png_address(content)


def _picture_sheets(figures: Path, explained: Sequence[explain.ExplainedPicture], pictures: bool) -> list[Sheet]:
    """Each picture that has faces, with the maps of these."""
    sheets = []
    for number, picture in enumerate(found for found in explained if found.faces):
        wide = None
        if pictures:
            wide = _address(_with_maps(picture), figures / f"{number:03}_{Path(picture.path).stem}.png")
        groups = tuple(tuple(_face_maps(face, pictures)) for face in picture.faces)
        sheets.append(Sheet("picture", groups, shown_path(Path(picture.path).name) or "", wide))
    return sheets[:MAX_PICTURES]


def _with_maps(picture: explain.ExplainedPicture) -> NDArray[np.uint8]:
    """The picture, smaller where it is large, with the maps of its faces' emotions on it: RGB ``(H, W, 3)``."""
    drawn = read_image(picture.path)
    height, width = drawn.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    if scale < 1:
        size = max(1, round(scale * width)), max(1, round(scale * height))
        drawn = np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), np.uint8)
    for face in picture.faces:
        if face.frame is not None:
            drawn = heat_on_picture(drawn, Frame(scale * face.frame.corner, scale * face.frame.side), face.map)
    return drawn


def _face_maps(face: explain.ExplainedFace, pictures: bool) -> Iterator[ShownMap]:
    """By Grad-CAM of every emotion, the most probable first, then those of the attention modules."""
    under = face.face if pictures else None
    for at in np.argsort(-face.probabilities, kind="stable").tolist():
        address = _address(heat_on_face(under, face.maps[at]))
        yield ShownMap(address, face.classes[at], probability=float(face.probabilities[at]))
    for module, weights in face.attention.items():
        address = _address(heat_on_face(under, _full_range(weights)))
        yield ShownMap(address, module, is_attention=True, weights=_limits(weights))


def heat_on_face(face: NDArray[np.uint8] | None, heat: Map) -> NDArray[np.uint8]:
    """A map over a face ``(S, S[, 3])``: RGB of side ``FACE_SIDE``; without a face on nothing, with transparency."""
    side = FACE_SIDE, FACE_SIDE
    alpha = OPAQUE * cv2.resize(heat, side, interpolation=cv2.INTER_LINEAR)
    if face is None:
        colour = np.broadcast_to(HEAT.astype(np.uint8), (*side, 3))
        return np.dstack([colour, (255 * alpha).round().astype(np.uint8)])
    large = np.asarray(cv2.resize(face, side, interpolation=cv2.INTER_CUBIC), np.uint8)
    return _blend(large if large.ndim == 3 else np.repeat(large[..., None], 3, axis=2), alpha)


def heat_on_picture(picture: NDArray[np.uint8], frame: Frame, heat: Map) -> NDArray[np.uint8]:
    """A copy of a picture, RGB ``(H, W, 3)``, with a map over the square that its face was cut from."""
    height, width = picture.shape[:2]
    x, y, wide, high = frame.bounds()
    top, left, bottom, right = max(0, y), max(0, x), min(height, y + high), min(width, x + wide)
    pixels = np.arange(left, right) + 0.5 + 1j * (np.arange(top, bottom) + 0.5)[:, None]
    places = (pixels - frame.corner) / frame.side  # 0 to 1 in the frame
    inside = (places.real >= 0) & (places.real < 1) & (places.imag >= 0) & (places.imag < 1)
    large = bilinear(heat, places * len(heat) - (0.5 + 0.5j)) * inside
    drawn = picture.copy()
    drawn[top:bottom, left:right] = _blend(picture[top:bottom, left:right], OPAQUE * large.astype(np.float32))
    return drawn


def _blend(pixels: NDArray[np.uint8], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Heat over RGB ``(H, W, 3)``, as opaque as ``alpha`` ``(H, W)`` says."""
    mixed = (1 - alpha[..., None]) * pixels + alpha[..., None] * HEAT
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)


def _full_range(heat: Map) -> Map:
    """From its minimum to its maximum: ``(S, S)`` in [0, 1]."""
    return np.asarray((heat - heat.min()) / max(float(np.ptp(heat)), 1e-9))


def _limits(weights: Map) -> tuple[float, float]:
    return float(weights.min()), float(weights.max())


def _stretched(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mean face is pale: the same from black to white."""
    low, high = np.percentile(face, (1, 99))
    return np.asarray(np.clip((face - low) * (255 / max(high - low, 1)), 0, 255), np.uint8)


def _file_name(found: explain.Findings) -> str:
    return found.method.name.replace(":", "_").replace(".", "_")


def _as_file(name: str) -> str:
    """A class's name as a part of a file's name, different for different classes."""
    return name if name.isidentifier() else quote(name, safe="")


def explanation_rows(explanation: explain.Explanation) -> dict[str, object]:
    """The content of ``explain.json``; rates are fractions, intervals ``[low, high]``, squares in pixels."""
    recipe, split = explanation.recipe, explanation.split
    rows: dict[str, object] = {
        "recipe": recipe.name,
        "model": recipe.model.name,
        "seed": recipe.seed,
        "input_size": recipe.model.input_size,
        "bands": {name: list(band) for name, band in regions.BANDS.items()},
        "methods": [_method_row(found) for found in explanation.findings],
    }
    if split is None:
        return rows | {"pictures": [_picture_row(picture) for picture in explanation.pictures]}
    pointing = split.pointing
    return rows | {
        "data": split.data,
        "split": split.split.value,
        "n": split.n,
        "right": split.correct,
        "pointing_game": None if pointing is None else {
            "n": pointing.n, "hits": pointing.hits, "ci95": list(pointing.interval), "chance": pointing.chance,
        },
    }  # fmt: skip


def _method_row(found: explain.Findings) -> dict[str, object]:
    checks = found.checks
    return {
        "name": found.method.name,
        "layer": found.method.layer,
        "map_side": found.method.side,
        "verdict": checks.verdict,
        "failed": list(checks.failures),
        "checks": {
            "n": checks.n,
            "randomised_weights": {"similarity": checks.similarity, "fails_from": faithfulness.SIMILAR},
            "deletion": _curve_row(checks.deletion),
            "insertion": _curve_row(checks.insertion),
        },
        "similarity_between_faces": found.alike,
        "bands": {
            name: {**_band_row(band), "untrained": found.untrained[name].value} for name, band in found.bands.items()
        },
        "emotions": {
            average.emotion: {
                "n": average.n,
                "bands": {name: _band_row(band) for name, band in average.bands.items()},
            }
            for average in found.averages
        },
    }


def _curve_row(curve: faithfulness.Curve) -> dict[str, object]:
    areas = curve.random_areas
    return {
        "area": curve.area,
        "random": {"mean": float(areas.mean()), "low": float(areas.min()), "high": float(areas.max())},
        "p_value": curve.p_value,
        "passes": curve.passes,
    }


def _band_row(band: regions.BandFraction) -> dict[str, object]:
    interval = None if band.interval is None else list(band.interval)
    return {"share": band.value, "ci95": interval, "area": band.area}


def _picture_row(picture: explain.ExplainedPicture) -> dict[str, object]:
    return {
        "path": shown_path(picture.path),
        "width": picture.width,
        "height": picture.height,
        "faces": [_face_row(face) for face in picture.faces],
        "error": picture.error,
    }


def _face_row(face: explain.ExplainedFace) -> dict[str, object]:
    probabilities = zip(face.classes, face.probabilities, strict=True)
    return {
        "square": None if face.frame is None else face.frame.bounds()._asdict(),
        "roll": None if face.frame is None else face.frame.roll,
        "emotion": face.emotion,
        "probabilities": {emotion: float(value) for emotion, value in probabilities},
        "bands": face.bands(),
    }
