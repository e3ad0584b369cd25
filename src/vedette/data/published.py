"""What is known of official files: where they are given out, how large they are, their checksums, what a person must do for them."""

from __future__ import annotations

import gzip
import hashlib
import tomllib
import zlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote, urljoin

from vedette.errors import StorageError

__all__ = ["Published", "fault_of", "published", "steps_of"]

BLOCK = 2**20


class Published(NamedTuple):
    """One official file.

    Attributes
    ----------
    path
        Below the data set's folder, with ``.gz`` if that is how it is given out.
    url
        Where; None if a person must fetch it.
    size, sha256
        Bytes and SHA-256 (hex) of the plain text, whether the file is gzip'ed or not; None if not known.
    served
        SHA-256 (hex) of what is sent; None if not known.
    """

    path: str
    url: str | None
    size: int | None
    sha256: str | None
    served: str | None


@cache
def _known() -> Mapping[str, Mapping[str, object]]:
    return MappingProxyType(tomllib.loads((resources.files("vedette.data") / "published.toml").read_text(encoding="utf-8")))


def published(name: str) -> Mapping[str, Published]:
    """Return what is known of a data set's official files, by their plain path below its folder; empty if nothing."""
    about: Mapping[str, object] = _known().get(name, {})
    base, files = about.get("base"), about.get("files", {})
    assert isinstance(files, dict)
    found = {}
    for path, facts in files.items():
        called = facts.get("from", path)
        url = urljoin(base, quote(called)) if isinstance(base, str) else None
        zipped = ".gz" if called.endswith(".gz") and not path.endswith(".gz") else ""
        served = facts.get("served", None if zipped else facts.get("sha256"))
        found[path] = Published(path + zipped, url, facts.get("bytes"), facts.get("sha256"), served)
    return found


def steps_of(name: str, folder: Path) -> list[str]:
    """Return what a person must do to get a data set that no command may fetch; empty if a command may."""
    steps = _known().get(name, {}).get("steps", [])
    assert isinstance(steps, list)
    return [step.format(folder=folder) for step in steps]


def fault_of(path: Path, known: Published) -> str | None:
    """Hold a file, plain or gzip'ed, against what was published.

    Returns
    -------
    str or None
        What is wrong with it, in a few words; None if nothing is, as far as is known.

    Raises
    ------
    StorageError
        It cannot be read.
    """
    total, digest = 0, hashlib.sha256()
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while block := file.read(BLOCK):
                total += len(block)
                digest.update(block)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return "its gzip is damaged or cut off"
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None
    if known.size is not None and total != known.size:
        return f"{total:,} bytes of text where {known.size:,} were published"
    if known.sha256 is not None and digest.hexdigest() != known.sha256:
        return f"SHA-256 {digest.hexdigest()} where {known.sha256} was published"
    return None
