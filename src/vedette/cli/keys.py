"""`vedette keys`: the certificates by which a fleet's devices know each other."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = ["app"]

app = typer.Typer(
    help="A fleet's certificate authority, and a key and certificate for each of its devices.", no_args_is_help=True, suggest_commands=False
)

Folder: TypeAlias = Annotated[Path, typer.Argument(help="The fleet's folder. It holds the authority's key: keep it to yourself.")]
Names: TypeAlias = Annotated[list[str], typer.Argument(metavar="NAME...", help="Devices: letters, digits, '-' and '_'.")]
Days: TypeAlias = Annotated[float, typer.Option("--days", min=1, help="How long the certificates hold.")]


@app.command("init")
def init(folder: Folder, days: Days = 3650) -> None:
    """Make a fleet's certificate authority.

    Example: vedette keys init plant
    """
    from vedette.runtimes.mesh import keys

    keys.init(folder, days)
    typer.echo(f"{folder} has an authority; 'vedette keys add {folder} NAME...' makes its devices")


@app.command("add")
def add(folder: Folder, names: Names, days: Days = 365) -> None:
    """Make a key and a certificate for each new device; the coordinator is one of them.

    Example: vedette keys add plant coordinator pi-1 pi-2
    """
    from vedette.runtimes.mesh import keys

    _told(keys.add(folder, names, days), folder)


@app.command("renew")
def renew(folder: Folder, names: Names, days: Days = 365) -> None:
    """Make devices a new key and certificate before the old one ends.

    Example: vedette keys renew plant pi-1
    """
    from vedette.runtimes.mesh import keys

    _told(keys.renew(folder, names, days), folder)


@app.command("revoke")
def revoke(folder: Folder, names: Names) -> None:
    """Shut devices out for good: lost, stolen or taken out of service.

    Example: vedette keys revoke plant pi-2
    """
    from vedette.runtimes.mesh import keys

    for name in names:
        keys.revoke(folder, name)
    typer.echo(
        f"copy {folder / 'roster.json'} to the coordinator (to every device, among peers) and start it again: until then nothing changes"
    )


@app.command("list")
def list_devices(folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False) -> None:
    """List a fleet's devices: until when their certificates hold, and which were revoked.

    Example: vedette keys list plant
    """
    from vedette.runtimes.mesh import keys

    devices = keys.roster(folder)
    if as_json:
        found = {name: device.model_dump(mode="json") for name, device in devices.items()}
        typer.echo(json.dumps({"schema": "vedette.keys/1", "devices": found}, indent=1))
        return
    from vedette.cli.show import console, listing

    now = datetime.now(UTC)
    rows = [
        [name, f"{d.expires:%Y-%m-%d}", f"revoked {d.revoked:%Y-%m-%d}" if d.revoked else "ended" if d.expires <= now else "holds"]
        for name, d in devices.items()
    ]
    console().print(listing(["device", "certificate ends", "state"], rows))


def _told(made: Iterable[Path], folder: Path) -> None:
    for device in made:
        typer.echo(f"{device}: copy this folder to the device, whole, and keep no copy here")
    typer.echo(f"devices that have theirs need the new {folder / 'roster.json'} to know these names, and a new start")
