"""The report's figures: inline SVG that takes its text colour from the page around it."""

from __future__ import annotations

import contextlib
import html
import io
import itertools
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vedette.message import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "MOST_BARS",
    "MOST_HOLDINGS",
    "Curve",
    "Holding",
    "Look",
    "Trace",
    "decimate",
    "holding_figure",
    "loss_figure",
    "node_figure",
    "ordered",
    "printable",
    "styles",
    "trace_figure",
]

WIDTH = 1100  # pixels of the page; one unit of every SVG is one pixel of it
BINS = 800
MOST_BARS = 40
MOST_HOLDINGS = 60
COLUMNS = 5
INK, GRID = "#010203", "#040506"  # stand-ins, replaced by the page's own colours in `_svg`
BLUE, GREEN, VERMILLION, SKY, GREY = "#0072B2", "#009E73", "#D55E00", "#56B4E9", "#8C8C8C"
SPREADING = ("#CC79A7", SKY, "#E69F00", GREEN, BLUE, VERMILLION)
FIXED = {
    "flag-all": (GREY, "1 3"),
    "random": (GREY, "6 3"),
    "untrained": (GREY, ""),
    "variance-distance": (SKY, ""),
    "pca": ("#CC79A7", ""),
    "local": ("#E69F00", ""),
    "centralised": (GREEN, ""),
    "federated": (BLUE, ""),
}
OTHERS_AFTER = "pca"
DASHES = ("6 2", "2 2", "8 2 2 2", "12 3")


class Trace(NamedTuple):
    """One node's scored test rows under one method.

    Attributes
    ----------
    method, protocol, node
        Whose scores they are.
    time
        [rows] float64 seconds, or None: the row number is shown.
    score
        [rows] float64, at least 0, higher = more anomalous.
    label
        [rows] 0/1, or None where the truth is not known.
    threshold
        Scores that reach it are alerts.
    kind
        Kind of anomaly of each row (``""`` or ``"normal"`` where there is none), or empty.
    """

    method: str
    protocol: str
    node: str
    time: Array | None
    score: Array
    label: Array | None
    threshold: float
    kind: tuple[str, ...] = ()


class Curve(NamedTuple):
    """Training loss per round of one method and seed, the mean over nodes."""

    method: str
    protocol: str
    seed: int
    loss: Sequence[float]


class Holding(NamedTuple):
    """How many rows a node holds: normal and anomalous ones to train on, and test rows."""

    node: str
    normal: int
    anomalous: int
    test: int


class Look(NamedTuple):
    """A method's colour and line pattern, the same in every figure and table."""

    colour: str
    dash: str


def ordered(methods: Sequence[str]) -> list[str]:
    """Sort methods from the plainest reference to the federation; unknown names stand after the baselines."""
    rank = {name: place for place, name in enumerate(FIXED)}
    return sorted(set(methods), key=lambda name: (rank.get(name, rank[OTHERS_AFTER] + 0.5), name))


def styles(methods: Sequence[str]) -> dict[str, Look]:
    """Give every method its look: the usual ones always the same, others a colour that is free, then dashes."""
    looks = {name: Look(*look) for name, look in FIXED.items()}
    taken = {looks[name].colour for name in methods if name in looks}
    free = [(colour, "") for colour in SPREADING if colour not in taken]
    spare = itertools.cycle([*free, *((colour, dash) for dash in DASHES for colour in SPREADING)])
    return looks | {name: Look(*next(spare)) for name in ordered(methods) if name not in looks}


def printable(text: object, cells: int = 200) -> str:
    """Make a user's text harmless to lay out: no control or direction characters, at most `cells` columns wide."""
    shown, width = "", 0
    for sign in itertools.islice(str(text), 4 * cells):
        sign = " " if sign in "\n\t\r" else "\ufffd" if unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Cn"} else sign
        width += _cells(sign)
        if width > cells:
            return shown[:-1] + "…"
        shown += sign
    return shown


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def decimate(values: Array, bins: int = BINS) -> tuple[Array, Array]:
    """Thin out a series so that every peak survives.

    Parameters
    ----------
    values
        [rows] numbers; NaN counts as absent.
    bins
        How many points may remain.

    Returns
    -------
    starts, highest
        [at most bins] first row of each bin, and the largest value in it.
    """
    count = min(len(values), bins)
    starts = np.arange(count, dtype=np.int64) * len(values) // max(count, 1)
    return starts, np.fmax.reduceat(values, starts) if count else values[:0]


