"""`vedette coordinator`: serve a federation to real nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vedette.cli.mesh import Connect, Format, Insecure, Keys, Listen, Quiet, Run
from vedette.cli.metrics import Metrics
from vedette.cli.recipes import names

__all__ = ["coordinator"]


def coordinator(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or the path of a .toml file: what is learned.", autocompletion=names)],
    listen: Listen = None,
    connect: Connect = None,
    keys: Keys = None,
    insecure: Insecure = None,
    run: Run = "fleet",
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Begin when so many nodes are there.")] = 1,
    quorum: Annotated[float, typer.Option("--quorum", min=0, max=1, help="Share of the nodes that must have answered at the deadline.")] = 2
    / 3,
    deadline: Annotated[float, typer.Option("--deadline", min=0.1, help="Seconds a phase waits for nodes that are there.")] = 60.0,
    grace: Annotated[float, typer.Option("--grace", min=0, help="Seconds to wait for a node that is gone; it may come back.")] = 10.0,
    discount: Annotated[
        float, typer.Option("--discount", min=0, max=1, help="Weight of an answer for each round it is late; 0 leaves late ones out.")
    ] = 0.0,
    precision: Annotated[
        Literal["float32", "float16"], typer.Option("--precision", help="What parameters are sent to nodes in: float16 is half the bytes.")
    ] = "float32",
    linger: Annotated[float, typer.Option("--linger", min=0, help="Seconds after the end in which late nodes may still end too.")] = 10.0,
    out: Annotated[Path | None, typer.Option("--out", help="Where the state is kept (runs/mesh/RUN unless given).")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Root of all that is drawn.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Few rounds: to see that it works.")] = False,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the recipe; repeatable.")] = None,
    metrics: Metrics = None,
    log: Format = "text",
    quiet: Quiet = False,
) -> None:
    """Lead a federation of nodes that come and go; begun again in the same folder it goes on where it was.

    Example: vedette coordinator demo --keys devices/coordinator --listen 0.0.0.0:7447 --nodes 5
    """
    import json

    from vedette.cli.mesh import identity_of, log_to_terminal, round_told, seen, settings_of
    from vedette.evaluation.recipe import load_recipe
    from vedette.files import write_atomic
    from vedette.runtimes.base import plan_of
    from vedette.runtimes.mesh.coordinator import Coordinator
    from vedette.runtimes.mesh.keys import credentials
    from vedette.runtimes.mesh.lead import Lead, Quorum
    from vedette.runtimes.mesh.session import open_session

    log_to_terminal(log)
    chosen = load_recipe(recipe, quick, changes or [])
    plan = plan_of(chosen.detector, chosen.strategy, seed, trainer=chosen.trainer)
    folder = out or Path("runs") / "mesh" / run

    settings = settings_of(keys, insecure, listen, connect, insecure or ("" if keys is None else credentials(keys).name))
    identity = identity_of(keys, plan, settings.coordinator)
    lead = Lead(plan, Quorum(nodes, quorum, deadline, grace, discount), folder / "coordinator.state", round_told(log, quiet), identity)
    session, name = open_session(settings)
    try:
        mesh = Coordinator(plan, lead, session, name, run, precision=precision, linger=linger)
        with seen(mesh.status, metrics, quiet):
            mesh.serve()
    finally:
        session.close()  # type: ignore[no-untyped-call]
    history = [entry._asdict() for entry in lead.state.history]
    write_atomic(folder / "history.json", json.dumps({"schema": "vedette.history/1", "plan": plan, "history": history}, indent=1) + "\n")
    typer.echo(f"wrote {folder / 'history.json'}")
