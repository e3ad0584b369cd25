"""What was parsed once, kept on disk: the next load opens it instead of the files it was read from.

An entry is a folder, written beside and renamed whole. It is opened only if the files are those it was read from (by SHA-256, which is
remembered as long as a file's place, size and times stay the same), the readers' code is the same, and its own files are as they were
written. Whatever is amiss with the cache, files are read as if there were none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import numpy as np

from vedette.data import entry
from vedette.data.dataset import Dataset
from vedette.data.stored import Growing, NewMatrix, in_memory
from vedette.errors import StorageError
from vedette.version import __version__

__all__ = ["Kept", "cached", "clear", "entries", "folder"]

WORTH = 16 << 20
"""Files of less text than this in all are parsed each time."""

PACKED = 8
"""How much text a byte of a packed file stands for."""

SETTLED = 2_000_000_000
"""Nanoseconds after its last change from which on a file's times tell whether it changed again."""

_DRAFT = ".part-"
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, StorageError, RecursionError)


class Kept(NamedTuple):
    """An entry of the cache.

    Attributes
    ----------
    name
        The data set's.
    rows
        Of all its tables.
    size
        Bytes on disk.
    path
        Its folder.
    """

    name: str
    rows: int
    size: int
    path: Path


def folder() -> Path | None:
    """Return where entries are kept: below ``VEDETTE_CACHE``, else in the user's cache folder; None if that says ``off`` or ``0``."""
    chosen = os.environ.get("VEDETTE_CACHE", "")
    if chosen.lower() in ("off", "0"):
        return None
    try:
        base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vedette"
        return base.expanduser().absolute() / "data"
    except (OSError, RuntimeError):  # nobody's home
        return None


def entries() -> list[Kept]:
    """Return what is kept, by name."""
    found = []
    for path in _children():
        with contextlib.suppress(*_DAMAGED):
            said = entry.about(path)
            rows = sum(int(table["rows"]) for table in said["tables"].values())
            found.append(Kept(str(said["dataset"]), rows, sum(file.stat().st_size for file in path.iterdir()), path))
    return sorted(found)


def clear() -> list[Kept]:
    """Remove what is kept, and what writers that died left behind; return the entries removed. What is not the cache's stays."""
    kept = entries()
    for path in _children():
        if not path.name.startswith(_DRAFT):
            _remove(path)
    _sweep(0.0)
    return [each for each in kept if not each.path.exists()]


def cached(name: str, about: Mapping[str, Any], sources: Mapping[str, Path], read: Callable[[NewMatrix], Dataset]) -> Dataset:
    """Return a data set from the cache, or read it and keep it there.

    Parameters
    ----------
    name
        What people know the files by.
    about
        Whatever else than the files decides what is read from them, as JSON.
    sources
        The files, by what they are to the reader.
    read
        Reads them; it is given what starts a matrix.

    Raises
    ------
    VedetteError
        Whatever `read` raises.
    """
    at, stamps = folder(), _stamps(sources)
    if at is None or stamps is None or not _is_worth_it(sources, stamps):
        return read(in_memory)
    sizes = {key: stamp.size for key, stamp in stamps.items()}
    slot = hashlib.sha256(json.dumps([about, sizes], sort_keys=True).encode()).hexdigest()[:32]
    path = at / f"{name}-{slot}"
    found = _found(path, sources, stamps)
    draft = _begun(at) if found is None else None
    if draft is None:
        return read(in_memory) if found is None else found
    with _held(draft):
        return _read(draft, path, sources, stamps, read)


def _read(
    draft: Path, path: Path, sources: Mapping[str, Path], stamps: Mapping[str, _Stamp], read: Callable[[NewMatrix], Dataset]
) -> Dataset:
    """Read files into a draft and give it its name, while they are hashed; without the name the data set is good all the same."""
    matrices = 0

    def matrix(columns: int, dtype: type[np.floating[Any]] = np.float32) -> Growing:
        nonlocal matrices
        matrices += 1
        return Growing(columns, dtype, draft / f"matrix-{matrices}.npy")

    began, stop = time.time_ns(), Event()
    with ThreadPoolExecutor(1) as pool:
        hashes = pool.submit(lambda: {key: _sha256(source, stop) for key, source in sources.items()})
        try:
            dataset = read(matrix)
            with contextlib.suppress(OSError, ValueError, StorageError):
                described = entry.written(draft, dataset)
                known = {key: [*stamps[key], digest, stamps[key].settled(began)] for key, digest in hashes.result().items()}
                # What changed while it was read is read again next time.
                if _stamps(sources) == stamps:
                    said = {"code": _code(), "sources": known, **described}
                    entry.write_about(draft, said)
                    _put(draft, path)
                    dataset = entry.opened(path, said)
        finally:
            stop.set()
    return dataset


