"""`vedette data simulate`: a fleet of simulated devices, written to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["simulate_data"]


def _devices(incomplete: str) -> list[str]:
    from vedette.data.simulate import DEVICES

    return [name for name in (*DEVICES, "mixed") if name.startswith(incomplete)]


def simulate_data(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to; a broken-off one is gone on with.")],
    device: Annotated[
        str, typer.Option("--device", help="Type of the devices; 'mixed' takes all in turn.", autocompletion=_devices)
    ] = "pump",
    nodes: Annotated[int, typer.Option("--nodes", help="How many.")] = 6,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed, other devices.")] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, such as test_hours=24 or nuisances.missing=0.01; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Write simulated devices, healthy in train/, with labelled faults in test/, to Parquet files, and a recipe that reads them.

    Example: vedette data simulate --out valves --device valve --nodes 20 --set nuisances.missing=0.01
    """
    from vedette.cli.show import counting
    from vedette.data.simulate import Simulated
    from vedette.data.simulate.export import write_fleet
    from vedette.settings import assign, assignments, validated

    values: dict[str, Any] = {"device": device, "nodes": nodes}
    for key, value in assignments(changes or [], "nuisances.missing=0.01"):
        assign(Simulated, values, key, value, "--set")
    fleet = validated(Simulated, values, "vedette data simulate")
    with counting(2 * fleet.nodes, "simulating", quiet or as_json) as done:
        recipes = write_fleet(fleet, out, seed, lambda _: done(1))
    files = sorted(out.glob("t*/*.parquet"))
    size = sum(file.stat().st_size for file in files)
    if as_json:
        said = {"schema": "vedette.data-simulate/1", "out": str(out), "nodes": fleet.nodes, "files": len(files), "bytes": size}
        typer.echo(json.dumps({**said, "recipes": [str(recipe) for recipe in recipes]}, indent=1))
        return
    typer.echo(f"wrote {fleet.nodes:,} devices to {out}: {len(files)} files, {size / 1e6:,.1f} MB")
    for recipe in recipes:
        typer.echo(f"try: vedette run {recipe} --data {out}")
