"""`vedette incidents` and `vedette ack`: what a sentry told, and whether it was true."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["STATE", "State", "ack", "incidents"]

STATE = Path("runs/watch")
State = Annotated[Path, typer.Option("--out", help="Where the sentry keeps its state, as 'vedette watch' was told.")]


def incidents(
    out: State = STATE,
    most: Annotated[int, typer.Option("--most", min=1, help="So many, the newest first.")] = 20,
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are open.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
) -> None:
    """List the incidents of a sentry, also while it is at work.

    Example: vedette incidents --out runs/watch --open
    """
    from vedette.cli.show import console, listing
    from vedette.edge.database import Database
    from vedette.edge.records import Records
    from vedette.edge.times import clock

    with closing(Database(out, writer=False)) as database:
        found = Records(database).incidents(open_only, most)
    if as_json:
        typer.echo(json.dumps({"schema": "vedette.incidents/1", "incidents": [event.said() for event in found]}, indent=1))
        return
    cells = [
        [
            event.incident[:8],
            clock(event.began),
            "open" if event.kind != "closed" else f"{event.lasted:,.0f} s",
            event.device,
            event.severity,
            event.origin or "",
            event.cause[0] if event.cause else "",
        ]
        for event in found
    ]
    console().print(listing(["id", "began", "lasted", "device", "severity", "fleet's, from", "because of"], cells))


def ack(
    event: Annotated[str, typer.Argument(help="Id of an alert or incident, or its beginning.")],
    true: Annotated[bool, typer.Option("--true/--false", help="Whether something was really wrong.")],
    out: State = STATE,
) -> None:
    """Say whether an alert or incident was a true one; the calibration heeds it with the next readings.

    Example: vedette ack 65cb906d --false
    """
    from vedette.edge.database import Database
    from vedette.edge.records import Records

    with closing(Database(out, writer=False)) as database:
        found = Records(database).acknowledge(event, true)
    typer.echo(f"{found.id} of {found.device} is marked as {'true' if true else 'false'}")
