"""`vedette data check`: are the files here as they were published?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["check_data"]


def check_data(
    root: Annotated[Path, typer.Argument(envvar="VEDETTE_DATA", help="Folder that holds the data sets' folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
) -> None:
    """Hold every data set that is here against what was published: files by size and checksum, then rows and classes; exit 1 on a fault.

    Example: vedette data check ~/data
    """
    from vedette.data.datasets import LOADERS
    from vedette.data.loading import FileLoader
    from vedette.data.published import fault_of, published
    from vedette.errors import DataMissing, VedetteError

    if not root.is_dir():
        raise DataMissing(f"data root '{root}' is no folder")
    entries: list[dict[str, Any]] = []
    for name in LOADERS:
        loader, known = LOADERS[name], published(name)
        if not loader.folder or not issubclass(loader, FileLoader):
            continue
        there = {path: place for path in loader.official_files if (place := loader.place_of(root, path)) is not None}
        if not there and not (root / loader.folder).is_dir():
            continue
        faults, checked, rows = [], 0, {}
        for path, place in there.items():
            if path in known and known[path].sha256 is not None:
                checked += 1
                fault = fault_of(place, known[path])
                # Some are about under each other's names, and told apart by what they hold.
                if fault is not None and all(fault_of(place, other) is not None for other in known.values() if other.sha256):
                    faults.append(f"{place}: {fault}")
        try:
            rows = {part: len(table) for part, table in loader().load(root).tables.items()}
        except VedetteError as error:
            faults.append(str(error))
        entries.append({"name": name, "rows": rows, "files": len(there), "checksums": checked, "faults": faults})
    if as_json:
        typer.echo(json.dumps({"schema": "vedette.data-check/1", "root": str(root), "data": entries}, indent=1))
    else:
        from vedette.cli.show import console, listing

        head = ["data set", "rows", "official files", "checksums held", "verdict"]
        said = [
            [e["name"], _counts(e["rows"]), str(e["files"]), str(e["checksums"]), "\n".join(e["faults"]) or "as it should be"]
            for e in entries
        ]
        console().print(listing(head, said))
        if not entries:
            console().print(f"No data set lies in {root}; 'vedette data list' says how to get them.")
    if any(entry["faults"] for entry in entries):
        raise typer.Exit(1)


def _counts(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{part} {count:,}" for part, count in rows.items())
