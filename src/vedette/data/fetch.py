"""Official files fetched: checked against what was published, gone on with after a break, put where the loaders look."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from vedette.data.loading import FileLoader
from vedette.data.published import Published, fault_of, published
from vedette.errors import DataBroken, DataMissing, MissingExtra, StorageError
from vedette.files import write_atomic

__all__ = ["Fetched", "fetch"]

BLOCK = 2**18
PATIENCE = (10, 60)
"""Seconds to wait for a connection, and for each next piece."""
TRIES = 3
"""How often a broken connection is made anew before the command gives up."""
SUMS = "SHA256SUMS"
"""In a data set's folder: what was fetched without a published checksum, as sha256sum writes it; it must stay the same."""

OnBytes = Callable[[str, int, int | None], None]


class Fetched(NamedTuple):
    """What became of one file.

    Attributes
    ----------
    path
        Where it lies.
    new
        Whether it was fetched now.
    checked
        Whether it was held against a published checksum.
    sha256
        What ``SHA256SUMS`` says of a file without a published checksum (hex): it was fetched so, and must stay so. None of others.
    """

    path: Path
    new: bool
    checked: bool
    sha256: str | None = None


def fetch(
    name: str, loader: type[FileLoader], root: Path, mirror: str | None = None, on_bytes: OnBytes = lambda *_: None
) -> Iterator[Fetched]:
    """Fetch what is missing of a data set, file by file.

    Parameters
    ----------
    name, loader
        The data set.
    root
        The data root.
    mirror
        Address (http, https, file) or folder that holds the same files under the same names; the published checksums hold all the same.
    on_bytes
        Called with the file's name, bytes that are there, and how many there will be (None if the server does not say).

    Yields
    ------
    Fetched
        One a file.

    Raises
    ------
    DataMissing
        A file cannot be had: no connection, no such file. What came is kept in ``.part``, and the next call goes on with it
        if there is a checksum to tell a mixture by.
    DataBroken
        A file is not what was published, or not what was fetched first; it is not kept.
    StorageError
        The disk is full or not writable.
    MissingExtra
        pooch is not installed.
    """
    known = published(name) or {path: Published(path, None, None, None, None) for path in loader.official_files}
    folder, mirror = root / loader.folder, None if mirror is None else _mirror(mirror)
    for path, file in known.items():
        checked = file.sha256 is not None
        noted = None if checked else _noted(folder).get(file.path)
        there = loader.place_of(root, path)
        if there is not None:
            if (fault := fault_of(there, file)) is not None:
                raise DataBroken(f"{there} is not as it was published: {fault}; remove it, and the same command fetches it anew")
            if there != folder / file.path:
                noted = None
            elif noted is not None and _digest(there) != noted:
                raise DataBroken(f"{there} is not as it was fetched first: remove it, or its line in {folder / SUMS}")
            yield Fetched(there, False, checked, noted)
            continue
        source = file.url
        if mirror is not None:
            # A copy that was gzip'ed again holds the same text, and that is checked.
            file = file._replace(served=None if file.path.endswith(".gz") else file.served)
            source = f"{mirror}/{quote(file.path) if '://' in mirror else file.path}"
        if source is None:
            raise DataMissing(f"'{name}' has no public address; name one with --from, or: {loader.how}")
        target = _fetched(file, noted, source, folder, on_bytes)
        if not checked and noted is None:
            noted = _digest(target)
            sums = {**_noted(folder), file.path: noted}
            write_atomic(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))
        yield Fetched(target, True, checked, noted)


def _mirror(mirror: str) -> str:
    """Return a mirror's address or folder, without a final slash."""
    if "://" not in mirror:
        return mirror.rstrip("/")
    # Nothing of it is repeated: it may hold a password.
    try:
        address = urlsplit(mirror)
        scheme, host, _ = address.scheme, address.hostname, address.port
    except ValueError:
        raise DataMissing("--from holds an address that cannot be read") from None
    if scheme == "file" and host in (None, "localhost"):
        return url2pathname(address.path).rstrip("/")
    if scheme not in ("http", "https") or host is None:
        raise DataMissing(f"--from takes an http, https or file address of a folder, or its path; not this '{scheme}' address")
    return mirror.rstrip("/")


