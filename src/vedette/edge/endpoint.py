"""An address that takes posts over HTTP."""

from __future__ import annotations

import http.client
import math
import urllib.parse
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from pydantic import Field, field_validator

from vedette.edge.sinks.base import Unaccepted
from vedette.edge.transport import Transport, secret
from vedette.version import __version__

__all__ = ["Endpoint", "Poster"]

REFUSED = (400, 406, 409, 410, 413, 415, 422)
"""Statuses by which a post is refused as such. Others of 400 and above mend when somebody mends a token, a path, or a server."""

LONGEST = 65_536
"""Bytes of an answer that are read, so that its connection can be used again."""


class Endpoint(Transport):
    """Where to post to.

    Parameters
    ----------
    url
        ``https://…``; ``http://`` on loopback.
    token_file
        Holds the bearer token that is sent along; of mode 600.
    timeout
        Seconds for a connection, and for an answer.
    """

    url: str
    token_file: Path | None = None
    timeout: float = Field(10.0, gt=0, le=300)

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        try:
            parts = urllib.parse.urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.username is None
        except ValueError:
            good = False
        if not good or not url.isascii() or any(char <= " " for char in url):
            raise ValueError("takes https://host[:port]/path, without a user or password in it")
        return url

    @property
    def host(self) -> str:
        """Name or address of the server."""
        return str(urllib.parse.urlsplit(self.url).hostname)

    @property
    def secured(self) -> bool:
        """Whether TLS is used."""
        return urllib.parse.urlsplit(self.url).scheme == "https"

    def headers(self) -> dict[str, str]:
        """Return what every request says: who asks, and the token.

        Raises
        ------
        KeysError, RecipeError
            The token cannot be read, or would go over a network in plain.
        """
        self.demand_tls(self.host, self.secured)
        token = {} if self.token_file is None else {"Authorization": f"Bearer {secret(self.token_file)}"}
        return {"User-Agent": f"vedette/{__version__}", **token}

    def connected(self) -> Poster:
        """Return what posts there; the connection is made when it is needed.

        Raises
        ------
        KeysError, RecipeError
            See `Transport`.
        """
        return Poster(self)


class Poster:
    """Posts over one connection that is kept open; used by one thread.

    Parameters
    ----------
    endpoint
        Where to.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        parts = urllib.parse.urlsplit(endpoint.url)
        self.headers = endpoint.headers()
        self.target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        self.connection: http.client.HTTPConnection
        if endpoint.secured:
            self.connection = http.client.HTTPSConnection(endpoint.host, parts.port, timeout=endpoint.timeout, context=endpoint.context())
        else:
            self.connection = http.client.HTTPConnection(endpoint.host, parts.port, timeout=endpoint.timeout)

    def post(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Post something; return once it is accepted.

        Raises
        ------
        Unaccepted
            It was not.
        """
        kept = self.connection.sock is not None
        try:
            try:
                answer = self._asked(body, headers)
            except (ConnectionError, http.client.BadStatusLine):
                if not kept:
                    raise
                # The other side had closed it meanwhile, which is its good right.
                self.connection.close()
                answer = self._asked(body, headers)
            answer.read(LONGEST)
            if not answer.isclosed():
                self.connection.close()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            raise Unaccepted(str(getattr(error, "strerror", None) or error) or type(error).__name__) from None
        if answer.status >= 300:
            where = f", to {answer.headers.get('Location', 'nowhere')}: say that as the URL" if answer.status < 400 else ""
            why = f"status {answer.status} {answer.reason}{where}"
            raise Unaccepted(why, answer.status in REFUSED, _after(answer.headers.get("Retry-After", "")))

    def _asked(self, body: bytes, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        self.connection.request("POST", self.target, body, {**self.headers, **headers})
        return self.connection.getresponse()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def _after(said: str) -> float:
    """Return the seconds that a server asks to wait, as a number or a date."""
    try:
        seconds = float(said) if said[:1].isdecimal() else (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
    return seconds if 0 < seconds < math.inf else 0.0
