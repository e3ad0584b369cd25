"""`vedette export`: a bundle's network written anew, smaller if wanted, and held against torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["export"]

APART = 1e-5
"""Of the threshold: what a float32 model may differ from torch by."""


def export(
    bundle: Annotated[Path, typer.Argument(help="Folder with detector.json, such as RUN/detectors/federated/fleet.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the new bundle to.")],
    rows: Annotated[
        Path | None,
        typer.Option("--rows", help="CSV or Parquet file with the detector's features, to compare by; else samples are made up."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Weights of 8 bits: a quarter of the size, scores a little off.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
) -> None:
    """Write a bundle whose network is ONNX, float32 or 8 bits, and say how far its scores are from torch's.

    Exit 1 if a float32 model differs.

    Example: vedette export runs/demo/detectors/federated/fleet --out small --int8
    """
    from vedette.cli.rows import rows_for
    from vedette.detectors.bundle import load_bundle, model_of, parity, save_bundle
    from vedette.detectors.graph import quantised
    from vedette.detectors.network import NetworkDetector
    from vedette.errors import DetectorMisused, RecipeError

    if out.resolve() == bundle.resolve():
        raise RecipeError(f"--out is the bundle itself: choose another folder than {bundle}")
    detector = load_bundle(bundle, engine="torch")
    if not isinstance(detector, NetworkDetector):
        raise DetectorMisused(f"the detector in {bundle} has no network: its bundle is scored as it stands")
    table = None if rows is None else rows_for(detector, rows)
    model = model_of(detector)
    content = quantised(model) if int8 else model
    provenance = json.loads((bundle / "detector.json").read_text(encoding="utf-8")).get("provenance", {})
    save_bundle(detector, out, {**provenance, "weights": "int8" if int8 else "float32"}, content)
    found = parity(detector, load_bundle(out), table)
    if as_json:
        said = {"schema": "vedette.export/1", "out": str(out), "bytes": len(content), "bytes_float32": len(model), **found._asdict()}
        typer.echo(json.dumps(said, indent=1))
    else:
        typer.echo(f"wrote {out}: model of {len(content):,} bytes (float32: {len(model):,})")
        whose = "rows" if rows is not None else "made-up samples"
        typer.echo(
            f"against torch on {found.rows:,} {whose}: at most {found.most:.2g} thresholds apart, {found.changed:.3%} judged otherwise"
        )
    if not int8 and found.most > APART:
        raise typer.Exit(1)
