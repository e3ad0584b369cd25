"""`vedette recipes`: what is shipped, and how each is written."""

from __future__ import annotations

import json
from typing import Annotated

import typer

__all__ = ["app", "names"]

app = typer.Typer(invoke_without_command=True, suggest_commands=False)


def names(incomplete: str) -> list[str]:
    """Complete the name of a recipe."""
    from vedette.evaluation.recipe import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


@app.callback()
def list_recipes(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False
) -> None:
    """List the recipes, with their source and the data they need.

    Example: vedette recipes
    """
    if context.invoked_subcommand is not None:
        return
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

    needs = {"table": "your own files", "simulated": "none"}
    rows = [[str(e["name"]), str(e["title"]), needs.get(str(e["data"]), str(e["data"])), str(e["source"])] for e in entries]
    console().print(listing(["recipe", "what it does", "data it needs", "source"], rows))


@app.command("show")
def show_recipe(recipe: Annotated[str, typer.Argument(help="Name of a recipe.", autocompletion=names)]) -> None:
    """Print a recipe as it is written, to start one of your own from.

    Example: vedette recipes show my-data > mine.toml
    """
    from vedette.evaluation.recipe import recipe_text

    typer.echo(recipe_text(recipe), nl=False)
