"""What all figures are drawn on: settings of our own, places in pixels, SVG for the inside of a page."""

from __future__ import annotations

import contextlib
import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vedette.evaluation.plots.looks import BLUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["INK", "WIDTH", "bare_rows", "canvas", "drawing", "logarithmic", "place", "svg"]

WIDTH = 1100  # pixels of the page; one unit of every SVG is one pixel of it
INK, GRID = "#010203", "#040506"  # stand-ins, replaced by the page's own colours in `svg`
SETTINGS: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), GRID),
    **dict.fromkeys(("axes.grid", "axes.axisbelow"), True),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "axes.formatter.useoffset", "text.parse_math"), False),
    **dict.fromkeys(("grid.linewidth", "axes.linewidth"), 1),
    "svg.fonttype": "none",
    "font.size": 12,
}


@contextlib.contextmanager
def drawing(salt: str) -> Iterator[None]:
    """Draw with our settings alone, whatever the user's matplotlibrc says, and leave theirs as they were."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)  # the browser has the glyph
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**SETTINGS, "svg.hashsalt": salt})
        yield


def canvas(height: float) -> Figure:
    """Return an empty figure as wide as the page and so many pixels high."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="none")


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes at a place given in pixels from the top left."""
    whole = figure.get_figheight() * 72
    axes = figure.add_axes((left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole))
    axes.set_facecolor("none")
    return axes


def logarithmic(axes: Axes, low: float, high: float) -> None:
    """Make the upright axis logarithmic, with ticks people can read."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    subs = (1.0,) if high > 2000 * low else (1.0, 3.0) if high > 60 * low else (1.0, 2.0, 5.0)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(low, high)


def bare_rows(axes: Axes, labels: Sequence[str], rows: int) -> None:
    """Label the rows of a bar chart, the first at the top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def svg(figure: Figure, label: str) -> str:
    """Turn a figure into SVG for the inside of a page: no header, no shared ids, the page's font and ink."""
    file = io.StringIO()
    figure.savefig(file, format="svg", facecolor="none", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    text = re.sub(r"font: ((?:bold |\d00 )?)([\d.]+px) [^;\"]*", lambda m: f"font-weight: {m[1] or '400'}; font-size: {m[2]}", text)
    for stand_in, colour in ((INK, "currentColor"), (GRID, "var(--grid)"), (BLUE.lower(), "var(--blue)")):
        text = re.sub(rf"(fill|stroke): {stand_in}", rf"\1: {colour}", text)
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)
    box = re.search(r'viewBox="[^"]*"', text)
    start = f'<svg class="plot" role="img" aria-label="{html.escape(label)}" {box[0] if box else ""}>'
    return re.sub(r"^<svg[^>]*>", lambda _: start, text).strip()