def _noted(folder: Path) -> dict[str, str]:
    try:
        text = (folder / SUMS).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read {folder / SUMS}: {error}") from None
    return {name: digest for digest, name in re.findall(r"^([0-9a-f]{64}) [ *](.+)$", text, re.MULTILINE)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetched(file: Published, noted: str | None, source: str, folder: Path, on_bytes: OnBytes) -> Path:
    pooch, requests = _needed()
    pooch.get_logger().setLevel("WARNING")
    address = urlsplit(source) if "://" in source else None
    shown = source if address is None else address._replace(netloc=address.netloc.rpartition("@")[2], query="", fragment="").geturl()
    served = file.served or noted
    shelf = pooch.create(folder, base_url="", registry={file.path: served}, urls={file.path: source})
    # Without a checksum nothing would tell the beginning of one file with the end of another.
    part, goes_on = folder / f"{file.path}.part", file.sha256 is not None or noted is not None
    try:
        if not goes_on:
            part.unlink(missing_ok=True)
        target = Path(shelf.fetch(file.path, downloader=lambda url, output, _: _download(requests, url, part, Path(output), on_bytes)))
    except requests.exceptions.RequestException as error:
        left = f"; {part.stat().st_size:,} bytes are kept and the same command goes on from there" if goes_on and part.exists() else ""
        raise DataMissing(f"cannot fetch {shown}: {_reason(error)}{left}") from None
    except ValueError as error:
        got = "".join(re.findall(r"[0-9a-f]{64}", str(error))[-1:]) or "another"
        before = "published" if noted is None else f"fetched first ({folder / SUMS})"
        raise DataBroken(
            f"{shown} is not the file that was {before}: SHA-256 {got} where {served} was expected; nothing of it was kept"
        ) from None
    except OSError as error:
        left = f"; what came so far is kept in {part.name}" if goes_on and part.is_file() else ""
        raise StorageError(f"cannot write below {folder}: {error.strerror or error}{left}") from None
    fault = fault_of(target, file)
    if fault is not None:
        target.unlink()
        raise DataBroken(f"{shown} is not the file that was published: {fault}; nothing of it was kept")
    return target


def _download(requests: Any, url: str, part: Path, output: Path, on_bytes: OnBytes) -> None:
    """Bring a file to `part`, going on where it ends, and move it to `output` when it is whole."""
    if "://" not in url:
        if not Path(url).is_file():
            raise DataMissing(f"cannot fetch: there is no file {url}")
        shutil.copyfile(url, output)
    else:
        for again in range(TRIES):
            try:
                _stream(requests, url, part, on_bytes)
                break
            except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError, requests.exceptions.Timeout):
                if again == TRIES - 1:
                    raise
        part.replace(output)


def _stream(requests: Any, url: str, part: Path, on_bytes: OnBytes) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    done = part.stat().st_size if part.exists() else 0
    # Compressed transport would make places in the stream mean something else.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as answer:
        sent, place = answer.status_code, answer.headers.get("Content-Range", "")
        if done and sent == requests.codes.requested_range_not_satisfiable and place.rpartition("/")[2] == str(done):
            return
        elsewhere = sent == requests.codes.partial_content and not place.startswith(f"bytes {done}-")
        if done and (elsewhere or sent == requests.codes.requested_range_not_satisfiable):
            part.unlink()
            _stream(requests, url, part, on_bytes)
            return
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            done = 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length is not None and length.isdecimal() else None
        with part.open("ab" if done else "wb") as file:
            on_bytes(part.name.removesuffix(".part"), done, total)
            # As it is sent: a server that calls a .gz file "encoded" must not have it unpacked on the way.
            for block in _pieces(requests, answer):
                file.write(block)
                done += len(block)
                on_bytes(part.name.removesuffix(".part"), done, total)
    if total is not None and done < total:
        raise requests.exceptions.ConnectionError("the connection broke off")


def _pieces(requests: Any, answer: Any) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    try:
        yield from answer.raw.stream(BLOCK, decode_content=False)
    except HTTPError as error:
        raise requests.exceptions.ConnectionError(error) from None


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answers {response.status_code} {response.reason}"
    if isinstance(error, _needed()[1].exceptions.Timeout):
        return "the server does not answer"
    return "no connection"


def _needed() -> tuple[Any, Any]:
    try:
        import pooch
        import requests
    except ImportError as error:
        raise MissingExtra("fetching data sets needs pooch: pip install 'vedette[train]'") from error
    return pooch, requests
