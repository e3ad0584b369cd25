"""`vedette data fetch`: official files, checked; or the steps a person must take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["fetch_data"]


def _names(incomplete: str) -> list[str]:
    from vedette.data.datasets import LOADERS

    return [name for name in LOADERS if LOADERS[name].folder and name.startswith(incomplete)]


def fetch_data(
    name: Annotated[str, typer.Argument(help="Name of a data set ('vedette data list').", autocompletion=_names)],
    root: Annotated[Path | None, typer.Option("--data", envvar="VEDETTE_DATA", help="Folder that holds the data sets' folders.")] = None,
    mirror: Annotated[str | None, typer.Option("--from", help="Address or folder that holds the same files; checksums still hold.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Fetch a data set's official files and check them; a broken-off one is gone on with.

    For those that may not be fetched by a command it prints the steps a person must take (exit 1 until they are done).

    Example: vedette data fetch nsl-kdd --data ~/data
    """
    from vedette.cli.show import fetching
    from vedette.data.datasets import LOADERS
    from vedette.data.fetch import fetch
    from vedette.data.loading import FileLoader
    from vedette.data.published import published, steps_of
    from vedette.errors import DataMissing

    loader = LOADERS[name]
    if not loader.folder or not issubclass(loader, FileLoader):
        raise DataMissing(f"'{name}' is no published data set: {loader.how}")
    if root is None:
        raise DataMissing("no data folder was given: use --data FOLDER or set VEDETTE_DATA")
    steps = [] if mirror is not None or loader.is_here(root) else steps_of(name, root / loader.folder)
    if steps:
        steps.append(f"Then: vedette data check {root}")
        if as_json:
            typer.echo(json.dumps({"schema": "vedette.data-fetch/1", "name": name, "steps": steps, "files": []}, indent=1))
        else:
            typer.echo(f"{loader.title} ({loader.licence}): no command may fetch it. What to do:")
            typer.echo("\n".join(f"{number:>3}. {step}" for number, step in enumerate(steps, start=1)))
        raise typer.Exit(1)
    manual = mirror is None and not any(file.url for file in published(name).values())
    files = []
    if not manual:
        with fetching(quiet or as_json) as on_bytes:
            for file in fetch(name, loader, root, mirror, on_bytes):
                files.append({"path": str(file.path), "new": file.new, "checked": file.checked, "sha256": file.sha256})
    if as_json:
        typer.echo(json.dumps({"schema": "vedette.data-fetch/1", "name": name, "steps": [], "files": files}, indent=1))
        return
    new, unchecked = sum(bool(file["new"]) for file in files), [str(file["path"]) for file in files if not file["checked"]]
    there = "all that is needed was here" if manual else f"{new} files fetched, {len(files) - new} were here"
    typer.echo(f"{name}: {there}, in {root / loader.folder}")
    if unchecked:
        typer.echo(f"{len(unchecked)} of them have no published checksum; 'vedette data check {root}' counts their rows")
    noted = [f"{file['sha256']}  {file['path']}" for file in files if file["new"] and file["sha256"]]
    if noted:
        typer.echo("\n".join(["their SHA-256, noted in SHA256SUMS; a file that differs later is refused:", *noted]))
    if loader.licence:
        typer.echo(f"licence: {loader.licence}")
