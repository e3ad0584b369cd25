"""`vedette leak`: how much of a figure is owed to the way rows were split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vedette.cli.recipes import names

if TYPE_CHECKING:
    from vedette.evaluation.leak import Leak

__all__ = ["leak"]


def leak(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or the path of a .toml file.", autocompletion=names)],
    root: Annotated[Path | None, typer.Option("--data", envvar="VEDETTE_DATA", help="Folder that holds the data sets' folders.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="What is compared (federated unless given); repeatable.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Base seed; run i uses seed + i.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="One seed and few rounds.")] = False,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the recipe; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write report.html and metrics.json here too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Train the same detector under random, temporal and grouped splits of the same rows, and say what the random one gives for free.

    Example: vedette leak skab-anomaly --data ~/data --quick --set detector.threshold.fit=federated --out leak
    """
    from vedette.cli.show import console, listing, progress
    from vedette.evaluation.experiment import Experiment
    from vedette.evaluation.leak import FIGURES, SPLITS, leak_recipe, leaks_of, with_leaks
    from vedette.evaluation.recipe import load_recipe
    from vedette.evaluation.report import write_report
    from vedette.files import write_atomic

    chosen = load_recipe(recipe, quick, changes or [])
    dataset = chosen.data.load(root, seed)
    metered = leak_recipe(chosen, dataset, tuple(method or ["federated"]))
    experiment = Experiment(metered, root, seed, metered.chosen_protocols("both"), dataset=dataset)
    with progress(lambda: experiment.steps, quiet or as_json) as (experiment.on_progress, experiment.on_phase):
        result = experiment.run()
    leaks, written = leaks_of(result.run), list[Path]()
    if out is not None:
        run, written = with_leaks(result.run), [out / "report.html", out / "metrics.json"]
        write_report(written[0], run, result.curves, result.traces, result.holdings, result.tradeoffs)
        write_atomic(written[1], json.dumps(run, indent=1))
    if as_json:
        typer.echo(json.dumps({"schema": "vedette.leak/1", "recipe": chosen.name, "leaks": [each._asdict() for each in leaks]}, indent=1))
        return
    terminal = console()
    seeds = "one seed" if len(result.run["seeds"]) == 1 else f"{len(result.run['seeds'])} seeds"
    for one in dict.fromkeys(each.method for each in leaks):
        terminal.print(f"{chosen.name}, {one}: the same rows, split differently ({seeds})", markup=False)
        rows = []
        for split in dict.fromkeys(each.split for each in leaks):
            cells = [_cell(next(e for e in leaks if (e.method, e.split, e.figure) == (one, split, figure))) for figure in FIGURES]
            rows.append([split, *cells, SPLITS[split]])
        terminal.print(listing(["split", *(f"{name} (random is higher by)" for name in FIGURES.values()), "held out"], rows))
    for file in written:
        terminal.print(f"wrote {file}", soft_wrap=True, markup=False)


def _cell(each: Leak) -> str:
    if each.mean is None:
        return "–"
    spread = "" if each.spread is None else f" ±{each.spread:.3f}"
    return f"{each.mean:.3f}{spread}" + ("" if each.gap is None else f" ({each.gap:+.3f})")
