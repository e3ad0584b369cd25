"""Who a device is to others that hear of it through somebody: what it says, signed by the key of its certificate."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from vedette.errors import KeysError
from vedette.runtimes.mesh.certificates import (
    certificate_in,
    der_of,
    holds_signature,
    issued,
    name_of,
    read_certificate,
    read_key,
    signed,
)
from vedette.runtimes.mesh.keys import roster

__all__ = ["DeviceIdentity"]

LENGTH = 2
"""Bytes that say how long a certificate, or a signature, is."""


class DeviceIdentity:
    """A device's certificate and key, by which it proves what it says, and by whose authority it believes others.

    Parameters
    ----------
    folder
        The device's, as ``vedette keys add`` made it.
    run
        Digest of the run's plan: what is signed in one run proves nothing in another.
    coordinator
        Name of who leads the run, and is no node of it.

    Raises
    ------
    KeysError
        The folder is not whole.
    """

    def __init__(self, folder: Path, run: str, coordinator: str) -> None:
        self._own, self._key = der_of(read_certificate(folder / "device.pem")), read_key(folder / "device.key")
        self._authority = read_certificate(folder / "authority.pem")
        self._shut_out = {coordinator, *(name for name, device in roster(folder).items() if device.revoked)}
        self._run = run
        self._known: dict[bytes, str] = {}

    def proof(self, said: bytes) -> bytes:
        """Return this device's certificate, and its signature under what it says."""
        signature = signed(self._key, self._bound(said))
        return b"".join(len(part).to_bytes(LENGTH, "big") + part for part in (self._own, signature))

    def objection(self, name: str, said: bytes, proof: bytes) -> str | None:
        """Say why a proof does not show that it was a device of that name who said something, or None."""
        if name in self._shut_out:
            return "it is no node: it leads the run, or was revoked"
        size = int.from_bytes(proof[:LENGTH], "big")
        own, rest = proof[LENGTH : LENGTH + size], proof[LENGTH + size :]
        signature = rest[LENGTH : LENGTH + int.from_bytes(rest[:LENGTH], "big")]
        try:
            certificate = certificate_in(own)
        except KeysError:
            return "there is no certificate with them"
        if own not in self._known:
            if not issued(certificate, self._authority):
                return "their certificate is of another authority"
            self._known[own] = name_of(certificate)
        if self._known[own] != name:
            return f"their certificate is that of '{self._known[own]}'"
        if not certificate.not_valid_before_utc <= datetime.now(UTC) < certificate.not_valid_after_utc:
            return "their certificate does not hold at this time"
        return None if holds_signature(certificate, signature, self._bound(said)) else "its certificate did not sign them"

    def _bound(self, said: bytes) -> bytes:
        return f"vedette {self._run}\n".encode() + said
