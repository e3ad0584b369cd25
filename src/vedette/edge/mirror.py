"""A bundle at a web address, kept up to date in a folder."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from pydantic import Field

from vedette.detectors.bundle import ABOUT, FILES, LARGEST
from vedette.edge.endpoint import Endpoint
from vedette.edge.transport import is_loopback
from vedette.errors import CheckpointError
from vedette.files import write_atomic

__all__ = ["BundleUrl", "Mirror"]

log = logging.getLogger(__name__)


class BundleUrl(Endpoint):
    """Where a bundle is published: any server that hands out the files of its folder.

    Parameters
    ----------
    every
        Seconds after which it is asked whether there is a newer one.
    """

    every: float = Field(60.0, ge=1)


class Mirror:
    """Keeps a folder like a bundle at a web address: its files first, ``detector.json`` last, nothing that its checksums do not bear out.

    Parameters
    ----------
    remote
        Where it is published.
    folder
        Where it is kept.

    Raises
    ------
    KeysError, RecipeError
        See `vedette.edge.transport.Transport`.
    CheckpointError
        It cannot be had, and there is no earlier copy.
    """

    def __init__(self, remote: BundleUrl, folder: Path) -> None:
        self.remote, self.folder = remote, folder
        self._base = remote.url.rstrip("/")
        self._headers = remote.headers()
        handlers: list[urllib.request.BaseHandler] = [_Stay()]
        if remote.secured:
            handlers.append(urllib.request.HTTPSHandler(context=remote.context()))
        if is_loopback(remote.host):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)
        self._seen, self._failed = "", ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mirror", daemon=True)
        try:
            self.fetch()
        except CheckpointError as error:
            if not (folder / ABOUT).exists():
                raise
            self._warn(error)
        self._thread.start()

    def fetch(self) -> bool:
        """Bring the folder up to date; returns whether there was anything new.

        Raises
        ------
        CheckpointError
            It cannot be had, or is damaged; what is in the folder holds together still.
        StorageError
            It cannot be written.
        """
        about, tag = self._get(ABOUT, self._seen)
        if about is None:
            return False
        try:
            wanted = {str(name): str(digest) for name, digest in json.loads(about)["sha256"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise CheckpointError(f"{self._base}/{ABOUT} is none of a bundle") from None
        if odd := sorted(wanted.keys() - set(FILES)):
            raise CheckpointError(f"{self._base}/{ABOUT} names a file that no bundle has: {odd[0][:40]!r}")
        fresh = about != self._held(ABOUT)
        for name, digest in wanted.items():
            held = self._held(name)
            if held is not None and hashlib.sha256(held).hexdigest() == digest:
                continue
            found, _ = self._get(name)
            if found is None or hashlib.sha256(found).hexdigest() != digest:
                raise CheckpointError(f"{self._base}/{name} does not match its checksum: it may be written at this moment")
            write_atomic(self.folder / name, found)
        if fresh:
            write_atomic(self.folder / ABOUT, about)
        self._seen = tag
        return fresh

    def close(self) -> None:
        """Ask no more."""
        self._stop.set()

    def _follow(self) -> None:
        while not self._stop.wait(self.remote.every):
            try:
                self.fetch()
                self._failed = ""
            except Exception as error:  # the sentry goes on by the model it has
                self._warn(error)

    def _warn(self, error: Exception) -> None:
        """Say once what fails, until it fails otherwise."""
        if str(error) != self._failed:
            self._failed = str(error)
            log.warning("the bundle cannot be looked at; going on by what there is", extra={"reason": str(error)})

    def _held(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return None

    def _get(self, name: str, seen: str = "") -> tuple[bytes | None, str]:
        """Return a file and its tag; None if it is still the one that was seen."""
        where = f"{self._base}/{name}"
        request = urllib.request.Request(where, headers={**self._headers, **({"If-None-Match": seen} if seen else {})})
        try:
            with self._opener.open(request, timeout=self.remote.timeout) as answer:
                found = answer.read(LARGEST + 1)
                tag = str(answer.headers.get("ETag", ""))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == http.client.NOT_MODIFIED:
                    return None, seen
                to = f", to {error.headers.get('Location')}: say that as the URL" if error.code < 400 else ""
            raise CheckpointError(f"cannot get {where}: status {error.code} {error.reason}{to}") from None
        except (OSError, http.client.HTTPException) as error:
            reason: Any = getattr(error, "reason", error)
            raise CheckpointError(f"cannot get {where}: {getattr(reason, 'strerror', None) or reason}") from None
        if len(found) > LARGEST:
            raise CheckpointError(f"{where} is larger than {LARGEST >> 20} MiB: no bundle of ours")
        return found, tag


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: a token is for the server that was named."""

    def redirect_request(self, *_: Any) -> None:
        return None
