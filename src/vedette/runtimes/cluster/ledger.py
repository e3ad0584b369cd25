"""The ledger of a scoring: what was scored, counted and hashed, and kept as Parquet."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from vedette.data.datasets.columns import need_polars
from vedette.data.stored import Growing, Matrix
from vedette.errors import StorageError
from vedette.message import Array

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Ledger", "Proof", "proof_in"]

GROUP = 1 << 18
"""Rows of a row group, and rows in memory at once."""

KEY = "vedette.score"
"""Where the proof stands in the metadata of the Parquet file."""


class Proof(NamedTuple):
    """What shows that every row was scored once, and in order.

    Attributes
    ----------
    rows
        Of the table.
    scored
        Of the file.
    ids, scores
        SHA-256 of the row numbers (int64, little endian) and of the scores (float64, little endian), as they stand in the file.
    """

    rows: int
    scored: int
    ids: str
    scores: str


class Ledger:
    """Takes scores block by block, keeps them beside the file they are for, and writes that when they are complete.

    Parameters
    ----------
    path
        The Parquet file to be.
    rows
        Of the table.

    Raises
    ------
    StorageError
        The folder cannot be written.
    MissingExtra
        Polars is not installed.
    """

    def __init__(self, path: Path, rows: int) -> None:
        need_polars()
        self.path, self.rows = path, rows
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        except OSError as error:
            raise _unwritten(path, error) from None
        self._place = Path(self._folder.name)
        self._scores = Growing(1, np.float64, self._place / "scores.npy")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def add(self, first: int, scores: Array) -> None:
        """Take the scores [rows] of the rows from `first` on, which are the next ones."""
        if first != len(self._scores):
            raise AssertionError(f"scores of the rows from {first} on came where those from {len(self._scores)} on were due")
        self._scores.append(scores[:, None])

    def write(self, threshold: float, about: Mapping[str, Any]) -> Proof:
        """Write the file, whole or not at all, and read it again to prove it.

        Parameters
        ----------
        threshold
            Rows that score above it are flagged.
        about
            Further JSON for the file's metadata.

        Raises
        ------
        StorageError
            The disk is full; or what is read is not what was written.
        """
        import polars as pl
        from polars.io.plugins import register_io_source

        scores = self._scores.whole()
        due = _proof(self.rows, ((np.arange(at, at + len(part)), part) for at, part in _parts(scores)))
        draft, metadata = self._place / "scores.parquet", {KEY: json.dumps({**about, "threshold": threshold, **due._asdict()})}

        def frames(*_: object) -> Iterator[pl.DataFrame]:
            for at, part in _parts(scores):
                rows = np.arange(at, at + len(part), dtype=np.int64)
                yield pl.DataFrame({"row": rows, "score": part, "flag": part > threshold})

        schema = {"row": pl.Int64, "score": pl.Float64, "flag": pl.Boolean}
        try:
            register_io_source(frames, schema=schema, is_pure=True).sink_parquet(draft, row_group_size=GROUP, metadata=metadata)
            found = _proof(self.rows, _read(draft))
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            if found != due or found.scored != self.rows:
                raise OSError(f"{found} is read where {due} was written")
            draft.replace(self.path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _unwritten(self.path, error) from None
        return found


def proof_in(path: Path) -> dict[str, Any]:
    """Return what the metadata of a file of scores say.

    Raises
    ------
    StorageError
        It is none.
    """
    import polars as pl

    with contextlib.suppress(OSError, KeyError, ValueError, pl.exceptions.PolarsError):
        return dict(json.loads(pl.read_parquet_metadata(path)[KEY]))
    raise StorageError(f"{path} is no file of scores that 'vedette score' wrote")


def _parts(scores: Matrix) -> Iterator[tuple[int, Array]]:
    for at in range(0, len(scores), GROUP):
        part = scores[at : at + GROUP] if isinstance(scores, np.ndarray) else scores.take(slice(at, at + GROUP)).array()
        yield at, part[:, 0]


def _read(path: Path) -> Iterator[tuple[Array, Array]]:
    import polars as pl

    file = pl.scan_parquet(path)
    rows = int(file.select(pl.len()).collect().item())
    for at in range(0, rows, GROUP):
        frame = file.slice(at, GROUP).collect()
        yield frame["row"].to_numpy(), frame["score"].to_numpy()


def _proof(rows: int, parts: Iterator[tuple[Array, Array]]) -> Proof:
    ids, sums, scored = hashlib.sha256(), hashlib.sha256(), 0
    for numbers, scores in parts:
        ids.update(np.ascontiguousarray(numbers, dtype="<i8").data)
        sums.update(np.ascontiguousarray(scores, dtype="<f8").data)
        scored += len(scores)
    return Proof(rows, scored, ids.hexdigest(), sums.hexdigest())


def _unwritten(path: Path, error: Exception) -> StorageError:
    return StorageError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}; free some space or choose another --out")
