"""`vedette compare`: finished runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vedette.evaluation.comparison import Compared

__all__ = ["compare"]


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Folders of finished runs (or recipes that were run into runs/); the first is the bar.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Draw it: a page (NAME.html), or a folder that gets compare.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
) -> None:
    """Set the figures of several runs on the same data side by side, with their differences seed by seed and node by node.

    Example: vedette compare runs/demo runs/demo-fedprox --out compare.html
    """
    from vedette.cli.show import console, listing
    from vedette.evaluation.comparison import FIGURES, compared, read_run
    from vedette.evaluation.report import write_comparison

    read = {place: read_run(place) for place in runs}
    found = compared(read)
    page = None if out is None else out if out.suffix.lower() in (".html", ".htm") else out / "compare.html"
    if page is not None:
        write_comparison(page, read, found)
    if as_json:
        typer.echo(json.dumps({"schema": "vedette.compare/1", "compared": [_plain(each) for each in found]}, indent=1))
        return
    terminal = console()
    for protocol in dict.fromkeys(each.protocol for each in found):
        terminal.print(
            f"{protocol} protocol, test rows; in brackets the difference to {runs[0]}, mean ± deviation over pairs", markup=False
        )
        here = {(each.method, each.run, each.figure): each for each in found if each.protocol == protocol}
        figures = [figure for figure in FIGURES if any(key[2] == figure for key in here)]
        rows = []
        for method in dict.fromkeys(key[0] for key in here):
            for name in (name for name in runs if any(key[:2] == (method, name) for key in here)):
                cells = [_cell(here.get((method, name, figure))) for figure in figures]
                rows.append([method, name, *cells])
        terminal.print(listing(["method", "run", *(FIGURES[figure] for figure in figures)], rows))
    if page is not None:
        terminal.print(f"wrote {page}", soft_wrap=True, markup=False)


def _plain(each: Compared) -> dict[str, object]:
    """Leave out what the means are of: a thousand nodes make a long list, and metrics.json holds it."""
    return {key: value for key, value in each._asdict().items() if key not in ("values", "gaps")}


def _cell(each: Compared | None) -> str:
    if each is None or each.mean is None:
        return "–"
    if each.difference is None:
        return f"{each.mean:.3f}"
    return f"{each.mean:.3f} ({each.difference:+.3f}" + (f" ±{each.spread:.3f})" if each.spread is not None else ")")
