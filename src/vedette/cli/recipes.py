"""`vedette recipes`: what is shipped."""

from __future__ import annotations

import json
from typing import Annotated

import typer

__all__ = ["recipes"]


def recipes(as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False) -> None:
    """List the recipes, with their source and the data they need.

    Example: vedette recipes
    """
    from vedette.data.datasets import LOADERS
    from vedette.evaluation.recipe import load_recipe, recipe_names
    from vedette.settings import describe

    found = [load_recipe(name) for name in recipe_names()]
    entries = [
        {
            "name": recipe.name,
            "title": recipe.title,
            "source": recipe.source,
            "data": describe(LOADERS, recipe.data)["name"],
            "needs_download": bool(recipe.data.folder),
            "protocols": list(recipe.protocols),
            "seeds": recipe.seeds,
        }
        for recipe in found
    ]
    if as_json:
        typer.echo(json.dumps({"schema": "vedette.recipes/1", "recipes": entries}, indent=1))
        return
    from vedette.cli.show import console, listing

    rows = [[str(e["name"]), str(e["title"]), str(e["data"]) if e["needs_download"] else "none", str(e["source"])] for e in entries]
    console().print(listing(["recipe", "what it does", "data it needs", "source"], rows))