def _found(path: Path, sources: Mapping[str, Path], stamps: Mapping[str, _Stamp]) -> Dataset | None:
    """Return what an entry holds; None if there is none, it is damaged, or was read from other files or by other code."""
    known = {}
    try:
        said = entry.about(path)
        if said["code"] != _code():
            return None
        for key, source in sources.items():
            *stamp, digest, settled = said["sources"][key]
            if not settled or _Stamp(*stamp) != stamps[key]:
                now = time.time_ns()
                if _sha256(source, Event()) != digest:
                    return None
                known[key] = [*stamps[key], digest, stamps[key].settled(now)]
        dataset = entry.opened(path, said)
    except _DAMAGED:
        return None
    if known:
        with contextlib.suppress(StorageError):
            entry.write_about(path, {**said, "sources": {**said["sources"], **known}})
    return dataset


class _Stamp(NamedTuple):
    """What changes when a file does."""

    path: str
    size: int
    modified: int
    changed: int
    device: int
    inode: int

    def settled(self, now: int) -> bool:
        """Tell whether the file had stood long enough that any further change gives it another time."""
        return now - max(self.modified, self.changed) > SETTLED


def _stamps(sources: Mapping[str, Path]) -> dict[str, _Stamp] | None:
    found = {}
    try:
        for key, path in sources.items():
            status = path.stat()
            times = status.st_mtime_ns, status.st_ctime_ns
            found[key] = _Stamp(str(path.resolve()), status.st_size, *times, status.st_dev, status.st_ino)
    except OSError:
        return None
    return found


def _is_worth_it(sources: Mapping[str, Path], stamps: Mapping[str, _Stamp]) -> bool:
    packed = (".gz", ".xlsx", ".parquet", ".pq")
    return sum(stamps[key].size * (PACKED if path.suffix in packed else 1) for key, path in sources.items()) >= WORTH


@cache
def _code() -> str:
    """Hash the code that reads and keeps data sets, so that no entry outlives a change of it."""
    here = Path(__file__).parent
    found = hashlib.sha256(__version__.encode())
    for path in [here / "cache.py", here / "entry.py", here / "stored.py", here / "table.py", *sorted(here.glob("datasets/*.py"))]:
        with contextlib.suppress(OSError):
            found.update(path.read_bytes())
    return found.hexdigest()


def _sha256(path: Path, stop: Event) -> str:
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while piece := stream.read(1 << 20):
            if stop.is_set():
                raise ValueError("not needed any more")
            found.update(piece)
    return found.hexdigest()


# Drafts, and what is left of them.


def _begun(at: Path) -> Path | None:
    try:
        at.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(60.0)
        return Path(tempfile.mkdtemp(prefix=_DRAFT, dir=at))
    except OSError:
        return None


def _put(draft: Path, path: Path) -> None:
    """Give a draft its name; what had the name before goes."""
    with contextlib.suppress(OSError):
        draft.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=path.parent))
    try:
        path.rename(old / path.name)
        draft.rename(path)
    finally:
        _remove(old)


@contextlib.contextmanager
def _held(draft: Path) -> Iterator[None]:
    """Keep others from taking a draft for one whose writer died; remove what is left of it in the end."""
    handle = None
    with contextlib.suppress(OSError):
        handle = _locked(draft)
    try:
        yield
    finally:
        _remove(draft)
        if handle is not None:
            os.close(handle)


def _locked(path: Path) -> int:
    import fcntl

    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _sweep(age: float) -> None:
    """Remove drafts of that many seconds that nobody holds."""
    for path in _children():
        with contextlib.suppress(OSError):
            if path.name.startswith(_DRAFT) and time.time() - path.stat().st_mtime >= age:
                os.close(_locked(path))
                _remove(path)


def _children() -> list[Path]:
    """Return the folders of the cache."""
    at = folder()
    with contextlib.suppress(OSError):
        return [] if at is None else sorted(path for path in at.iterdir() if path.is_dir() and not path.is_symlink() and _is_ours(path))
    return []


def _is_ours(path: Path) -> bool:
    _, _, slot = path.name.rpartition("-")
    return path.name.startswith(_DRAFT) or (len(slot) == 32 and set(slot) <= set("0123456789abcdef"))


def _remove(path: Path) -> None:
    """Remove a folder of the cache; files that it would not write stay, and the folder with them."""
    with contextlib.suppress(OSError):
        for child in path.iterdir():
            if child.is_dir() and not child.is_symlink() and path.name.startswith(_DRAFT) and _is_ours(child):
                _remove(child)
            elif child.suffix in (".npy", ".part") or child.name == entry.ABOUT:
                child.unlink()
        path.rmdir()
