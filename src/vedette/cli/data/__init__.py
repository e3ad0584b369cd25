"""`vedette data`: which data sets there are, and which are here; one file per command."""

from __future__ import annotations

import typer

from vedette.cli.data.cache import app as cache_app
from vedette.cli.data.check import check_data
from vedette.cli.data.fetch import fetch_data
from vedette.cli.data.list import list_data
from vedette.cli.data.simulate import simulate_data

__all__ = ["app"]

app = typer.Typer(help="Which data sets there are, where they come from, how to get them.", no_args_is_help=True, suggest_commands=False)
app.command("list")(list_data)
app.command("check")(check_data)
app.command("fetch")(fetch_data)
app.command("simulate")(simulate_data)
app.add_typer(cache_app, name="cache")


@app.callback()
def _data() -> None:
    pass
