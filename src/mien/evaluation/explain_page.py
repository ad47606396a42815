"""An explanation as ``explain.json``, figures, and one page, ``explain.html``."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.evaluation.explain_words import answer_words, explanation_rows, verdict_words
from mien.evaluation.explanation import (
    ExplainedFace,
    ExplainedPicture,
    ExplainedSplit,
    Explanation,
    Findings,
)
from mien.evaluation.faithfulness import RANDOM_MAPS, SIMILAR
from mien.evaluation.heat import heat_on_face, heat_on_picture, png, removal_curves
from mien.evaluation.pages import render_page
from mien.evaluation.panels import Panel, write_figures
from mien.evaluation.places import BANDS, Share
from mien.evaluation.svg import save_svg
from mien.evaluation.wording import percent, plural, sentences
from mien.face.pictures import read_picture
from mien.face.result import Box, shown_path
from mien.runs import write_text, write_whole

WIDEST = 720
"""Longer side of a picture on the page, in pixels."""
PICTURES = 12
"""On the page, at most; ``explain.json`` and ``figures/`` hold all."""
PICTURE_CAPTION = (
    "Each face as the network saw it, under the map of every emotion, the most probable first; above them, on the"
    " picture, the maps of the emotions that are named."
)


@dataclass(frozen=True)
class ShownMap:
    """A map on the page: a PNG's ``data:`` address, its description, a title and lines below it."""

    picture: str
    words: str
    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """Maps that belong together, in lines; ``wide`` is the address of a picture above them."""

    title: str
    caption: str
    groups: tuple[tuple[ShownMap, ...], ...]
    wide: str | None = None


