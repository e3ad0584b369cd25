"""`vedette run`: carry an experiment out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vedette.cli.recipes import names
from vedette.cli.workers import Count, Deadline, Least, Memory, Ray, Runtime, workers_of

__all__ = ["run"]


def run(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or the path of a .toml file.", autocompletion=names)],
    root: Annotated[Path | None, typer.Option("--data", envvar="VEDETTE_DATA", help="Folder that holds the data sets' folders.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where results go (runs/RECIPE, or runs/RECIPE-quick, unless given).")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Base seed; run i uses seed + i.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="One seed and few rounds: to see that it works.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Train as long as the paper did, where the recipe stops earlier.")] = False,
    protocol: Annotated[
        str | None, typer.Option("--protocol", metavar="NAME", help="Instead of the recipe's choice; 'both' runs all it has.")
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the recipe; repeatable.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that was interrupted in --out.")] = False,
    runtime: Runtime = "local",
    workers: Count = None,
    least: Least = 1,
    ray: Ray = None,
    deadline: Deadline = None,
    memory: Memory = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json on stdout instead of the table.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Run a recipe: print the table, write report.html, metrics.json and the detectors.

    Example: vedette run nsl-kdd-autoencoder --data ~/data --out results --set strategy.rounds=10
    """
    from vedette.cli.show import console, headline, progress, results
    from vedette.evaluation.folder import RunFolder
    from vedette.evaluation.recipe import load_recipe

    chosen = load_recipe(recipe, quick, changes or [], full)
    protocols = chosen.chosen_protocols(protocol)
    # A look takes nobody's whole results away.
    folder = RunFolder(out or Path("runs") / (f"{chosen.name}-quick" if quick else chosen.name))
    experiment = folder.experiment(chosen, root, seed, protocols, resume, workers_of(runtime, workers, least, ray, deadline, memory))
    with progress(lambda: experiment.steps, quiet or as_json) as (experiment.on_progress, experiment.on_phase):
        result = experiment.run()
    written = folder.store(result)
    if as_json:
        typer.echo(json.dumps(result.run))
        return
    terminal = console()
    for name, table in results(result.run, terminal.width):
        terminal.print(headline(result.run, name), soft_wrap=True, markup=False)
        terminal.print(table)
    if incidents := result.run["incidents"]:
        terminal.print(f"workers failed {len(incidents)} times, and their work was done again: metrics.json says who and why (incidents)")
    for file in written:
        terminal.print(f"wrote {file}", soft_wrap=True, markup=False)
