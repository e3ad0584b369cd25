"""`vedette explain`: which readings a score, or an alert, comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vedette.cli.ack import STATE, State

__all__ = ["explain"]


def explain(
    what: Annotated[
        str, typer.Argument(help="Folder with detector.json, such as RUN/detectors/federated/fleet; or the id of an alert or incident.")
    ],
    rows: Annotated[
        Path | None, typer.Argument(help="CSV or Parquet file with the detector's features, in the order of time; none for an alert.")
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="So many rows, the highest scores first; or features of an alert.")] = 10,
    out: State = STATE,
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
) -> None:
    """Say of the rows with the highest scores, or of an alert, which features they come from, and what was expected of these.

    Example: vedette explain runs/demo/detectors/federated/fleet plant.csv --most 5, or vedette explain 65cb906d
    """
    if rows is None:
        _alert(what, most, out, as_json)
        return
    import numpy as np

    from vedette.cli.rows import rows_for
    from vedette.cli.show import console, listing
    from vedette.detectors.bundle import load_bundle
    from vedette.detectors.explanation import explain as explained

    detector = load_bundle(Path(what))
    table = rows_for(detector, rows)
    scores, threshold = detector.decision_function(table), detector.threshold_
    order = np.argsort(-scores, kind="stable")[:most]
    why = explained(detector, table, order)
    entries: list[dict[str, Any]] = [
        {"row": row, "score": float(scores[row]), "alarm": bool(scores[row] > threshold), "why": why.said(place)}
        for place, row in enumerate(order.tolist())
    ]
    if as_json:
        said = {"schema": "vedette.explain/1", "threshold": threshold, "rows": len(table), "alarms": int((scores > threshold).sum())}
        typer.echo(json.dumps({**said, "explained": entries}, indent=1))
        return
    terminal = console()
    terminal.print(f"{(scores > threshold).sum():,} of {len(table):,} rows score above the threshold {threshold:.4g}", markup=False)
    cells = [[str(e["row"]), f"{scores[e['row']] / threshold:.2f}", "yes" if e["alarm"] else "no", "; ".join(e["why"])] for e in entries]
    terminal.print(listing(["row (from 0)", "score in thresholds", "alarm", "because of"], cells))


def _alert(key: str, most: int, folder: Path, as_json: bool) -> None:
    """Score again what an alert was told for; the score must be the same."""
    from contextlib import closing

    import numpy as np

    from vedette.cli.show import console, listing
    from vedette.edge.database import Database
    from vedette.edge.explained import explained
    from vedette.edge.records import Records
    from vedette.edge.sinks.stdout import line

    with closing(Database(folder, writer=False)) as database:
        found = explained(Records(database), key, most)
    event, same = found.event, bool(found.score == found.event.score)
    numbers = [place for place, feature in enumerate(found.features) if feature.kind == "number"]
    last = {found.features[place].name: None if np.isnan(found.values[-1, place]) else float(found.values[-1, place]) for place in numbers}
    if as_json:
        said = {
            "schema": "vedette.explain/1",
            "event": event.said(),
            "score": found.score,
            "same": same,
            "why": found.causes,
            "values": last,
        }
        typer.echo(json.dumps(said, indent=1))
        return
    terminal = console()
    terminal.print(line(event), markup=False, highlight=False, soft_wrap=True)
    again = "the same score" if same else f"told was {event.score!r}"
    terminal.print(f"scored again: {found.score!r}, {again} (model {event.model[:12]}, values {event.input[:12]})", markup=False)
    cells = [[why] for why in found.causes] or [["this detector cannot tell which features a score comes from"]]
    terminal.print(listing(["because of"], cells))
