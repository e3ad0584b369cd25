"""What reaches workers once: tables are laid down where workers can fetch them, and units tell of them by key alone."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import shutil
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vedette.data.stored import Stored
from vedette.data.table import Table
from vedette.message import Array

__all__ = ["ROOM", "Files", "Lasting", "Packed", "Shelf", "packed"]

LEAST = 32 << 10
"""Bytes of a table, or of one of its arrays, below which it goes along with each unit."""

ROOM = 4 << 30
"""Bytes that a folder of arrays may grow to, as long as that leaves as much free; what does not fit goes along with each unit."""

KEPT = 256
"""Tables that a worker keeps as they were opened, so that what trainers make of them can be kept too."""

YOUNG = 60.0
"""Seconds in which a folder may not yet be held by who made it."""

_PREFIX = "vedette-shelf-"


class Packed(NamedTuple):
    """Something on its way to a worker.

    Attributes
    ----------
    content
        Pickled.
    keys
        What it needs from the shelf.
    """

    content: bytes
    keys: frozenset[str] = frozenset()


class Lasting(NamedTuple):
    """An array that many units need; it comes out of the shelf as itself."""

    array: Array


class Shelf(ABC):
    """Where arrays of tables lie for workers, each once, by a hash of its content.

    Attributes
    ----------
    reaches_files
        Whether workers can open the files of this machine.
    used
        Bytes that lie there.
    """

    reaches_files = True

    def __init__(self) -> None:
        self._tables: weakref.WeakKeyDictionary[Table, tuple[str, Packed]] = weakref.WeakKeyDictionary()
        self._keys: set[str] = set()
        self.used = 0

    def table(self, table: Table) -> tuple[str, Packed]:
        """Lay a table down; return its key and what it is opened from."""
        known = self._tables.get(table)
        if known is None:
            content = _packed(_TablePickler, self, dict(table.__dict__))
            known = self._tables[table] = hashlib.blake2b(content.content, digest_size=16).hexdigest(), content
        return known

    def array(self, array: Array) -> str | None:
        """Lay an array down; return its key, or None if there is no room for it."""
        ordered = _ordered(array)
        flat = ordered if ordered.flags.c_contiguous else ordered.T
        found = hashlib.blake2b(f"{array.dtype.str} {array.shape} {ordered.flags.c_contiguous}".encode(), digest_size=16)
        found.update(flat.data.cast("B"))
        key = found.hexdigest()
        if key not in self._keys:
            if not self.put(key, ordered):
                return None
            self._keys.add(key)
        return key

    @abstractmethod
    def put(self, key: str, array: Array) -> bool:
        """Keep an array, if there is room."""

    @abstractmethod
    def opens(self, key: str) -> tuple[Callable[[str], Array], tuple[str]]:
        """Return what a worker calls to have the array, and with what."""

    def tidy(self) -> None:
        """Forget what was laid down if it has become much; called while nothing is under way."""
        if self.used > ROOM // 2:
            self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._tables.clear()
        self._keys.clear()
        self.used = 0


class Files(Shelf):
    """Arrays as files in NumPy's format in a private folder, which workers map into their memory."""

    def __init__(self) -> None:
        super().__init__()
        self.folder: Path | None = None

    def put(self, key: str, array: Array) -> bool:
        try:
            folder = self.folder or self._begun()
            if self.used + array.nbytes > ROOM or shutil.disk_usage(folder).free < 2 * array.nbytes:
                return False
            # Nobody is told of it before it is whole.
            np.save(folder / f"{key}.npy", array, allow_pickle=False)
        except OSError:
            return False
        self.used += array.nbytes
        return True

    def opens(self, key: str) -> tuple[Callable[[str], Array], tuple[str]]:
        return _mapped, (str(self.folder / f"{key}.npy") if self.folder else "",)

    def clear(self) -> None:
        super().clear()
        if self.folder is not None:
            for file in self.folder.glob("*.npy"):
                file.unlink(missing_ok=True)

    def close(self) -> None:
        """Take the folder away."""
        self.clear()
        if self.folder is not None:
            self._end()
            self.folder = None

    def _begun(self) -> Path:
        """Make the folder, and take those away whose process was killed."""
        import fcntl

        for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime < YOUNG:
                    continue
                handle = os.open(old, os.O_RDONLY)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(old, ignore_errors=True)
                finally:
                    os.close(handle)
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        handle = os.open(self.folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        self._end = weakref.finalize(self, _removed, self.folder, handle)
        return self.folder


def _removed(folder: Path, handle: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)


def packed(shelf: Shelf, thing: Any, once: bool = False) -> Packed:
    """Pack something for a worker; tables in it go to the shelf if they are worth it, unless they are needed but once."""
    return _packed(_Pickler if once else _Sharing, shelf, thing)


def _packed(kind: type[_Pickler], shelf: Shelf, thing: Any) -> Packed:
    stream = io.BytesIO()
    pickler = kind(stream, shelf)
    pickler.dump(thing)
    return Packed(stream.getvalue(), frozenset(pickler.keys))


class _Pickler(pickle.Pickler):
    """Keeps the order in which an array's axes lie in memory, which sums depend on in their last bits; sends what workers cannot open."""

    def __init__(self, stream: io.BytesIO, shelf: Shelf) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self.shelf, self.keys = shelf, set[str]()

    def reducer_override(self, thing: Any) -> Any:
        if type(thing) is np.ndarray and not (thing.flags.c_contiguous or thing.flags.f_contiguous):
            return _ordered(thing).__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if type(thing) is Lasting:
            key = self.shelf.array(thing.array) if thing.array.nbytes >= LEAST else None
            if key is None:
                return np.asarray, (thing.array,)
            self.keys.add(key)
            return self.shelf.opens(key)
        if isinstance(thing, Stored) and not self.shelf.reaches_files:
            return np.asarray, (thing.array(),)
        return NotImplemented


class _Sharing(_Pickler):
    """Tells of tables by key."""

    def reducer_override(self, thing: Any) -> Any:
        if type(thing) is not Table or thing.nbytes < LEAST:
            return super().reducer_override(thing)
        key, content = self.shelf.table(thing)
        self.keys |= content.keys
        return _table, (key, content.content)


class _TablePickler(_Pickler):
    """Leaves the arrays of a table on the shelf."""

    def reducer_override(self, thing: Any) -> Any:
        if type(thing) is np.ndarray and thing.nbytes >= LEAST and not thing.dtype.hasobject:
            key = self.shelf.array(thing)
            if key is not None:
                self.keys.add(key)
                return self.shelf.opens(key)
        return super().reducer_override(thing)


def _ordered(array: Array) -> Array:
    return array if array.flags.c_contiguous or array.flags.f_contiguous else array.copy(order="K")


# In a worker.


@lru_cache(maxsize=KEPT)
def _table(key: str, content: bytes) -> Table:
    """Open a table; the same one each time, so that what is made of it can be kept."""
    # It comes from the process that began this one, or from Ray's driver, in one trust domain.
    table = Table.__new__(Table)
    table.__dict__.update(pickle.loads(content))  # noqa: S301
    return table


@lru_cache(maxsize=KEPT)
def _mapped(path: str) -> Array:
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
