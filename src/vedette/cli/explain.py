"""`vedette explain`: which readings a score comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["explain"]


def explain(
    bundle: Annotated[Path, typer.Argument(help="Folder with detector.json, such as RUN/detectors/federated/fleet.")],
    rows: Annotated[Path, typer.Argument(help="CSV or Parquet file with the detector's features, in the order of time.")],
    most: Annotated[int, typer.Option("--most", min=1, help="So many rows, the highest scores first.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
) -> None:
    """Say of the rows with the highest scores which features they come from, and what was expected of these.

    Example: vedette explain runs/demo/detectors/federated/fleet plant.csv --most 5
    """
    import numpy as np

    from vedette.cli.rows import rows_for
    from vedette.cli.show import console, listing
    from vedette.detectors.bundle import load_bundle
    from vedette.detectors.explanation import explain as explained

    detector = load_bundle(bundle)
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