def write_explanation(out: Path, explanation: Explanation, *, pictures: bool = True) -> Path:
    """Write ``explain.json``, ``figures/`` and ``explain.html``.

    Args:
        out: folder.
        explanation: by ``explain.explain_split`` or ``explain.explain_pictures``.
        pictures: show faces; without, maps lie on nothing, and row numbers and names stand for faces.

    Returns:
        path of ``explain.html``.

    Raises:
        RunError: ``out`` cannot be written.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    write_text(out / "explain.json", json.dumps(explanation_rows(explanation), indent=1) + "\n")
    panels = [_panel(found) for found in explanation.findings]
    write_figures(out, panels)
    figures = out / "figures"
    if explanation.split is not None:
        sheets = _split_sheets(figures, explanation.findings, explanation.split, pictures)
    else:
        sheets = _picture_sheets(figures, explanation.pictures, pictures)
    page = out / "explain.html"
    write_text(page, render_page("explain.html.j2", {**_values(explanation), "panels": panels, "sheets": sheets}))
    return page


def _values(explanation: Explanation) -> dict[str, Any]:
    """What the template says in words and tables."""
    return {
        "explanation": explanation,
        "verdicts": [verdict_words(found) for found in explanation.findings if found.checks.failures],
        "answer": answer_words(explanation),
        "bands": BANDS,
        "leans": {"more": "more", "less": "less", "even": "about as much"},
        "similar": SIMILAR,
        "random_maps": RANDOM_MAPS,
    }


def _panel(found: Findings) -> Panel:
    return Panel(
        f"removal_{_file_name(found)}",
        f"{found.method.title}: does the order matter?",
        f"Mean over {plural(found.checks.n, 'face')}; grey: {RANDOM_MAPS} random orders."
        " A map that explains falls fast where pixels are removed, and rises fast where they are inserted.",
        save_svg(removal_curves(found.checks)),
    )


def _split_sheets(figures: Path, findings: Sequence[Findings], split: ExplainedSplit, pictures: bool) -> list[Sheet]:
    """Mean maps, those of Grad-CAM by emotion, and single faces."""
    if not findings:
        return []
    grad_cam, *attention = findings
    under = None if split.mean_face is None else _stretched(split.mean_face)
    ground = " over the mean face of the split" if under is not None else ""
    below = (
        "each from its lowest to its highest place; below, how much of the maps lies in the bands of eyes and mouth."
    )
    failing = "These maps fail their checks." if grad_cam.checks.failures else ""
    caption = sentences(f"Mean maps of rightly named faces{ground}, {below}", failing)
    by_emotion = tuple(
        _mean_map(
            figures / f"grad_cam_{average.emotion}.png",
            average.map,
            under,
            average.emotion.value,
            (plural(average.n, "face"), *_share_lines(average.shares)),
        )
        for average in grad_cam.averages
    )
    sheets = [Sheet("Grad-CAM, by emotion", caption, (by_emotion,))]
    if attention:
        modules = tuple(
            _mean_map(
                figures / f"{_file_name(found)}.png",
                found.map,
                under,
                found.method.layer,
                (_spread(found.map), *_share_lines(found.shares), f"{found.checks.verdict} its checks"),
            )
            for found in attention
        )
        sheets.append(Sheet("Attention modules", f"Mean weights of the places{ground}, {below}", (modules,)))
    caption = "Of each emotion the face that is rightly named with the most confidence, and its map by Grad-CAM."
    return [*sheets, Sheet("Single faces", caption, (tuple(_example(face, pictures) for face in split.examples),))]


def _mean_map(
    path: Path, heat: NDArray[np.float32], under: NDArray[np.uint8] | None, title: str, lines: tuple[str, ...]
) -> ShownMap:
    """Written as a file, too."""
    content = png(heat_on_face(under, _full_range(heat)))
    _write(path, content)
    return ShownMap(_address(content), f"Mean map, {title}", title, lines)


def _share_lines(shares: Mapping[str, Share]) -> list[str]:
    return [f"{name} {percent(share.value, 0)}" for name, share in shares.items()]


def _spread(weights: NDArray[np.float32]) -> str:
    return f"weights {weights.min():.2f} to {weights.max():.2f}"


def _example(face: ExplainedFace, pictures: bool) -> ShownMap:
    address = _address(png(heat_on_face(face.face if pictures else None, face.map)))
    lines = (percent(float(face.probabilities.max()), 0), f"row {face.row}")
    return ShownMap(address, f"Grad-CAM of row {face.row}", face.emotion.value, lines)


def _picture_sheets(figures: Path, explained: Sequence[ExplainedPicture], pictures: bool) -> list[Sheet]:
    """Each picture that has faces, with the maps of these."""
    sheets = []
    for number, picture in enumerate(found for found in explained if found.faces):
        wide = None
        if pictures:
            content = png(_with_maps(picture))
            _write(figures / f"{number:03}_{Path(picture.path).stem}.png", content)
            wide = _address(content)
        groups = tuple(tuple(_face_maps(face, pictures)) for face in picture.faces)
        sheets.append(Sheet(shown_path(Path(picture.path).name) or "", PICTURE_CAPTION, groups, wide))
    return sheets[:PICTURES]


def _with_maps(picture: ExplainedPicture) -> NDArray[np.uint8]:
    """The picture, smaller where it is large, with the maps of its faces' emotions on it: RGB ``(H, W, 3)``."""
    drawn = read_picture(picture.path)
    height, width = drawn.shape[:2]
    scale = min(1.0, WIDEST / max(height, width))
    if scale < 1:
        size = max(1, round(scale * width)), max(1, round(scale * height))
        drawn = np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), np.uint8)
    for face in picture.faces:
        if face.square is not None:
            x, y, side, _ = (round(scale * value) for value in face.square)
            drawn = heat_on_picture(drawn, Box(x, y, max(1, side), max(1, side)), face.map)
    return drawn


def _face_maps(face: ExplainedFace, pictures: bool) -> Iterator[ShownMap]:
    """By Grad-CAM of every emotion, the most probable first, then those of the attention modules."""
    under = face.face if pictures else None
    for at in np.argsort(-face.probabilities, kind="stable"):
        address = _address(png(heat_on_face(under, face.maps[at])))
        name = EMOTIONS[at].value
        yield ShownMap(address, f"Grad-CAM for {name}", name, (percent(float(face.probabilities[at]), 0),))
    for module, weights in face.attention.items():
        address = _address(png(heat_on_face(under, _full_range(weights))))
        yield ShownMap(address, f"Attention of {module}", module, (_spread(weights),))


def _full_range(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """From its lowest place to its highest: ``(S, S)`` in [0, 1]."""
    return np.asarray((heat - heat.min()) / max(float(np.ptp(heat)), 1e-9))


def _stretched(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mean face is pale: the same from black to white."""
    low, high = np.percentile(face, (1, 99))
    return np.asarray(np.clip((face - low) * (255 / max(high - low, 1)), 0, 255), np.uint8)


def _file_name(found: Findings) -> str:
    return found.method.name.replace(":", "_").replace(".", "_")


def _address(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _write(path: Path, content: bytes) -> None:
    def write(file: IO[bytes]) -> None:
        file.write(content)

    write_whole(path, write)