@contextlib.contextmanager
def _style(salt: str) -> Iterator[None]:
    """Draw with our settings alone, whatever the user's matplotlibrc says, and leave theirs as they were."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)  # the browser has the glyph
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK})
        matplotlib.rcParams.update({"axes.edgecolor": GRID, "xtick.color": GRID, "ytick.color": GRID, "grid.color": GRID})
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": salt, "text.parse_math": False, "font.size": 12})
        matplotlib.rcParams.update({"axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False})
        matplotlib.rcParams.update({"grid.linewidth": 1, "axes.linewidth": 1, "axes.formatter.useoffset": False})
        yield


def _canvas(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="none")


def _place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes at a place given in pixels from the top left."""
    whole = figure.get_figheight() * 72
    axes = figure.add_axes((left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole))
    axes.set_facecolor("none")
    return axes


def _svg(figure: Figure, label: str) -> str:
    """Turn a figure into SVG for the inside of a page: no header, no shared ids, the page's font and ink."""
    file = io.StringIO()
    figure.savefig(file, format="svg", facecolor="none", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    text = re.sub(r"font: ((?:bold |\d00 )?)([\d.]+px) [^;\"]*", lambda m: f"font-weight: {m[1] or '400'}; font-size: {m[2]}", text)
    text = re.sub(rf"(fill|stroke): {INK}", r"\1: currentColor", text)
    text = re.sub(rf"(fill|stroke): {GRID}", r"\1: var(--grid)", text)
    text = re.sub(rf"(fill|stroke): {BLUE.lower()}", r"\1: var(--blue)", text)
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)
    box = re.search(r'viewBox="[^"]*"', text)
    start = f'<svg class="plot" role="img" aria-label="{html.escape(label)}" {box[0] if box else ""}>'
    return re.sub(r"^<svg[^>]*>", lambda _: start, text).strip()


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    subs = (1.0,) if high > 2000 * low else (1.0, 3.0) if high > 60 * low else (1.0, 2.0, 5.0)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(low, high)


def _dash(look: Look) -> str | tuple[int, tuple[float, ...]]:
    return (0, tuple(float(length) / 2 for length in look.dash.split())) if look.dash else "solid"


def loss_figure(curves: Sequence[Curve], looks: Mapping[str, Look]) -> str:
    """Draw the loss per round: the mean over seeds as a line, lowest to highest seed as a band; one panel a protocol."""
    from matplotlib.ticker import MaxNLocator

    with _style("loss"):
        figure = _canvas(300)
        protocols = sorted({curve.protocol for curve in curves})
        room = (WIDTH - 70) / len(protocols)
        values = np.concatenate([np.asarray(curve.loss, dtype=np.float64) for curve in curves])
        values = values[np.isfinite(values)]
        for place, protocol in enumerate(protocols):
            axes = _place(figure, 70 + place * room, 30, room - 30, 215)
            for method in ordered([curve.method for curve in curves if curve.protocol == protocol]):
                _loss_line(axes, [curve.loss for curve in curves if (curve.method, curve.protocol) == (method, protocol)], looks[method])
            axes.set_title(f"{printable(protocol, 30)} protocol", loc="left", fontsize=12)
            axes.set_xlabel("round")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if len(values) and values.min() > 0 and values.max() > 20 * values.min():
                _logarithmic(axes, values.min() / 1.2, values.max() * 1.2)
            elif len(values):
                axes.set_ylim(min(0.0, values.min() * 1.05), max(values.max() * 1.05, 1e-12))
            if place == 0:
                axes.set_ylabel("training loss, mean over nodes")
        return _svg(figure, "Training loss per round of each method")


