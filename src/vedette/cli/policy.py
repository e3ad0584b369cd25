"""`vedette policy`: what the owner of a device lets it take part in."""

from __future__ import annotations

from typing import Annotated

import typer

from vedette.cli.mesh import PolicyFile
from vedette.cli.recipes import names

__all__ = ["app"]

app = typer.Typer(
    help="What a device's owner lets it take part in: a policy file to begin with, and a check.",
    no_args_is_help=True,
    suggest_commands=False,
)


@app.command("show")
def show(file: PolicyFile = None) -> None:
    """Print a policy file with all its keys, what each means above it: the careful one, or what a file comes to.

    Example: vedette policy show > pump-3.toml
    """
    from vedette.runtimes.mesh.policy import Policy, commented, read_policy

    typer.echo(commented(Policy() if file is None else read_policy(file)), nl=False)


@app.command("check")
def check(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or the path of a .toml file.", autocompletion=names)],
    file: PolicyFile = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the recipe; repeatable.")] = None,
) -> None:
    """Hold a recipe against a policy, as a device does before it takes part; exit 2 if it would refuse.

    Example: vedette policy check demo --policy pump-3.toml
    """
    from vedette.errors import RecipeError
    from vedette.evaluation.recipe import load_recipe
    from vedette.runtimes.base import plan_of
    from vedette.runtimes.mesh.policy import Policy, read_policy, refusals

    chosen = load_recipe(recipe, changes=changes or [])
    plan = plan_of(chosen.detector, chosen.strategy, 0, chosen.topology, trainer=chosen.trainer)
    objections = refusals(plan, Policy() if file is None else read_policy(file))
    if objections:
        raise RecipeError(f"a device with this policy refuses '{recipe}': {'; '.join(objections)}")
    typer.echo(f"a device with this policy takes part in '{recipe}'")
