"""A sentry at work, as it is seen on the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vedette.cli.live import ROOM, duration
from vedette.edge.times import clock

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from vedette.edge.agent import Status
    from vedette.edge.calibration import Realised
    from vedette.edge.events import Event

__all__ = ["view"]

MOST = 8
"""Open incidents that are shown."""

STYLES = {"high": "bold red", "medium": "red", "low": "yellow"}


def view(status: Status, width: int, seconds: float) -> RenderableType:
    """Return what there is to see of a sentry, in at most 15 lines.

    Parameters
    ----------
    status
        How it stands.
    width
        Of the terminal, in characters.
    seconds
        Since this process began.
    """
    from rich.console import Group
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    rows: list[tuple[str | Text, Text]] = []
    rate = f"{status.rate:,.0f} a second" if status.rate >= 1 or not status.readings else f"{status.rate:.2g} a second"
    rows.append(("readings", _line(f"{status.readings:,} of {status.devices:,} device{'' if status.devices == 1 else 's'}, {rate}")))
    share = f" ({status.alarms / status.readings:.2%})" if status.readings else ""
    rows.append(("above", _line(f"{status.alarms:,} readings above their threshold{share}")))
    if status.realised is not None:
        rows.append(("promise", _line(_promise(status.realised))))
        rows.append(("assumed", _line(status.realised.assumes)))
    over = status.told.get("closed", 0)
    rows.append(("incidents", _line(f"{len(status.current)} open, {over} over since this began")))
    for event in sorted(status.current, key=lambda event: -event.score / max(abs(event.threshold), 1e-300))[:MOST]:
        rows.append((Text(event.severity, STYLES[event.severity]), _line(_said(event))))
    if len(status.current) > MOST:
        rows.append(("", _line(f"and {len(status.current) - MOST} more")))
    if status.silent:
        told = ", ".join(f"{name} for {duration(seconds)}" for name, seconds in status.longest)
        more = f" and {status.silent - len(status.longest):,} more" if status.silent > len(status.longest) else ""
        rows.append((Text("silent", "yellow"), _line(told + more)))
    failing = {name: each.failing for name, each in status.deliveries.items() if each.failing}
    if waiting := sum(status.waiting.values()):
        rows.append((Text("waiting", "yellow") if failing else "waiting", _line(f"{waiting:,} events to be told")))
    for name, why in failing.items():
        rows.append((Text("sink", "yellow"), _line(f"{name}: {why}")))
    if status.wrong:
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(status.wrong.items(), key=lambda each: -each[1]))
        rows.append((Text("source", "yellow"), _line(told)))
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=ROOM, no_wrap=True)
    table.add_column(ratio=1, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return Group(Rule(Text(f"sentry, {duration(seconds)}", "bold"), align="left", style="dim"), table)


def _promise(found: Realised) -> str:
    if math.isnan(found.promised):
        return "none: a fixed threshold promises no rate"
    if math.isnan(found.measured):
        return f"{found.promised:g} {found.unit}; nothing measured yet"
    return f"{found.promised:g} {found.unit}; {found.measured:.2g} came in {found.days:.3g} device-days, but those marked as true"


def _said(event: Event) -> str:
    return f"{event.device} since {clock(event.began)}: {event.cause[0] if event.cause else f'score {event.score:.3g}'}"


def _line(text: str) -> Text:
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")
