"""How figures look, and a figure -> SVG that follows the page it stands on.

Lines and letters are drawn in one colour, which the SVG names ``currentColor``: dark on a light page, light on a dark
one. The other colours are mid-tones that keep a contrast of 3 : 1 or more on both, and differ for colour-blind
readers; areas are translucent instead of pale.
"""

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from mien.errors import import_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"
"""Stands for ``currentColor`` until the figure is saved."""
MEASURED = "#3f87c9"
"""Blue: measured on pictures that were not trained on."""
TRAINING = "#cf861d"
"""Amber: measured on the pictures that are trained on."""
PUBLISHED = "#c4539a"
"""Purple: what somebody else reported."""

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine measures letters alike
    "font.size": 8.5,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "mien",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
}

FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'

_ALONE = f"""<style>
:root {{ color: #1b1f24; background: #ffffff; font-family: {FONTS}; }}
@media (prefers-color-scheme: dark) {{ :root {{ color: #e4e7ea; background: #14171a; }} }}
</style>"""


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The figures' style within the block; the caller's settings stand again after it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with import_extra("matplotlib", "report").rc_context(STYLE):
        yield


def save_svg(figure: "Figure") -> str:
    """The figure as an ``<svg>`` element for a page: as wide as its place, in the page's ink and letters.

    Equal figures give equal text. The figure's label (``figure.set_label``) becomes its description for readers who
    do not see it.
    """
    buffer = io.BytesIO()
    with styled():
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue().decode()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)  # would hold for the whole page
    svg = re.sub(r"<[^>]+>", lambda tag: _shorter(tag[0]), svg)
    attributes = f'role="img" aria-label="{escape(str(figure.get_label()))}"'
    style = 'style="stroke-linejoin: round; stroke-linecap: butt"'
    svg = re.sub(
        r'<svg[^>]*(viewBox="[^"]*")[^>]*>',
        lambda tag: f'<svg xmlns="http://www.w3.org/2000/svg" {tag[1]} {attributes} {style}>',
        svg,
        count=1,
    )
    return _own_ids(svg).strip()


def standalone_svg(svg: str) -> str:
    """What :func:`save_svg` gave, as a file that is readable by itself on light and on dark."""
    return re.sub(r"(<svg[^>]*>)", lambda tag: f"{tag[0]}\n{_ALONE}", svg, count=1) + "\n"


def _shorter(tag: str) -> str:
    """A tag with the page's ink and letters, and coordinates to a hundredth of a point."""
    tag = tag.replace(INK, "currentColor").replace("xlink:href", "href")
    tag = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", tag)
    tag = re.sub(r"font-family: [^;\"]+;? ?", "", tag)
    return re.sub(r"-?\d+\.\d{3,}(?!px)", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), tag)


def _own_ids(svg: str) -> str:
    """Only the identifiers that are referred to, under names that no other figure of a page has."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    prefix = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8]
    return re.sub(r'( id="|url\(#|href="#)', rf"\1{prefix}-", svg)
