"""A fleet's certificate authority, and what each device holds of it.

::

    FOLDER/authority.key             stays where it is: who has it makes devices
    FOLDER/authority.pem             the authority's certificate
    FOLDER/roster.json               every device: until when its certificate holds, and whether it was revoked
    FOLDER/devices/NAME/             copied to the device, whole:
        device.key  device.pem  authority.pem  roster.json

Zenoh checks no revocation list. A revoked *name* is shut out instead, by whoever has the new `roster.json` and opened its session since: it
may still link, but is neither heard nor told anything (`vedette.runtimes.mesh.rules`). So a revoked name is never given out again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vedette.errors import KeysError, VedetteError
from vedette.files import write_atomic
from vedette.registry import suggestion
from vedette.runtimes.mesh.certificates import certify, issued, name_of, new_key, read_certificate, read_key, write_pair
from vedette.runtimes.mesh.rules import check_name
from vedette.settings import Settings, validated

__all__ = ["AUTHORITY_DAYS", "DEVICE_DAYS", "Credentials", "Device", "add", "credentials", "init", "renew", "revoke", "roster"]

AUTHORITY_DAYS, DEVICE_DAYS = 3650, 365
"""How long certificates hold unless it is said."""

SCHEMA = "vedette.roster/1"

AUTHORITY = "vedette authority"
"""The authority's name; no device can have it, because of the space."""


class Device(Settings):
    """A line of the roster.

    Attributes
    ----------
    expires
        When its certificate ends.
    revoked
        Since when it is shut out; None: it is not.
    """

    expires: datetime
    revoked: datetime | None = None


@dataclass(frozen=True)
class Credentials:
    """What a device proves its name with.

    Attributes
    ----------
    folder
        Holds ``device.key``, ``device.pem``, ``authority.pem`` and ``roster.json``.
    name
        As its certificate says.
    others
        Names of all other devices that are not revoked.
    """

    folder: Path
    name: str
    others: tuple[str, ...]


def init(folder: Path, days: float = AUTHORITY_DAYS) -> None:
    """Make a fleet's authority.

    Parameters
    ----------
    folder
        Where; it stays secret.
    days
        How long its certificate holds, and with it every device's.

    Raises
    ------
    KeysError
        There is one already: another would make every device a stranger.
    """
    if (folder / "authority.key").exists():
        raise KeysError(f"{folder} has an authority already; 'vedette keys add' makes its devices")
    key = new_key()
    authority = certify(AUTHORITY, key, days, None)
    _write_roster(folder, {})
    write_pair(folder / "authority", authority, key)


def add(folder: Path, names: Sequence[str], days: float = DEVICE_DAYS) -> list[Path]:
    """Make a key and a certificate for each of some new devices; the roster of all devices says so.

    Parameters
    ----------
    folder
        The authority's.
    names
        Of the devices.
    days
        How long their certificates hold.

    Returns
    -------
    list[Path]
        The folder to copy to each device.

    Raises
    ------
    KeysError
        A name that is none, is taken or was revoked; or the authority ends sooner.
    """
    known = {name.casefold(): name for name in roster(folder)}
    for name in map(check_name, names):
        if name.casefold() in known:
            raise KeysError(
                f"{folder} has a device '{known[name.casefold()]}' already; 'vedette keys renew' makes it a new key, "
                "a revoked name is never given out again"
            )
        known[name.casefold()] = name
    return _make(folder, names, days)


def renew(folder: Path, names: Sequence[str], days: float = DEVICE_DAYS) -> list[Path]:
    """Make a new key and certificate for devices that have one; the old ones hold until they end.

    Parameters
    ----------
    folder, names, days
        See `add`.

    Returns
    -------
    list[Path]
        See `add`.

    Raises
    ------
    KeysError
        A name that nobody has or that was revoked; or the authority ends sooner.
    """
    devices = roster(folder)
    for name in names:
        if _known(devices, name, folder).revoked:
            raise KeysError(f"device '{name}' of {folder} was revoked; give it a new name with 'vedette keys add'")
    return _make(folder, names, days)


