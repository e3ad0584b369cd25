"""What the commands of the mesh have in common: the options that say how a device joins, and what is logged."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from vedette.runtimes.base import Plan, Round
    from vedette.runtimes.mesh.learner import Learner
    from vedette.runtimes.mesh.policy import Policy
    from vedette.runtimes.mesh.session import MeshSettings
    from vedette.training.task import Work

__all__ = [
    "Connect",
    "Device",
    "Format",
    "Insecure",
    "Keys",
    "Listen",
    "PolicyFile",
    "Run",
    "log_to_terminal",
    "owner_of",
    "round_told",
    "settings_of",
    "store",
]

Keys = Annotated[Path | None, typer.Option("--keys", help="This device's folder, made by 'vedette keys add'; its certificate names it.")]
Insecure = Annotated[
    str | None, typer.Option("--insecure", metavar="NAME", help="No keys and no encryption, called NAME: on this machine only.")
]
Listen = Annotated[list[str] | None, typer.Option("--listen", metavar="HOST:PORT", help="Where to be reached; repeatable.")]
Connect = Annotated[list[str] | None, typer.Option("--connect", metavar="HOST:PORT", help="Anyone already there; repeatable.")]
Run = Annotated[str, typer.Option("--run", help="Name of the federation, the same at all its devices.")]
Device = Annotated[str | None, typer.Option("--device", help="Which of the recipe's nodes this is; its own name unless given.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="What this device takes part in (TOML); a careful one unless given.")]
Format = Annotated[Literal["text", "json"], typer.Option("--log", help="How the log is written, on the error stream.")]

PLAIN = frozenset(vars(logging.makeLogRecord({})))


class _Lines(logging.Formatter):
    """One line a record, with what belongs to it."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        more = {name: value for name, value in vars(record).items() if name not in PLAIN}
        when, level, said = self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), record.levelname.lower(), record.getMessage()
        if self.as_json:
            return json.dumps({"time": when, "level": level, "message": said, **more}, default=str)
        about = ", ".join(f"{name} {value}" for name, value in more.items())
        return f"{when} {level:7} {said}{f': {about}' if about else ''}"


def log_to_terminal(form: Literal["text", "json"]) -> None:
    """Write what Vedette logs to the error stream."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(form == "json"))
    log = logging.getLogger("vedette")
    log.addHandler(handler)
    log.setLevel(logging.INFO)


class _Owner:
    """The owner of a device, by the policy there."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def demand(self, plan: Plan, name: str) -> None:
        """Refuse a plan aloud that asks for more than the policy allows.

        Raises
        ------
        RecipeError
            It does.
        """
        from vedette.errors import RecipeError
        from vedette.runtimes.mesh.policy import refusals

        objections = refusals(plan, self.policy)
        if objections:
            raise RecipeError(f"node '{name}' does not take part: {'; '.join(objections)}")

    def objection(self, work: Work) -> str | None:
        """Say what there is against a work, or None."""
        from vedette.runtimes.mesh.policy import refuses

        return refuses(work, self.policy)


def owner_of(policy: Path | None) -> _Owner:
    """Return who decides what this device takes part in."""
    from vedette.runtimes.mesh.policy import Policy, read_policy

    return _Owner(Policy() if policy is None else read_policy(policy))


def round_told(entry: Round) -> None:
    """Say what happened in a round."""
    loss = "" if entry.loss is None else f", loss {entry.loss:.5g}"
    typer.echo(f"{entry.stage}: round {entry.number} of {entry.of}{loss}, {(entry.sent + entry.received) / 1e3:,.1f} kB")


def store(learner: Learner, folder: Path, run: str) -> None:
    """Write what a node has learned as a bundle."""
    from vedette.detectors.bundle import save_bundle

    save_bundle(learner.run.detector.restored(learner.memory), folder / "detector", {"run": run, "node": learner.node})
    typer.echo(f"wrote {folder / 'detector'}")


def settings_of(
    keys: Path | None,
    insecure: str | None,
    listen: list[str] | None,
    connect: list[str] | None,
    coordinator: str = "",
) -> MeshSettings:
    """Return how to join, by the options.

    Raises
    ------
    RecipeError
        Options that do not go together.
    """
    from vedette.runtimes.mesh.session import MeshSettings
    from vedette.settings import validated

    said: dict[str, object] = {
        "credentials": None if keys is None else str(keys),
        "insecure": insecure is not None,
        "name": insecure or "",
        "coordinator": coordinator,
        "connect": connect or [],
    }
    if listen is not None or coordinator:
        # Peers link to each other, so each listens somewhere; a node beside a coordinator need not be reached.
        said["listen"] = listen or []
    return validated(MeshSettings, said, "options")
