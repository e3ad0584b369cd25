"""What goes on, drawn on the terminal; and a federation as it is seen there."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import TYPE_CHECKING

from vedette.cli.show import console

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from vedette.runtimes.mesh.status import Status

__all__ = ["ROOM", "drawing", "duration", "is_drawn", "view"]

STYLES = {"refused": "red", "late": "yellow", "gone": "red", "working": "cyan", "answered": "green", "there": "", "done": "green"}
"""How nodes may stand, those to look at first."""

EVERY = 4
"""Times a second the view is drawn anew."""

BARS = "▁▂▃▄▅▆▇█"

ROOM = 9
"""Characters in which a row says what it is about."""


def is_drawn(quiet: bool) -> bool:
    """Tell whether a run is drawn: the error stream is a terminal, and nobody wants it otherwise."""
    # Rich takes 7 MB, which a process that nobody watches has other use for.
    return not quiet and sys.stderr.isatty() and not console(error=True).is_dumb_terminal


@contextmanager
def drawing(seen: Callable[[int, float], RenderableType]) -> Iterator[None]:
    """Draw what goes on below whatever is written meanwhile; its last view stays.

    Parameters
    ----------
    seen
        Says what there is to see, for the terminal's width and the seconds since it began; asked in a thread of its own.
    """
    from rich.live import Live

    terminal, begin = console(error=True), time.monotonic()

    def look() -> RenderableType:
        return seen(terminal.width, time.monotonic() - begin)

    handlers = [handler for handler in logging.getLogger("vedette").handlers if isinstance(handler, logging.StreamHandler)]
    before = [handler.setStream(_Above(terminal)) for handler in handlers]
    try:
        # The standard output may go to a file, and is left to it.
        with Live(get_renderable=look, console=terminal, refresh_per_second=EVERY, redirect_stdout=sys.stdout.isatty()):
            yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            handler.setStream(stream)


class _Above:
    """A stream into the terminal, above the view."""

    def __init__(self, terminal: Console) -> None:
        self.terminal = terminal

    def write(self, text: str) -> None:
        self.terminal.print(text, end="", markup=False, emoji=False, soft_wrap=True)

    def flush(self) -> None:
        pass


def view(status: Status, width: int, seconds: float) -> RenderableType:
    """Return what there is to see of a run, in at most 15 lines however many nodes take part.

    Parameters
    ----------
    status
        Where it stands.
    width
        Of the terminal, in characters.
    seconds
        Since this process began.
    """
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    tally, room = status.tally, max(width - ROOM - 1, 20)
    rows: list[tuple[str | Text, RenderableType]] = [("now", _line(status.doing))]
    if status.course:
        bar, done = Table.grid(padding=(0, 1)), status.place / len(status.course)
        bar.add_row(ProgressBar(1.0, done, width=room // 3), _line(f"{done:4.0%}  {_where(status)}"))
        rows.append(("run", bar))
    if status.asked:
        then = f"{status.quorum} needed" if status.quorum else "goes on without the others"
        left = "" if math.isnan(status.left) else f", {then} at the deadline in {duration(status.left)}"
        rows.append(("heard", _line(f"{status.heard} of {status.asked}{left}")))
    if losses := status.losses:
        rows.append(("loss", _line(f"{losses[-1]:<8.3g} {_spark(losses, room // 2)}")))
    if took := status.tally.seconds[-1:]:
        rows.append(("round", _line(f"{took[0][1]:.3g} s, the last one")))
    rows.append(("bytes", _line(f"{_size(tally.bytes_in)} in, {_size(tally.bytes_out)} out")))
    if tally.late or tally.refused:
        whose = f" of {', '.join(sorted(tally.refused))}" if tally.refused else ""
        rows.append((Text("answers", "yellow"), _line(f"{tally.late} late, {sum(tally.refused.values())} refused{whose}")))
    for condition, style in STYLES.items():
        names = [node for node, found in status.nodes.items() if found == condition]
        if names:
            rows.append((Text(condition, style), _line(f"{len(names):<3} {_listed(names, room - 4)}")))
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=ROOM, no_wrap=True)
    table.add_column(ratio=1, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    who = status.name if status.name == status.party else f"{status.party} {status.name}"
    title = f"{who}, run {status.run_name}, {duration(seconds)}"
    return Group(Rule(Text(title, "bold"), align="left", style="dim"), table)


def _line(text: str) -> Text:
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


def _where(status: Status) -> str:
    if status.place >= len(status.course) or status.run is None:
        return "over"
    step = status.course[status.place]
    stage = status.run.stages[step.stage]
    return f"{stage.name}: {'the end' if step.closing else f'{step.round + 1} of {stage.strategy.rounds}'}, {step.phase}"


def _listed(names: Sequence[str], width: int) -> str:
    """List as many names as there is room for."""
    shown = ""
    # No name and its comma take less than three characters.
    for count in range(min(len(names), width // 3), 0, -1):
        shown = ", ".join(names[:count]) + (f" and {len(names) - count} more" if count < len(names) else "")
        if len(shown) <= width:
            break
    return shown


def _spark(values: Sequence[float], width: int) -> str:
    """Draw values as bars between the least and the greatest; of more than there is room for, means of those side by side."""
    count = min(width, len(values))
    means = [fmean(values[place * len(values) // count : (place + 1) * len(values) // count]) for place in range(count)]
    least, span = min(means), max(means) - min(means)
    return "".join(BARS[int((value - least) / span * (len(BARS) - 1)) if span else 0] for value in means)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def duration(seconds: float) -> str:
    """Say a time as ``"m:ss"`` or ``"h:mm:ss"``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
