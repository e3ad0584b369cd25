"""`vedette peer`: learn with others without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vedette.cli.mesh import Connect, Device, Format, Insecure, Keys, Listen, PolicyFile, Quiet, Run
from vedette.cli.metrics import Metrics
from vedette.cli.recipes import names

__all__ = ["peer"]


def peer(
    recipe: Annotated[
        str, typer.Argument(help="Name of a recipe, or the path of a .toml file, the same at all peers.", autocompletion=names)
    ],
    peers: Annotated[str, typer.Option("--peers", metavar="A,B,C", help="Names of all peers, this one among them.")],
    listen: Listen = None,
    connect: Connect = None,
    keys: Keys = None,
    insecure: Insecure = None,
    run: Run = "fleet",
    nodes: Annotated[int | None, typer.Option("--nodes", min=1, help="Begin when so many peers are there; all unless given.")] = None,
    deadline: Annotated[float, typer.Option("--deadline", min=0.1, help="Seconds to wait for a neighbour that is there.")] = 60.0,
    grace: Annotated[float, typer.Option("--grace", min=0, help="Seconds to wait for a neighbour that is gone.")] = 10.0,
    device: Device = None,
    policy: PolicyFile = None,
    root: Annotated[Path | None, typer.Option("--data", envvar="VEDETTE_DATA", help="Folder that holds the data sets' folders.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where state and detector are kept (runs/mesh/RUN/NAME unless given).")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Root of all that is drawn, the same at all peers.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Few rounds: to see that it works.")] = False,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the recipe; repeatable.")] = None,
    metrics: Metrics = None,
    log: Format = "text",
    quiet: Quiet = False,
) -> None:
    """Learn among peers, each with the rows of its own; begun again in the same folder it goes on where it was.

    Example: vedette peer my-plant.toml --peers pump-1,pump-2,pump-3 --keys devices/pump-1 --listen 0.0.0.0:7447
    """
    from vedette.cli.mesh import log_to_terminal, owner_of, round_told, seen, settings_of, store
    from vedette.evaluation.recipe import load_recipe
    from vedette.evaluation.setting import rows_of
    from vedette.runtimes.base import plan_of
    from vedette.runtimes.mesh.lead import Quorum
    from vedette.runtimes.mesh.learner import Learner
    from vedette.runtimes.mesh.peer import Peer
    from vedette.runtimes.mesh.session import open_session

    log_to_terminal(log)
    chosen, everybody = load_recipe(recipe, quick, changes or []), [name.strip() for name in peers.split(",") if name.strip()]
    plan = plan_of(chosen.detector, chosen.strategy, seed, chosen.topology, trainer=chosen.trainer)
    owner = owner_of(policy)
    session, name = open_session(settings_of(keys, insecure, listen, connect))
    try:
        owner.demand(plan, name)
        train, calibration = rows_of(chosen, root, seed, device or name)
        folder = out or Path("runs") / "mesh" / run / name
        learner = Learner(plan, name, train, calibration, folder / "node.state", owner.objection)
        quorum = Quorum(nodes or len(everybody), deadline=deadline, grace=grace)
        mesh = Peer(plan, learner, session, run, everybody, quorum, folder / "peer.state", round_told(log, quiet))
        with seen(mesh.status, metrics, quiet):
            mesh.carry_out()
    finally:
        session.close()  # type: ignore[no-untyped-call]
    store(learner, folder, run)
