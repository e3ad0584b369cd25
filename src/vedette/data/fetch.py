"""Official files fetched: checked against what was published, gone on with after a break, put where the loaders look."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from vedette.data.loading import FileLoader
from vedette.data.published import Published, fault_of, published
from vedette.errors import DataBroken, DataMissing, MissingExtra, StorageError

__all__ = ["Fetched", "fetch"]

BLOCK = 2**18
PATIENCE = (10, 60)
"""Seconds to wait for a connection, and for each next piece."""
TRIES = 3
"""How often a broken connection is made anew before the command gives up."""

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
    """

    path: Path
    new: bool
    checked: bool


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
        Address (http, https) or folder that holds the same files under the same names; the published checksums hold all the same.
    on_bytes
        Called with the file's name, bytes that are there, and how many there will be (None if the server does not say).

    Yields
    ------
    Fetched
        One a file.

    Raises
    ------
    DataMissing
        A file cannot be had: no connection, no such file. What came is kept in ``.part``, and the next call goes on with it.
    DataBroken
        A file is not what was published; it is not kept.
    StorageError
        The disk is full or not writable.
    MissingExtra
        pooch is not installed.
    """
    known = published(name) or {path: Published(path, None, None, None, None) for path in loader.official_files}
    for path, file in known.items():
        there = loader.place_of(root, path)
        fault = None if there is None else fault_of(there, file)
        if fault is not None:
            raise DataBroken(f"{there} is not as it was published: {fault}; remove it, and the same command fetches it anew")
        if there is not None:
            yield Fetched(there, False, file.sha256 is not None)
            continue
        source = file.url
        if mirror is not None:
            source = f"{mirror.rstrip('/')}/{quote(file.path) if '://' in mirror else file.path}"
        if source is None:
            raise DataMissing(f"'{name}' has no public address; name one with --from, or: {loader.how}")
        yield Fetched(_fetched(file, source, root / loader.folder, on_bytes), True, file.sha256 is not None)


def _fetched(file: Published, source: str, folder: Path, on_bytes: OnBytes) -> Path:
    pooch, requests = _needed()
    pooch.get_logger().setLevel("WARNING")
    shown = urlsplit(source)._replace(netloc=urlsplit(source).netloc.rpartition("@")[2]).geturl()
    shelf = pooch.create(folder, base_url="", registry={file.path: file.served}, urls={file.path: source})
    part = folder / f"{file.path}.part"
    try:
        target = Path(shelf.fetch(file.path, downloader=lambda url, output, _: _download(requests, url, part, Path(output), on_bytes)))
    except requests.exceptions.RequestException as error:
        left = f"; {part.stat().st_size:,} bytes are kept and the same command goes on from there" if part.exists() else ""
        raise DataMissing(f"cannot fetch {shown}: {_reason(error)}{left}") from None
    except ValueError:
        raise DataBroken(f"{shown} is not the file that was published (its SHA-256 is another); nothing of it was kept") from None
    except OSError as error:
        raise StorageError(f"cannot write below {folder}: {error.strerror or error}; what came so far is kept in {part.name}") from None
    fault = fault_of(target, file)
    if fault is not None:
        target.unlink()
        raise DataBroken(f"{shown} is not the file that was published: {fault}; nothing of it was kept")
    return target


def _download(requests: Any, url: str, part: Path, output: Path, on_bytes: OnBytes) -> None:
    """Bring a file to `part`, going on where it ends, and move it to `output` when it is whole."""
    if "://" not in url:
        if not Path(url).is_file():
            raise requests.exceptions.InvalidURL(f"there is no file {url}")
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
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if whole == str(done):
                return
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
    if type(error).__name__ in ("InvalidURL", "MissingSchema", "InvalidSchema"):
        return str(error)
    return "no connection"


def _needed() -> tuple[Any, Any]:
    try:
        import pooch
        import requests
    except ImportError as error:
        raise MissingExtra("fetching data sets needs pooch: pip install 'vedette[train]'") from error
    return pooch, requests
