"""`vedette score`: score a table with a bundle, every row once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from vedette.cli.workers import Count, Deadline, Least, Memory, Ray, Runtime, workers_of

__all__ = ["score"]


def score(
    bundle: Annotated[Path, typer.Argument(help="Folder with detector.json, such as RUN/detectors/federated/fleet.")],
    table: Annotated[Path, typer.Argument(help="CSV or Parquet file with the detector's features, in the order of time; or .npy.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write: row, score, flag.")] = Path("scores.parquet"),
    runtime: Runtime = "local",
    workers: Count = None,
    least: Least = 1,
    ray: Ray = None,
    deadline: Deadline = None,
    memory: Memory = None,
    block: Annotated[int, typer.Option("--block", min=1, help="Rows a worker is given at once, at least.")] = 4096,
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Score every row of a table exactly once, in order, and prove it by count and checksum.

    Example: vedette score runs/demo/detectors/federated/fleet plant.csv --runtime cluster --workers 3 --out scores.parquet
    """
    import numpy as np

    from vedette.cli.rows import rows_for
    from vedette.cli.show import counting
    from vedette.detectors.bundle import load_bundle
    from vedette.errors import RecipeError
    from vedette.runtimes.cluster.ledger import Ledger
    from vedette.runtimes.cluster.scoring import score_blocks

    if out.suffix != ".parquet":
        raise RecipeError(f"scores are written as Parquet: --out {out.with_suffix('.parquet')}")
    hired = workers_of(runtime, workers, least, ray, deadline, memory)
    detector = load_bundle(bundle)
    rows = rows_for(detector, table)
    flagged, begin = 0, time.perf_counter()
    with Ledger(out, len(rows)) as ledger:
        with counting(len(rows), "rows scored", quiet or as_json) as on_rows:
            for first, scores in score_blocks(bundle, rows, hired, block):
                ledger.add(first, scores)
                flagged += int(np.count_nonzero(scores > detector.threshold_))
                on_rows(len(scores))
        seconds = time.perf_counter() - begin
        about = {"schema": "vedette.score/1", "bundle": str(bundle), "table": str(table), "flagged": flagged}
        proof = ledger.write(detector.threshold_, about)
    incidents = [incident._asdict() for incident in hired.incidents]
    if as_json:
        said = {**about, "out": str(out), "threshold": detector.threshold_, **proof._asdict(), "seconds": round(seconds, 3)}
        typer.echo(json.dumps({**said, "incidents": incidents}, indent=1))
        return
    typer.echo(
        f"{proof.scored:,} of {proof.rows:,} rows scored in {seconds:.1f} s, {flagged:,} above the threshold {detector.threshold_:.4g}\n"
        f"row numbers sha256 {proof.ids}\nscores      sha256 {proof.scores}\nwrote {out}"
    )
