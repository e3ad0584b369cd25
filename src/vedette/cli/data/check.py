"""`vedette data check`: are the files here as they were published?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["check_data"]


def check_data(
    root: Annotated[Path, typer.Argument(envvar="VEDETTE_DATA", help="Folder that holds the data sets' folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
) -> None:
    """Read every data set that is here and hold it against what was published; exit 1 if one is not as it should be.

    Example: vedette data check ~/data
    """
    from vedette.data.datasets import LOADERS
    from vedette.errors import DataMissing, VedetteError

    if not root.is_dir():
        raise DataMissing(f"data root '{root}' is no folder")
    entries = []
    for name in LOADERS:
        if not LOADERS[name].folder or not (root / LOADERS[name].folder).is_dir():
            continue
        try:
            tables = LOADERS[name]().load(root).tables
            rows = {part: len(table) for part, table in tables.items()}
            entries.append({"name": name, "rows": rows, "fault": None})
        except VedetteError as error:
            entries.append({"name": name, "rows": {}, "fault": str(error)})
    if as_json:
        typer.echo(json.dumps({"schema": "vedette.data-check/1", "root": str(root), "data": entries}, indent=1))
    else:
        from vedette.cli.show import console, listing

        said = [[str(e["name"]), _counts(e["rows"]), str(e["fault"] or "as it should be")] for e in entries]
        console().print(listing(["data set", "rows", "verdict"], said))
        if not entries:
            console().print(f"No data set lies in {root}; 'vedette data list' says how to get them.")
    if any(entry["fault"] for entry in entries):
        raise typer.Exit(1)


def _counts(rows: object) -> str:
    return ", ".join(f"{part} {count:,}" for part, count in rows.items()) if isinstance(rows, dict) else ""
