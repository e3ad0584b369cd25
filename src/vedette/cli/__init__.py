"""The command line: one file per command."""

from __future__ import annotations

import sys

import typer

from vedette.cli import ack, compare, coordinator, data, explain, export, keys, leak, node, peer, policy, recipes, run, score, watch, worker
from vedette.errors import VedetteError
from vedette.version import __version__

__all__ = ["app", "main"]

STOPPED = 130
GOING_ON = {
    "run": "; the same command with --resume goes on from the last round",
    **dict.fromkeys(("coordinator", "node", "peer"), "; the same command goes on where it was"),
}
"""What is said of a command that was stopped and can go on."""

app = typer.Typer(
    name="vedette",
    help="Anomaly detection for fleets of IoT devices whose data never leave them.",
    epilog="Start with: vedette run demo",
    no_args_is_help=True,
    suggest_commands=False,  # click does
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.add_typer(recipes.app, name="recipes")
app.add_typer(data.app, name="data")
app.command("compare")(compare.compare)
app.command("leak")(leak.leak)
app.command("export")(export.export)
app.command("explain")(explain.explain)
app.command("score")(score.score)
app.command("watch")(watch.watch)
app.command("incidents")(ack.incidents)
app.command("ack")(ack.ack)
app.command("worker")(worker.worker)
app.add_typer(keys.app, name="keys")
app.add_typer(policy.app, name="policy")
app.command("coordinator")(coordinator.coordinator)
app.command("node")(node.node)
app.command("peer")(peer.peer)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vedette {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Say the version and stop.")) -> None:
    pass


def main() -> None:
    """Run the command line; an error that a user can mend is one line, and exit status 2."""
    try:
        app()
    except VedetteError as error:
        typer.echo(f"vedette: {error} [{error.code}]", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer makes an exit of Ctrl-C, and says nothing.
        if isinstance(end, SystemExit) and end.code != STOPPED:
            raise
        typer.echo(f"vedette: stopped{GOING_ON.get(sys.argv[1], '') if len(sys.argv) > 1 else ''}", err=True)
        sys.exit(STOPPED)
