"""`vedette data list`: which data sets there are, and which are here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["list_data"]


def list_data(
    root: Annotated[Path | None, typer.Option("--data", envvar="VEDETTE_DATA", help="Folder that holds the data sets' folders.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
) -> None:
    """List the data sets: what, licence, source, how to get them, and whether they are here.

    Example: vedette data list --data ~/data
    """
    from vedette.data.datasets import LOADERS

    entries = []
    for name in LOADERS:
        loader = LOADERS[name]
        here = None if not loader.folder else root is not None and loader.is_here(root)
        entries.append(
            {
                "name": name,
                "title": loader.title,
                "licence": loader.licence,
                "source": loader.source,
                "how": loader.how,
                "here": here,
            }
        )
    if as_json:
        typer.echo(json.dumps({"schema": "vedette.data/1", "root": None if root is None else str(root), "data": entries}, indent=1))
        return
    from vedette.cli.show import console, listing

    said = {None: "needs none", True: "yes", False: "no"}
    rows = [[str(e["name"]), str(e["title"]), said[e["here"]], str(e["licence"]), str(e["how"])] for e in entries]  # type: ignore[index]
    console().print(listing(["data set", "what it is", "here?", "licence", "how to get it"], rows))
    if root is None:
        console().print("No data folder was given: use --data FOLDER or set VEDETTE_DATA.")
    elif not root.is_dir():
        console().print(f"The data root '{root}' is no folder (yet).", markup=False)
