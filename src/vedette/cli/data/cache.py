"""`vedette data cache`: what was parsed once and kept, and how to be rid of it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(invoke_without_command=True, suggest_commands=False)

Json = Annotated[bool, typer.Option("--json", help="Machine output on stdout.")]


@app.callback()
def show_cache(context: typer.Context, as_json: Json = False) -> None:
    """Say what was parsed once and kept, so that the next load opens it in a moment: where, how many, how large.

    VEDETTE_CACHE names another folder than the user's cache; VEDETTE_CACHE=off keeps nothing.

    Example: vedette data cache
    """
    if context.invoked_subcommand is not None:
        return
    from vedette.data.cache import entries, folder

    at, found = folder(), entries()
    if as_json:
        kept = [{"name": entry.name, "rows": entry.rows, "bytes": entry.size, "path": str(entry.path)} for entry in found]
        size = sum(entry.size for entry in found)
        about = {"schema": "vedette.data-cache/1", "folder": None if at is None else str(at), "bytes": size, "entries": kept}
        typer.echo(json.dumps(about, indent=1))
        return
    from vedette.cli.show import console, listing

    if at is None:
        console().print("The cache is switched off (VEDETTE_CACHE): files are parsed each time.")
        return
    if found:
        rows = [[entry.name, f"{entry.rows:,}", _megabytes(entry.size), entry.path.name] for entry in found]
        console().print(listing(["data set", "rows", "size", "entry"], rows))
    console().print(f"{len(found)} kept in {at}, {_megabytes(sum(entry.size for entry in found))}", soft_wrap=True)


@app.command("clear")
def clear_cache(as_json: Json = False) -> None:
    """Remove all parsed data sets; the files they were read from stay, and so does whatever else lies in the folder.

    Example: vedette data cache clear
    """
    from vedette.data.cache import clear

    gone = clear()
    size = sum(entry.size for entry in gone)
    if as_json:
        typer.echo(json.dumps({"schema": "vedette.data-cache-clear/1", "removed": len(gone), "bytes": size}, indent=1))
    else:
        typer.echo(f"{len(gone)} removed, {_megabytes(size)} freed")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
