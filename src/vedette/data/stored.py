"""Matrices on disk: rows that are read when they are asked for, and rows written as they come."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vedette.errors import StorageError
from vedette.message import Array

__all__ = ["Growing", "Matrix", "NewMatrix", "Stored", "in_memory", "stacked"]

READ = 64 << 20
"""Rows that take no more are read into memory; more of them, where nothing is left out, are mapped."""

WINDOW = 1 << 20
"""Bytes of a file that are read at once where enough of their rows are wanted."""

SPARSE = 16
"""Where no more than one row in so many is wanted, rows are read one by one."""


class _File:
    """An open file in NumPy's format that holds [rows, columns] numbers, row by row.

    It stays readable when its name is taken away, and is read, not mapped: what was read once counts as memory in use no longer,
    and a file that somebody cut off is an error, not the end of the process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.handle)
        with os.fdopen(os.dup(self.handle), "rb") as stream:
            np.lib.format.read_magic(stream)
            shape, by_column, self.dtype = np.lib.format.read_array_header_1_0(stream)
            self.offset = stream.tell()
        status = os.fstat(self.handle)
        self.identity = status.st_dev, status.st_ino
        if len(shape) != 2 or (by_column and min(shape) > 1) or self.dtype.hasobject:
            raise ValueError("no matrix of numbers, row by row")
        self.rows, self.columns = shape
        if status.st_size != self.offset + self.rows * self.columns * self.dtype.itemsize:
            raise ValueError("a file of another size than its header says")
        self.row_bytes = max(1, self.columns * self.dtype.itemsize)

    def fill(self, into: Array, row: int) -> None:
        """Read consecutive rows, from `row` on, into an array [rows, columns]."""
        view, at = into.data.cast("B"), self.offset + row * self.row_bytes
        while view:
            count = os.preadv(self.handle, [view], at)
            if not count:
                raise StorageError(f"{self.path}: the file was cut off while it was in use; load the data set anew")
            view, at = view[count:], at + count

    def mapped(self, rows: slice) -> Array:
        """Return consecutive rows as a view of the file, read-only."""
        bytes_ = mmap.mmap(self.handle, 0, access=mmap.ACCESS_READ)
        matrix = np.frombuffer(bytes_, dtype=self.dtype, offset=self.offset).reshape(self.rows, self.columns)
        return matrix[rows]

    def gather(self, rows: Array, into: Array) -> None:
        """Read rows by number, in any order, into an array [rows, columns]."""
        order = np.arange(len(rows)) if (rows[1:] >= rows[:-1]).all() else np.argsort(rows, kind="stable")
        rows, window, size = rows[order], max(1, WINDOW // self.row_bytes), self.row_bytes
        cuts = [0, *(np.flatnonzero(np.diff(rows // window)) + 1).tolist(), len(rows)]
        read, flat = np.empty((window, self.columns), dtype=self.dtype), into.data.cast("B")
        for start, stop in pairwise(cuts):
            wanted, places = rows[start:stop], order[start:stop]
            first, span = int(wanted[0]), int(wanted[-1] - wanted[0]) + 1
            if span <= SPARSE * len(wanted):
                self.fill(read[:span], first)
                into[places] = read[wanted - first]
            else:
                for row, place in zip(wanted.tolist(), (places * size).tolist(), strict=True):
                    if os.preadv(self.handle, [flat[place : place + size]], self.offset + row * size) < size:
                        self.fill(into[place // size], row)


class Stored:
    """A matrix of numbers on disk, or some of its rows and columns: choosing costs numbers of rows, and nothing is read until asked for.

    Parameters
    ----------
    path
        A file in NumPy's format that holds [rows, columns] numbers, row by row.

    Raises
    ------
    OSError, ValueError
        The file cannot be opened, or is no such matrix.
    """

    ndim = 2

    def __init__(self, path: Path) -> None:
        self._file = _File(path)
        self._rows: slice | Array = slice(0, self._file.rows)
        self._columns: Array | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a number."""
        return self._file.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), self._file.columns if self._columns is None else len(self._columns)

    @property
    def path(self) -> Path | None:
        """The file, if this is all of it."""
        whole = self._columns is None and isinstance(self._rows, slice) and len(self) == self._file.rows
        return self._file.path if whole else None

    def __len__(self) -> int:
        return self._rows.stop - self._rows.start if isinstance(self._rows, slice) else len(self._rows)

    def take(self, rows: Array | slice) -> Stored:
        """Return some rows, by index, mask or slice."""
        if isinstance(self._rows, slice):
            first, count = self._rows.start, len(self)
            if isinstance(rows, slice) and rows.step in (None, 1):
                start, stop, _ = rows.indices(count)
                return self._with(slice(first + start, first + max(start, stop)), self._columns)
            return self._with(numbered(rows, count) + first, self._columns)
        return self._with(self._rows[rows], self._columns)

    def select(self, columns: Sequence[int]) -> Stored:
        """Return some columns, by number."""
        chosen = np.asarray(columns, dtype=np.int64)
        return self._with(self._rows, chosen if self._columns is None else self._columns[chosen])

    def array(self) -> Array:
        """Return the numbers: read, or, where they are many and nothing of them is left out, as a view of the file."""
        whole = self._columns is None and isinstance(self._rows, slice)
        if whole and len(self) * self._file.row_bytes > READ:
            assert isinstance(self._rows, slice)
            return self._file.mapped(self._rows)
        numbers = np.empty(self.shape, dtype=self.dtype)
        step = len(self) if self._columns is None else max(1, READ // self._file.row_bytes)
        for start in range(0, len(self) if numbers.size else 0, max(step, 1)):
            self._read(start, numbers[start : start + step])
        return numbers

    def _read(self, start: int, into: Array) -> None:
        rows, file = self._rows, self._file
        full = into if self._columns is None else np.empty((len(into), file.columns), dtype=self.dtype)
        if isinstance(rows, slice):
            file.fill(full, rows.start + start)
        else:
            file.gather(rows[start : start + len(into)], full)
        if self._columns is not None:
            np.take(full, self._columns, axis=1, out=into)

    def _with(self, rows: slice | Array, columns: Array | None) -> Stored:
        other = object.__new__(Stored)
        other._file, other._rows, other._columns = self._file, rows, columns
        return other

    def where(self) -> tuple[int, str, int, int, str, Array | int, Array | None]:
        """Say where the numbers lie, for those who read rows themselves.

        Returns
        -------
        tuple
            The open file and its name; where its first row begins, numbers of a row, their NumPy type; which rows [n] int, or the first
            of those that follow each other; which columns, or None for all.
        """
        file, rows = self._file, self._rows
        return (
            file.handle,
            str(file.path),
            file.offset,
            file.columns,
            file.dtype.str,
            int(rows.start) if isinstance(rows, slice) else rows,
            self._columns,
        )

    def beside(self, others: Sequence[Stored]) -> Stored | None:
        """Return these rows and those of others below each other; None if they do not come from the same columns of one file."""

        def same(other: Stored) -> bool:
            columns = (self._columns is None) == (other._columns is None) and (
                self._columns is None or np.array_equal(self._columns, other._columns)  # type: ignore[arg-type]
            )
            return other._file is self._file and columns

        if not all(same(other) for other in others):
            return None
        return self._with(np.concatenate([each._numbers for each in (self, *others)]), self._columns)

    @property
    def _numbers(self) -> Array:
        return np.arange(self._rows.start, self._rows.stop) if isinstance(self._rows, slice) else self._rows

    def __reduce__(self) -> tuple[Callable[..., Matrix], tuple[Any, ...]]:
        # To a worker goes where the numbers lie; they themselves only if nobody else can open the file any more.
        try:
            status = self._file.path.stat()
        except OSError:
            return np.array, (self.array(),)
        if (status.st_dev, status.st_ino) != self._file.identity:
            return np.array, (self.array(),)
        return _reopened, (self._file.path, self._rows, self._columns)


Matrix: TypeAlias = Array | Stored
"""[rows, columns] numbers, in memory or on disk."""


def _reopened(path: Path, rows: slice | Array, columns: Array | None) -> Stored:
    try:
        return Stored(path)._with(rows, columns)
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: a file of the cache is gone or damaged ({error}); run again") from None


def numbered(rows: Array | slice, count: int) -> Array:
    """Return the numbers of some rows of `count`, given by index, mask or slice."""
    if isinstance(rows, slice):
        return np.arange(*rows.indices(count))
    rows = np.asarray(rows)
    if rows.dtype == np.bool_:
        return np.flatnonzero(rows)
    return np.arange(count)[rows] if rows.size and (rows.min() < 0 or rows.max() >= count) else rows.astype(np.int64, copy=False)


def stacked(matrices: Sequence[Matrix]) -> Matrix:
    """Put matrices of the same columns below each other; on disk they stay there if they are parts of one."""
    stored = [matrix for matrix in matrices if isinstance(matrix, Stored)]
    if len(stored) == len(matrices) and (joined := stored[0].beside(stored[1:])) is not None:
        return joined
    return np.concatenate([matrix.array() if isinstance(matrix, Stored) else matrix for matrix in matrices])


class Growing:
    """A matrix whose rows are given block by block: in a file as long as that can be written, else in memory.

    Parameters
    ----------
    columns
        Their number.
    dtype
        The type of a number.
    path
        The file, which must not exist; None keeps the rows in memory.
    """

    def __init__(self, columns: int, dtype: type[np.floating[Any]] = np.float32, path: Path | None = None) -> None:
        self.columns, self.dtype, self.path = columns, np.dtype(dtype), path
        self._rows = 0
        self._kept = np.empty((0, columns), dtype=self.dtype)
        if path is not None:
            try:
                self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                self._close = weakref.finalize(self, os.close, self._handle)
                self._write_header()
            except OSError:
                self._give_up()

    def __len__(self) -> int:
        return self._rows

    def append(self, block: Array) -> None:
        """Add rows [rows, columns]."""
        rows = self._rows + len(block)
        if self.path is not None:
            try:
                self._write(np.ascontiguousarray(block, dtype=self.dtype))
            except OSError:
                self._give_up()
        if self.path is None:
            # Grown in place, which moves no memory: parts to be stacked at the end would need twice as much.
            self._kept.resize((rows, self.columns), refcheck=False)
            self._kept[self._rows :] = block
        self._rows = rows

    def whole(self) -> Matrix:
        """Return all rows; none can be added from then on."""
        if self.path is not None:
            try:
                os.lseek(self._handle, 0, os.SEEK_SET)
                self._write_header()
                self._close()
                return Stored(self.path)
            except (OSError, ValueError):
                self._give_up()
        return self._kept

    def _write_header(self) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self._rows, self.columns)}
        # The header leaves room for the number of rows to grow, so that the second one is as long as the first.
        with os.fdopen(os.dup(self._handle), "wb", buffering=0) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
        self._offset = os.lseek(self._handle, 0, os.SEEK_CUR)

    def _write(self, block: Array) -> None:
        view = block.data.cast("B") if block.size else memoryview(b"")
        while view:
            view = view[os.write(self._handle, view) :]

    def _give_up(self) -> None:
        """Go on in memory with the rows written so far."""
        path, self.path = self.path, None
        if path is None or not hasattr(self, "_close"):
            return
        self._kept.resize((self._rows, self.columns), refcheck=False)
        view, at = self._kept.data.cast("B") if self._kept.size else memoryview(b""), getattr(self, "_offset", 0)
        while view:
            count = os.preadv(self._handle, [view], at)
            if not count:
                raise StorageError(f"{path}: the file was cut off while it was written; load the data set anew")
            view, at = view[count:], at + count
        self._close()
        path.unlink(missing_ok=True)


NewMatrix: TypeAlias = Callable[[int, type[np.floating[Any]]], Growing]
"""Starts a matrix of so many columns of a type, where its rows shall be kept."""


def in_memory(columns: int, dtype: type[np.floating[Any]] = np.float32) -> Growing:
    """Start a matrix that stays in memory."""
    return Growing(columns, dtype)
