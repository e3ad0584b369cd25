"""The options that say who does the work, alike for all commands that have any to share out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from vedette.runtimes.workers import Workers

__all__ = ["Count", "Deadline", "Least", "Memory", "Ray", "Runtime", "workers_of"]

Runtime = Annotated[
    Literal["local", "cluster"], typer.Option("--runtime", help="local: this process leads and may work; cluster: it only leads.")
]
Count = Annotated[
    int | None, typer.Option("--workers", min=0, help="Processes that work; 0: one for each core (cluster, unless given). Same results.")
]
Least = Annotated[int, typer.Option("--min-workers", min=1, help="Stop if fewer are left.")]
Ray = Annotated[str | None, typer.Option("--ray", metavar="auto|ADDRESS", help="Workers of this Ray cluster, not of this machine alone.")]
Deadline = Annotated[
    float | None,
    typer.Option("--deadline", metavar="SECONDS", help="Most that a unit of work may take; unless given, 60 without a sign of life."),
]
Memory = Annotated[float | None, typer.Option("--worker-memory", metavar="GB", help="Address space of each worker process.")]


def workers_of(
    runtime: Literal["local", "cluster"], count: int | None, least: int, ray: str | None, deadline: float | None, memory: float | None
) -> Workers:
    """Return the workers that options ask for; what goes wrong with them is said on the error stream as it happens.

    Raises
    ------
    RecipeError
        Options that do not go together.
    """
    from vedette.runtimes.workers import Workers

    found = (0 if runtime == "cluster" else 1) if count is None else count
    room = None if memory is None else int(memory * 1e9)
    return Workers(found, runtime, ray, least, deadline, room, lambda incident: typer.echo(f"vedette: {incident}", err=True))
