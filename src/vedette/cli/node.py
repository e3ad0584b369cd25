"""`vedette node`: join a federation with the rows of this device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vedette.cli.mesh import Connect, Device, Format, Insecure, Keys, PolicyFile, Quiet, Run
from vedette.cli.metrics import Metrics
from vedette.cli.recipes import names

__all__ = ["node"]


def node(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Recipe whose [data] tell where this device's rows are; the rest of it is not looked at.", autocompletion=names
        ),
    ],
    connect: Connect = None,
    keys: Keys = None,
    insecure: Insecure = None,
    coordinator: Annotated[str, typer.Option("--coordinator", help="Name of the coordinator, as its certificate says.")] = "coordinator",
    run: Run = "fleet",
    device: Device = None,
    policy: PolicyFile = None,
    root: Annotated[Path | None, typer.Option("--data", envvar="VEDETTE_DATA", help="Folder that holds the data sets' folders.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where state and detector are kept (runs/mesh/RUN/NAME unless given).")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of simulated rows and random splits.")] = 0,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the recipe; repeatable.")] = None,
    metrics: Metrics = None,
    log: Format = "text",
    quiet: Quiet = False,
) -> None:
    """Learn with others what this device's rows teach, which never leave it; begun again in the same folder it goes on where it was.

    Example: vedette node my-plant.toml --keys devices/pump-3 --connect 192.168.1.10:7447 --data ~/plant
    """
    from vedette.cli.mesh import identity_of, log_to_terminal, owner_of, round_told, seen, settings_of, store
    from vedette.errors import RecipeError
    from vedette.evaluation.recipe import load_recipe
    from vedette.evaluation.setting import rows_of
    from vedette.runtimes.mesh.learner import Learner
    from vedette.runtimes.mesh.node import Node
    from vedette.runtimes.mesh.session import open_session

    log_to_terminal(log)
    tell = round_told(log, quiet)
    owner = owner_of(policy)
    session, name = open_session(settings_of(keys, insecure, None, connect, coordinator))
    try:
        train, calibration = rows_of(load_recipe(recipe, changes=changes or []), root, seed, device or name)
        mesh = Node(session, name, coordinator, run)
        with seen(mesh.status, metrics, quiet):
            plan = mesh.plan()
            folder = out or Path("runs") / "mesh" / run / name
            try:
                owner.demand(plan, name)
                identity = identity_of(keys, plan, coordinator)
                learner = Learner(plan, name, train, calibration, folder / "node.state", owner.objection, identity)
                mesh.carry_out(learner, plan, tell)
            except RecipeError as error:
                mesh.refuse(str(error))
                raise
    finally:
        session.close()  # type: ignore[no-untyped-call]
    store(learner, folder, run)
