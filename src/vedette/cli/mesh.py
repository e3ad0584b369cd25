"""What the commands of the mesh have in common: the options that say how a device joins, and what is logged."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from vedette.runtimes.base import Plan, Round
    from vedette.runtimes.mesh.identity import DeviceIdentity
    from vedette.runtimes.mesh.learner import Learner
    from vedette.runtimes.mesh.policy import Policy
    from vedette.runtimes.mesh.session import MeshSettings
    from vedette.runtimes.mesh.status import Status
    from vedette.training.task import Work

__all__ = [
    "Connect",
    "Device",
    "Format",
    "Insecure",
    "Keys",
    "Listen",
    "PolicyFile",
    "Quiet",
    "Run",
    "identity_of",
    "log_to_terminal",
    "owner_of",
    "round_told",
    "seen",
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
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Lines instead of the live view, as where the error stream is no terminal.")]

log = logging.getLogger(__name__)

PLAIN = frozenset(vars(logging.makeLogRecord({})))


class _Lines(logging.Formatter):
    """One line a record, with what belongs to it."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        more = {name: value for name, value in vars(record).items() if name not in PLAIN and not name.startswith("_")}
        when = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        level, said = record.levelname.lower(), record.getMessage()
        if self.as_json:
            return json.dumps({"time": when, "level": level, "message": said, **more}, default=str)
        about = ", ".join(f"{name} {', '.join(value) if isinstance(value, list) else value}" for name, value in more.items())
        line = f"{when} {level:7} {said}{f': {about}' if about else ''}"
        # What others said may stand in it: no line of theirs looks like one of ours, and none moves the cursor.
        return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line)


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


def identity_of(keys: Path | None, plan: Plan, coordinator: str) -> DeviceIdentity | None:
    """Return who this device is to others of a run; None without keys."""
    from vedette.runtimes.base import digest
    from vedette.runtimes.mesh.identity import DeviceIdentity

    return None if keys is None else DeviceIdentity(keys, digest(plan), coordinator)


def round_told(form: Literal["text", "json"], quiet: bool) -> Callable[[Round], None]:
    """Return what says what happened in a round: a line, one of the log if that is JSON, or none where the run is drawn instead.

    To be called before that begins: the error stream is then no terminal any more.
    """
    from vedette.cli.live import is_drawn

    drawn = is_drawn(quiet) and sys.stdout.isatty()

    def tell(entry: Round) -> None:
        if form == "json":
            log.info("round over", extra=entry._asdict())
        elif not drawn:
            loss = "" if entry.loss is None else f", loss {entry.loss:.5g}"
            spent = "" if entry.epsilon is None else f", epsilon {entry.epsilon:.3g}"
            typer.echo(f"{entry.stage}: round {entry.number} of {entry.of}{loss}, {(entry.sent + entry.received) / 1e3:,.1f} kB{spent}")

    return tell


@contextmanager
def seen(status: Callable[[], Status], metrics: str | None, quiet: bool) -> Iterator[None]:
    """Let people and Prometheus see how a run goes.

    Parameters
    ----------
    status
        Tells where it stands, from any thread.
    metrics
        ``[HOST:]PORT`` to serve metrics at; None serves none.
    quiet
        Draw nothing.
    """
    from vedette.cli.live import drawing, is_drawn, view

    with ExitStack() as stack:
        if metrics is not None:
            from vedette.cli.metrics import serving
            from vedette.runtimes.mesh.prometheus import MeshCollector

            stack.enter_context(serving(metrics, MeshCollector(status)))
        if is_drawn(quiet):
            stack.enter_context(drawing(lambda width, seconds: view(status(), width, seconds)))
        yield


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
    from vedette.errors import RecipeError
    from vedette.runtimes.mesh.session import MeshSettings
    from vedette.settings import validated

    if (keys is None) == (insecure is None):
        raise RecipeError("say who this is: --keys FOLDER (made by 'vedette keys add'), or --insecure NAME on one machine")
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