def revoke(folder: Path, name: str) -> None:
    """Shut a device out, from when the others have the new roster and open their sessions.

    Parameters
    ----------
    folder
        The authority's.
    name
        Of the device.

    Raises
    ------
    KeysError
        Nobody has that name.
    """
    devices = roster(folder)
    device = _known(devices, name, folder)
    if device.revoked is None:
        _write_roster(folder, {**devices, name: Device(expires=device.expires, revoked=datetime.now(UTC).replace(microsecond=0))})


def roster(folder: Path) -> dict[str, Device]:
    """Read the devices of a fleet, from the authority's folder or a device's.

    Raises
    ------
    KeysError
        There is no roster, or it is damaged.
    """
    path = folder / "roster.json"
    try:
        said = json.loads(path.read_bytes())
        if said["schema"] != SCHEMA:
            raise ValueError(f"it is not {SCHEMA}")
        return {check_name(name): validated(Device, device, f"device '{name}'") for name, device in said["devices"].items()}
    except FileNotFoundError:
        raise KeysError(
            f"{folder} has no roster.json; 'vedette keys init' makes a fleet's folder, 'vedette keys add' its devices"
        ) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, VedetteError) as error:
        raise KeysError(f"cannot read {path}: {error}; copy it anew from the authority's folder") from None


def credentials(folder: Path) -> Credentials:
    """Read what a device proves its name with, and see that it still holds.

    Parameters
    ----------
    folder
        The device's.

    Raises
    ------
    KeysError
        Something is missing, others can read the key, the certificate is not the key's or not the authority's, or it has ended; or the
        device is not in the roster, or was revoked.
    MissingExtra
        ``cryptography`` is not installed.
    """
    own, authority = read_certificate(folder / "device.pem"), read_certificate(folder / "authority.pem")
    if own.public_key() != read_key(folder / "device.key").public_key():
        raise KeysError(f"the key and the certificate in {folder} do not belong together; copy the device's folder anew, whole")
    if not issued(own, authority):
        raise KeysError(f"the certificate in {folder} is of another authority than authority.pem; copy the device's folder anew, whole")
    begin, end, now = own.not_valid_before_utc, own.not_valid_after_utc, datetime.now(UTC)
    if not begin <= now < end:
        raise KeysError(
            f"the certificate in {folder} holds from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC and this machine's clock says "
            f"{now:%Y-%m-%d %H:%M}: 'vedette keys renew' makes a new one"
        )
    name, devices = name_of(own), roster(folder)
    if _known(devices, name, folder).revoked:
        raise KeysError(f"device '{name}' ({folder}) was revoked; give it a new name with 'vedette keys add'")
    return Credentials(folder, name, tuple(other for other in devices if other != name and not devices[other].revoked))


def _make(folder: Path, names: Sequence[str], days: float) -> list[Path]:
    """Write devices' keys and certificates, then the roster."""
    authority = read_certificate(folder / "authority.pem"), read_key(folder / "authority.key")
    devices = roster(folder)
    for name in names:
        key = new_key()
        certificate = certify(name, key, days, authority)
        write_pair(folder / "devices" / name / "device", certificate, key)
        write_atomic(folder / "devices" / name / "authority.pem", (folder / "authority.pem").read_bytes())
        devices[name] = Device(expires=certificate.not_valid_after_utc)
    _write_roster(folder, devices)
    return [folder / "devices" / name for name in names]


def _write_roster(folder: Path, devices: Mapping[str, Device]) -> None:
    """Write the roster, for the authority and for every device whose folder is still there."""
    said = {"schema": SCHEMA, "devices": {name: devices[name].model_dump(mode="json") for name in sorted(devices)}}
    for place in (folder, *sorted(folder.glob("devices/*"))):
        write_atomic(place / "roster.json", json.dumps(said, indent=1) + "\n")


def _known(devices: Mapping[str, Device], name: str, folder: Path) -> Device:
    if name not in devices:
        raise KeysError(f"nobody is called '{name}' in the roster of {folder}; {suggestion(name, devices)}")
    return devices[name]