def _loss_line(axes: Axes, losses: Sequence[Sequence[float]], look: Look) -> None:
    table = np.full((len(losses), max(map(len, losses))), np.nan)
    for row, loss in zip(table, losses, strict=True):
        row[: len(loss)] = loss
    table[~np.isfinite(table)] = np.nan
    starts, _ = decimate(table[0], BINS // 4)  # of very many rounds: means in a row, lowest and highest as a band
    seen = np.add.reduceat(np.isfinite(table).sum(0), starts)
    mean = np.where(seen, np.add.reduceat(np.nansum(table, 0), starts), np.nan) / np.maximum(seen, 1)
    low, high = np.fmin.reduceat(np.fmin.reduce(table), starts), np.fmax.reduceat(np.fmax.reduce(table), starts)
    axes.fill_between(starts + 1, low, high, color=look.colour, alpha=0.22, linewidth=0)
    axes.plot(starts + 1, mean, color=look.colour, linestyle=_dash(look), linewidth=2, marker="o" if len(starts) < 3 else "")


def trace_figure(traces: Sequence[Trace], looks: Mapping[str, Look]) -> str:
    """Draw one node's scores over time, one panel a method: threshold, shaded true anomalies, alerts on top.

    Parameters
    ----------
    traces
        Traces of one node under one protocol, none empty.
    looks
        From `styles`.
    """
    with _style("trace"):
        figure = _canvas(152 * len(traces) + 28)
        clocks, unit = _clocks(traces)
        for place, (trace, clock) in enumerate(zip(traces, clocks, strict=True)):
            axes = _place(figure, 70, 36 + 152 * place, WIDTH - 90, 100)
            _trace_panel(axes, trace, clock, looks[trace.method].colour)
            axes.set_xlim(min(c[0] for c in clocks), max(max(c[-1] for c in clocks), min(c[0] for c in clocks) + 1e-9))
            if place == len(traces) - 1:
                axes.set_xlabel(unit)
            else:
                axes.tick_params(labelbottom=False)
        return _svg(figure, f"Anomaly scores of {printable(traces[0].node, 60)} over time")


def _clocks(traces: Sequence[Trace]) -> tuple[list[Array], str]:
    """Put all traces on one axis: time since the first row, or row numbers where time is absent or mostly gaps."""
    times = [trace.time for trace in traces if trace.time is not None and _dense(np.asarray(trace.time, dtype=np.float64))]
    if len(times) < len(traces):
        return [np.arange(len(trace.score), dtype=np.float64) for trace in traces], "test reading, row number"
    first, last = min(float(time[0]) for time in times), max(float(time[-1]) for time in times)
    span = last - first
    size, name = next(
        (s, n) for limit, s, n in ((180, 1, "s"), (10800, 60, "min"), (4e5, 3600, "h"), (np.inf, 86400, "days")) if span < limit
    )
    dated = 946684800 <= first < 4102444800  # years 2000 to 2100: seconds of the Unix epoch
    since = f"{datetime.fromtimestamp(first, UTC):%Y-%m-%d %H:%M} UTC" if dated else "the first test reading"
    return [(np.asarray(time, dtype=np.float64) - first) / size for time in times], f"time since {since}, {name}"


def _dense(time: Array) -> bool:
    steps = np.diff(time)
    if not np.isfinite(time).all() or (steps < 0).any() or not steps.sum() > 0:
        return False
    return bool(steps[steps > 20 * max(float(np.median(steps)), 1e-9)].sum() < 0.5 * steps.sum())


def _trace_panel(axes: Axes, trace: Trace, clock: Array, colour: str) -> None:
    score = np.asarray(trace.score, dtype=np.float64)
    alert = score >= trace.threshold  # as `Detector.predict` does
    truth = np.asarray(trace.label) > 0 if trace.label is not None else None
    finite = np.isfinite(score)
    drawn = np.where(finite | np.isnan(score), score, score[finite].max() if finite.any() else np.nan)
    starts, high = decimate(drawn)
    low = np.fmin.reduceat(drawn, starts)
    x = clock[starts]
    step = float(np.median(np.diff(x))) if len(x) > 1 else 1.0
    ends = np.minimum(np.append(x[1:], clock[-1] + step / 2), x + 3 * step)
    if truth is not None:
        _spans(axes, x, ends, np.logical_or.reduceat(truth, starts), (0, 1), VERMILLION, 0.27)
    _scale(axes, high, trace.threshold)
    floor = axes.get_ylim()[0]
    if len(score) > len(starts):
        axes.fill_between(x, np.fmax(low, floor), np.fmax(high, floor), color=colour, alpha=0.35, linewidth=0)
    axes.plot(x, np.fmax(high, floor), color=colour, linewidth=1.3, marker="" if len(x) > 1 else "o")
    if np.isfinite(trace.threshold):
        axes.axhline(max(trace.threshold, floor), color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
    true = truth if truth is not None else np.ones(len(score), dtype=bool)
    _spans(axes, x, ends, np.logical_or.reduceat(alert & true, starts), (1.03, 1.08), GREEN if truth is not None else INK, 1)
    _spans(axes, x, ends, np.logical_or.reduceat(alert & ~true, starts), (1.11, 1.16), VERMILLION, 1)
    axes.set_ylabel("anomaly score")
    axes.set_title(printable(trace.method, 40), loc="left", color=INK, weight="bold", pad=20, fontsize=12)
    axes.set_title(_tally(alert, truth), loc="right", fontsize=12, pad=20)


def _tally(alert: Array, truth: Array | None) -> str:
    if truth is None:
        return f"{alert.sum():,} alerts in {len(alert):,} readings"
    hits = int((alert & truth).sum())
    false = int(alert.sum()) - hits
    alarms = f"{false:,} false alarm{'' if false == 1 else 's'} on {(~truth).sum():,} normal ones"
    return f"finds {hits:,} of {truth.sum():,} anomalous readings · {alarms}"


def _scale(axes: Axes, high: Array, threshold: float) -> None:
    """Choose the score axis: logarithmic when the peaks would flatten everything else."""
    seen = np.append(high, threshold)
    seen = seen[np.isfinite(seen)]
    positive = seen[seen > 0]
    top = float(positive.max()) if len(positive) else 1.0
    if len(positive) and top > 30 * float(np.median(positive)):
        _logarithmic(axes, max(float(np.quantile(positive, 0.01)), top * 1e-9) / 1.5, top * 2)
    else:
        axes.set_ylim(min(0.0, float(seen.min()) if len(seen) else 0.0), top * 1.1)
        axes.locator_params(axis="y", nbins=4)


def _spans(axes: Axes, x: Array, ends: Array, where: Array, between: tuple[float, float], colour: str, alpha: float) -> None:
    """Fill the marked bins from one height of the panel to another (0 bottom, 1 top), as one path."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    edges = np.flatnonzero(np.diff(np.concatenate(([False], where, [False])).astype(np.int8)))
    if not len(edges):
        return
    lefts, rights = x[edges[::2]], ends[edges[1::2] - 1]
    (bottom, top), corners = between, np.empty((len(lefts), 5, 2))
    corners[:, :, 0] = np.stack([lefts, rights, rights, lefts, lefts], axis=1)
    corners[:, :, 1] = [bottom, bottom, top, top, bottom]
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], len(lefts))
    path = Path(corners.reshape(-1, 2), codes)
    edge = {"linewidth": 0.0} if alpha < 1 else {"linewidth": 1.0, "edgecolor": colour}  # a lone alert stays visible
    axes.add_patch(PathPatch(path, transform=axes.get_xaxis_transform(), facecolor=colour, alpha=alpha, clip_on=False, **edge))


def node_figure(scores: Mapping[str, Mapping[str, float]], floor: Mapping[str, float], looks: Mapping[str, Look], name: str) -> str:
    """Draw one measure per node and method: bars for few nodes, a distribution for more than `MOST_BARS`.

    Parameters
    ----------
    scores
        Value in [0, 1] by method, then node; the first method sorts the nodes.
    floor
        What flagging everything scores, by node; a tick on each bar. May be empty.
    looks
        From `styles`.
    name
        What the measure is called.
    """
    nodes = sorted(set(itertools.chain.from_iterable(scores.values())))
    first = next(iter(scores.values()))
    nodes.sort(key=lambda node: first.get(node, np.inf))
    with _style("nodes"):
        if len(nodes) > MOST_BARS:
            return _svg(_distributions(scores, floor, looks, name), f"Distribution of {name} over {len(nodes)} nodes")
        rows, tall = -(-len(scores) // COLUMNS), 21 * len(nodes)
        columns = -(-len(scores) // rows)
        left = 7.7 * max(_cells(printable(node, 26)) for node in nodes) + 14
        figure, wide = _canvas(rows * (tall + 75)), (WIDTH - left) / columns
        for place, (method, values) in enumerate(scores.items()):
            row, column = divmod(place, columns)
            axes = _place(figure, left + wide * column, 28 + row * (tall + 75), min(wide, 500) - 16, tall)
            ticks = [floor.get(node, np.nan) for node in nodes]
            _node_bars(axes, [values.get(node, np.nan) for node in nodes], ticks, looks[method].colour)
            axes.set_yticks(range(len(nodes)), [printable(node, 26) for node in nodes] if column == 0 else [])
            axes.set_title(printable(method, 26), loc="left", fontsize=12, weight="bold")
            axes.set_xlabel(name)
        return _svg(figure, f"{name} of each node under each method")


def _node_bars(axes: Axes, values: Sequence[float], ticks: Sequence[float], colour: str) -> None:
    axes.barh(range(len(values)), np.nan_to_num(values), height=0.72, color=colour)
    axes.plot(ticks, range(len(ticks)), "|", color=INK, markersize=13, markeredgewidth=2)
    for place, (value, right) in enumerate(zip(values, np.fmax(np.nan_to_num(values), ticks), strict=True)):
        axes.text(max(np.nan_to_num(right), 0) + 0.035, place, f"{value:.2f}" if np.isfinite(value) else "none", va="center", fontsize=11)
    axes.set(xlim=(0, 1.27), xticks=[0, 0.5, 1], ylim=(len(values) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _distributions(scores: Mapping[str, Mapping[str, float]], floor: Mapping[str, float], looks: Mapping[str, Look], name: str) -> Figure:
    tall = 62
    figure = _canvas(tall * len(scores) + 60)
    left = 7.7 * max(_cells(printable(method, 26)) for method in scores) + 50
    for place, (method, by_node) in enumerate(scores.items()):
        axes = _place(figure, left, 10 + place * tall, WIDTH - left - 20, tall - 8)
        values = np.clip(np.fromiter(by_node.values(), dtype=np.float64), 0, 1)
        counts, edges = np.histogram(values, bins=50, range=(0, 1))
        axes.stairs(counts, edges, fill=True, color=looks[method].colour)
        axes.axvline(float(np.median(values)), color=INK, linewidth=2)
        if floor:
            axes.axvline(float(np.median(list(floor.values()))), color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
        axes.plot([values.min()], [0], "^", color=VERMILLION, markersize=9, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, int(counts.max()) * 1.1), yticks=[int(counts.max())])
        axes.text(-45 / (WIDTH - left - 20), 0.5, printable(method, 26), ha="right", va="center", transform=axes.transAxes)
        axes.tick_params(labelbottom=place == len(scores) - 1, labelsize=11)
    axes.set_xlabel(f"{name} of a node (height: number of nodes)")
    return figure


def holding_figure(holdings: Sequence[Holding]) -> str:
    """Draw who holds how much: stacked bars, or a profile sorted by size for more than `MOST_HOLDINGS` nodes."""
    held = sorted(holdings, key=lambda holding: (-sum(holding[1:]), holding.node))
    table = np.array([holding[1:] for holding in held], dtype=np.float64)
    sums, colours = np.cumsum(np.c_[np.zeros(len(held)), table], axis=1), (SKY, VERMILLION, GREY)
    with _style("holdings"):
        many = len(held) > MOST_HOLDINGS
        tall = 220 if many else 23 * len(held)
        left = 80.0 if many else 7.7 * max(_cells(printable(holding.node, 26)) for holding in held) + 14
        figure = _canvas(tall + 60)
        axes = _place(figure, left, 8, WIDTH - left - (20 if many else 200), tall)
        for part, colour in enumerate(colours):
            if many:
                axes.stairs(sums[:, part + 1], np.arange(len(held) + 1), baseline=sums[:, part], fill=True, color=colour)
            else:
                axes.barh(range(len(held)), table[:, part], left=sums[:, part], height=0.72, color=colour)
        grouped = "{x:,.0f}"
        if many:
            axes.set(
                xlim=(0, len(held)), xlabel="nodes, the largest holder first", ylabel="rows held", ylim=(0, max(sums[0, -1], 1) * 1.05)
            )
            axes.yaxis.set_major_formatter(grouped)
        else:
            _holding_labels(axes, held)
            axes.xaxis.set_major_formatter(grouped)
        return _svg(figure, "Rows held by each node")


def _holding_labels(axes: Axes, held: Sequence[Holding]) -> None:
    most = max(sum(held[0][1:]), 1)
    for place, (_, normal, anomalous, test) in enumerate(held):
        rows, part = normal + anomalous, anomalous / max(normal + anomalous, 1)
        share = f"{part * 100:.{2 if 0 < part < 0.01 else 1}f} % anomalous" if rows else "none to train on"
        axes.text(rows + test + most * 0.01, place, f"{rows + test:,}, {share}", va="center", fontsize=11)
    axes.set_yticks(range(len(held)), [printable(holding.node, 26) for holding in held])
    axes.set(xlim=(0, most), ylim=(len(held) - 0.4, -0.6), xlabel="rows")
    axes.locator_params(axis="x", nbins=6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
