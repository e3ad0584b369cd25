"""Sessions on the mesh: mutual TLS always, everyone held to the access rules, no way around either."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from vedette.errors import AddressError, KeysError, MissingExtra
from vedette.registry import suggestion
from vedette.runtimes.mesh.rules import access, check_name
from vedette.settings import Settings

try:
    import zenoh
except ImportError:
    raise MissingExtra("the mesh needs Zenoh: pip install 'vedette[mesh]'") from None

__all__ = ["MeshSettings", "open_session"]

log = logging.getLogger(__name__)

HERE = "127.0.0.1:0"
"""Where a device listens unless it is said: for this machine alone, at any free port; gossip tells the others which."""

FIRST_WAIT, LONGEST_WAIT = 100, 2000
"""Milliseconds between the first attempts to connect, and between later ones, which go on without end."""

STALL = 60
"""Seconds a slow link may stand still amid a long message: at 5, as is usual, 2 % loss ends it. One that is dead ends by itself."""

DESCRIPTORS = Path("/proc/self/fd")
"""This process's open files and sockets, on Linux."""

FILES = {"private_key": "device.key", "certificate": "device.pem"}


def _address(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+", host) or not port.isdecimal() or int(port) > 65535:
        raise ValueError("an address is HOST:PORT, such as 192.168.1.10:7447 or [::1]:7447")
    return address


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Address = Annotated[str, AfterValidator(_address)]


class MeshSettings(Settings):
    """How a device joins the mesh.

    Attributes
    ----------
    credentials
        Its folder, as ``vedette keys add`` made it; its certificate says its name.
    insecure
        No credentials, no encryption, no access rules; on this machine only.
    name
        The device's, if it is `insecure`.
    coordinator
        Name of the coordinator, who alone is heard and told anything by everyone else; empty among peers, who all talk to each other.
    listen
        ``HOST:PORT`` to be reached at; empty: nowhere, as suits a node beside a coordinator.
    connect
        ``HOST:PORT`` of anyone already there, who knows of the others.
    message_bytes
        Longer messages are dropped while they arrive, and nobody is told.
    """

    credentials: Path | None = None
    insecure: bool = False
    name: str = ""
    coordinator: str = ""
    listen: tuple[Address, ...] = (HERE,)
    connect: tuple[Address, ...] = ()
    message_bytes: int = Field(default=64 << 20, ge=1 << 16)

    @model_validator(mode="after")
    def _is_safe(self) -> MeshSettings:
        if self.insecure == (self.credentials is not None):
            raise ValueError("needs the device's credentials (a folder made by 'vedette keys add'), or 'insecure' on one machine")
        if self.insecure != bool(self.name):
            raise ValueError("a device is called as its certificate says; 'name' is for 'insecure' alone, which needs it")
        for address in (*self.listen, *self.connect) if self.insecure else ():
            if not _is_loopback(address):
                raise ValueError(f"'insecure' is for one machine; {address} is not on loopback")
        if not (self.listen or self.connect):
            raise ValueError("needs an address to listen at or to connect to")
        return self


def open_session(settings: MeshSettings) -> tuple[zenoh.Session, str]:
    """Open a session; it links to others in the background, and again whenever a link is lost.

    Parameters
    ----------
    settings
        How.

    Returns
    -------
    tuple[zenoh.Session, str]
        The session, to be closed, and our name.

    Raises
    ------
    KeysError
        The credentials do not hold, or name no such coordinator.
    AddressError
        An address to listen at is taken or not this machine's.
    """
    name, secured = (
        (check_name(settings.name), {}) if settings.credentials is None else _secured(settings.credentials, settings.coordinator)
    )
    config = zenoh.Config()
    for place, value in {**_common(settings), **secured}.items():
        config.insert_json5(place, json.dumps(value))
    try:
        session = zenoh.open(config)
    except zenoh.ZError as error:
        # Behind the reason Zenoh says where in its sources it stands.
        raise AddressError(f"cannot open the mesh at {', '.join(settings.listen)}: {str(error).partition(' at /')[0]}") from None
    session.info.declare_link_events_listener(_linked, history=True)
    return session, name


def _linked(event: zenoh.LinkEvent) -> None:
    """Log whose link is made or lost, and let it be closed without waiting for what was sent to arrive.

    Zenoh has it wait (SO_LINGER, 10 s, no setting), in a thread that serves other links as well: whoever vanishes without a word would
    silence those who are there for as long.
    """
    made = event.kind == zenoh.SampleKind.PUT
    log.info("link is made" if made else "link is lost", extra={"node": event.link.auth_identifier or event.link.dst})
    for descriptor in filter(Path.is_socket, DESCRIPTORS.iterdir()) if made and DESCRIPTORS.exists() else ():
        with suppress(OSError), socket.socket(fileno=os.dup(int(descriptor.name))) as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))


def _secured(folder: Path, coordinator: str) -> tuple[str, dict[str, Any]]:
    """Return our name, and what of the configuration keeps everyone to theirs."""
    from vedette.runtimes.mesh.keys import credentials

    own = credentials(folder)
    if coordinator not in ("", own.name, *own.others):
        raise KeysError(f"the roster in {folder} has no coordinator '{coordinator}'; {suggestion(coordinator, own.others)}")
    return own.name, {
        "access_control": access(own.name, own.others if coordinator in ("", own.name) else [coordinator]),
        "transport/link/tls": {
            "enable_mtls": True,
            "root_ca_certificate": str(folder / "authority.pem"),
            **{f"{side}_{what}": str(folder / file) for side in ("listen", "connect") for what, file in FILES.items()},
            # Devices change their addresses, and whoever answers is held to the name in its certificate, not to where it answered.
            "verify_name_on_connect": False,
            "close_link_on_expiration": True,
        },
    }


def _common(settings: MeshSettings) -> dict[str, Any]:
    protocol = "tcp" if settings.insecure else "tls"
    return {
        # Opening a client waits for its first link, and cannot be stopped meanwhile; a peer that listens nowhere does as well.
        "mode": "peer",
        "listen": {"endpoints": [f"{protocol}/{address}" for address in settings.listen], "exit_on_failure": True},
        "connect": {
            "endpoints": [f"{protocol}/{address}" for address in settings.connect],
            # 0 would be a single attempt, not an endless one.
            "timeout_ms": -1,
            "exit_on_failure": False,
            "retry": {"period_init_ms": FIRST_WAIT, "period_max_ms": LONGEST_WAIT, "period_increase_factor": 2},
        },
        "scouting": {"multicast": {"enabled": False}, "gossip": {"enabled": True}},
        # Who has a link may name any other device's session as its own; with two links and more, Zenoh asks for a proof.
        "transport/unicast/max_links": 2,
        # It would pass by the encryption on one host.
        "transport/shared_memory/enabled": False,
        # Nobody's gossip leads to a link without encryption.
        "transport/link/protocols": [protocol],
        "transport/link/rx/max_message_size": settings.message_bytes,
        "transport/link/tx/queue/congestion_control/block/wait_before_close": STALL * 1_000_000,
    }
