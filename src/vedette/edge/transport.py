"""Connections to others: TLS unless on this machine, secrets from files that are nobody else's."""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

from vedette.errors import KeysError, RecipeError
from vedette.settings import Settings

__all__ = ["Transport", "is_loopback", "secret", "using"]


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, by its name or address alone; nobody is asked."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def secret(path: Path) -> str:
    """Read a secret from the first line of a file.

    Raises
    ------
    KeysError
        It is not there, empty, or others may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise KeysError(f"{path} can be read by others: chmod 600 {path}")
        found = path.read_text().strip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not found:
        raise KeysError(f"{path} is empty: write the secret into its first line")
    return found[0]


@contextlib.contextmanager
def using(*files: Path | None) -> Iterator[None]:
    """Name the files of a TLS context that one of them keeps from being made.

    Raises
    ------
    KeysError
        One is not there or not what it should be.
    """
    try:
        yield
    except OSError as error:
        named = " or ".join(str(path) for path in files if path is not None)
        raise KeysError(f"cannot use {named}: {error.strerror or error}") from None


class Transport(Settings):
    """How a connection is secured.

    Parameters
    ----------
    ca
        Certificates of who is trusted (PEM); without it, those the system trusts.
    certificate, key
        With what this side shows who it is (PEM).
    insecure
        Whether it may go over a network without TLS, where everyone can read and change it; on loopback it may anyway.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """Return what TLS is made with: the other side's certificate and name are always checked.

        Raises
        ------
        KeysError
            A file is not there or not what it should be.
        """
        with using(self.ca, self.certificate, self.key):
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        return context

    def demand_tls(self, host: str, secured: bool) -> None:
        """Refuse to talk in plain over a network.

        Raises
        ------
        RecipeError
            It would.
        """
        if not (secured or self.insecure or is_loopback(host)):
            raise RecipeError(f"{host} is not on loopback, and would be talked to without TLS: use it, or say insecure = true")
