"""`vedette export`: a bundle's network written anew, smaller if wanted, as ONNX or as C, and held against torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from vedette.detectors.bundle import Parity

__all__ = ["export"]

APART = 1e-5
"""Of the threshold: what a float32 model may differ from torch by."""


def export(
    bundle: Annotated[Path, typer.Argument(help="Folder with detector.json, such as RUN/detectors/federated/fleet.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write a new bundle to.")] = None,
    c99: Annotated[Path | None, typer.Option("--c99", help="File to write the detector to as C99, for microcontrollers.")] = None,
    precision: Annotated[
        Literal["float32", "float16", "int8"],
        typer.Option("--precision", help="Of the weights: half or a quarter of the size, scores a little off."),
    ] = "float32",
    rows: Annotated[
        Path | None,
        typer.Option("--rows", help="CSV or Parquet file with the detector's features, to compare and test by; else samples are made up."),
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="What names in the C file begin with.")] = "vedette",
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
) -> None:
    """Write a bundle whose network is ONNX, or one C99 file, and say how far scores are from torch's.

    Neurons that pruning has cut off are left out. Exit 1 if float32 weights score otherwise than torch.

    Example: vedette export runs/demo/detectors/federated/fleet --c99 detector.c --precision int8
    """
    from vedette.cli.rows import rows_for
    from vedette.detectors.bundle import load_bundle, model_of, parity, save_bundle
    from vedette.detectors.c99 import c99_of, c99_twin
    from vedette.detectors.graph import halved, quantised
    from vedette.detectors.network import NetworkDetector
    from vedette.errors import DetectorMisused, RecipeError
    from vedette.files import write_atomic
    from vedette.training.pruning import pruned_share

    if out is None and c99 is None:
        raise RecipeError("say where to: --out FOLDER for a bundle, --c99 FILE for C, or both")
    if out is not None and out.resolve() == bundle.resolve():
        raise RecipeError(f"--out is the bundle itself: choose another folder than {bundle}")
    if c99 is not None and c99.is_dir():
        raise RecipeError(f"--c99 is a folder: name a file, such as {c99 / 'detector.c'}")
    detector = load_bundle(bundle, engine="torch")
    if not isinstance(detector, NetworkDetector):
        raise DetectorMisused(f"the detector in {bundle} has no network: its bundle is scored as it stands")
    table = None if rows is None else rows_for(detector, rows)
    # What cannot be written is said before anything is.
    code = None if c99 is None else c99_of(detector, table, precision, prefix)
    share = pruned_share(detector.layers, detector.weights_)
    said: dict[str, Any] = {"schema": "vedette.export/1", "precision": precision, "pruned": share}
    lines = [f"weights pruned: {share:.1%}"] if share else []
    most = 0.0
    if out is not None:
        model = model_of(detector)
        content = {"float32": lambda: model, "float16": lambda: halved(model), "int8": lambda: quantised(model)}[precision]()
        provenance = json.loads((bundle / "detector.json").read_text(encoding="utf-8")).get("provenance", {})
        save_bundle(detector, out, {**provenance, "weights": precision}, content)
        found = parity(detector, load_bundle(out), table)
        most = max(most, found.most)
        said |= {"out": str(out), "bytes": len(content), "bytes_float32": len(model), **found._asdict()}
        lines += [f"wrote {out}: model of {len(content):,} bytes (float32: {len(model):,})", _against(found, rows)]
    if c99 is not None and code is not None:
        write_atomic(c99, code.source)
        found = parity(detector, c99_twin(detector, precision), table)
        most = max(most, found.most)
        said["c99"] = {"file": str(c99), "flash": code.flash, "stack": code.stack, **found._asdict()}
        lines += [f"wrote {c99}: {code.flash:,} bytes of flash and {code.stack:,} of stack, code on top", _against(found, rows)]
    typer.echo(json.dumps(said, indent=1) if as_json else "\n".join(lines))
    if precision == "float32" and most > APART:
        raise typer.Exit(1)


def _against(found: Parity, rows: Path | None) -> str:
    whose = "rows" if rows is not None else "made-up samples"
    return f"against torch on {found.rows:,} {whose}: at most {found.most:.2g} thresholds apart, {found.changed:.3%} judged otherwise"
