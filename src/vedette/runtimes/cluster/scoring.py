"""Scoring a table in fixed blocks: every row exactly once, in order, with the same scores whoever scores them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from vedette.data.table import Table
from vedette.data.windows import Samples, averaged
from vedette.detectors.base import Detector
from vedette.detectors.bundle import FILES, load_bundle
from vedette.errors import DataUnusable, DetectorMisused
from vedette.message import Array
from vedette.runtimes.cluster.dispatch import Unit
from vedette.runtimes.cluster.pool import Pool
from vedette.runtimes.cluster.shelf import Lasting, Packed, packed
from vedette.runtimes.cluster.threads import one_thread
from vedette.runtimes.workers import Workers

__all__ = ["BLOCK", "score_blocks"]

BLOCK = 4096
"""Rows of a block, at least."""


class _Rows(NamedTuple):
    """The rows of a block, with those before them that their windows reach back to.

    Attributes
    ----------
    first
        Number of the block's first row in the whole table.
    table
        The rows, those reached back to among them.
    reach
        How many of these come before the block.
    starts
        [rows of `table`] int64, the first row of each one's stretch, counted in `table`; None if windows have one row.
    """

    first: int
    table: Table
    reach: int
    starts: Array | None


class _Bundle(NamedTuple):
    """A bundle on its way to a worker: a hash, and the bytes of its files by name."""

    digest: str
    files: tuple[tuple[str, Any], ...]


def score_blocks(folder: Path, table: Table, workers: Workers, block: int = BLOCK) -> Iterator[tuple[int, Array]]:
    """Score a table by a bundle.

    Blocks begin at fixed rows whatever the number of workers, and what a detector runs at once begins there too: so scores are those of
    ``load_bundle(folder).decision_function(table)`` to the last bit.

    Parameters
    ----------
    folder
        The bundle.
    table
        Rows, those of a group in time order; on disk they stay there until they are scored.
    workers
        Who scores.
    block
        Rows of a block; more, if the detector runs more at once.

    Yields
    ------
    tuple
        Number of a block's first row, and its scores [rows] float64.

    Raises
    ------
    CheckpointError
        No whole bundle.
    DataUnusable
        A score that is no finite number.
    DetectorMisused
        The table has other features.
    VedetteError
        Workers that fail again and again over the same rows, or too few of them.
    """
    detector = load_bundle(folder)
    if table.features != detector.scaler.features:
        raise DetectorMisused("the table has other features, or in another order, than the bundle's detector was trained on")
    average = detector.window.average
    starts = detector.window.starts(table) if detector.window.size > 1 or average > 1 else None
    found = _raw(detector, folder, _blocks(detector, table, starts, block), workers)
    if average == 1:
        yield from found
        return
    assert starts is not None
    # Averages reach back into the block before: they are taken here, where all of them pass in order.
    tail = np.zeros(0)
    for first, scores in found:
        known = np.concatenate([tail, scores])
        before = np.arange(first - len(tail), first + len(scores)) - starts[first - len(tail) : first + len(scores)]
        yield first, averaged(known, np.minimum(before, np.arange(len(known))), average)[len(tail) :]
        tail = known[max(0, len(known) - average + 1) :]


def _raw(detector: Detector, folder: Path, blocks: Iterator[_Rows], workers: Workers) -> Iterator[tuple[int, Array]]:
    """Score each row by its window."""
    if workers.here:
        with one_thread():
            for rows in blocks:
                scores = _scores(detector, rows)
                if (fault := _fault_of(rows.first, len(scores), (rows.first, scores))) is not None:
                    raise DataUnusable(fault)
                yield rows.first, scores
        return
    files = tuple((name, (folder / name).read_bytes()) for name in FILES if (folder / name).exists())
    digest = hashlib.sha256(repr(files).encode()).hexdigest()
    bundle = _Bundle(digest, tuple((name, Lasting(np.frombuffer(content, dtype=np.uint8))) for name, content in files))

    def share(pool: Pool) -> tuple[Iterator[Unit | None], int]:
        return (_unit(bundle, rows, pool) for rows in blocks), 2 * pool.size

    yield from workers.dispatch.run(share, "score")


def _blocks(detector: Detector, table: Table, starts: Array | None, least: int) -> Iterator[_Rows]:
    """Cut a table into blocks that begin where the detector would begin a chunk if it had the whole table."""
    chunk = Samples(detector.scaler, detector.window, table.take(slice(0, 0))).chunk()
    size = -(-least // chunk) * chunk
    for first in range(0, len(table), size):
        if starts is None:
            yield _Rows(first, table.take(slice(first, first + size)), 0, None)
            continue
        low = max(first - detector.window.size + 1, int(starts[first]))
        held = starts[low : first + size]
        yield _Rows(first, table.take(slice(low, first + size)), first - low, np.maximum(held - low, 0))


def _unit(bundle: _Bundle, rows: _Rows, pool: Pool) -> Unit:
    count = len(rows.table) - rows.reach
    content: Packed = packed(pool.shelf, (_scored, (bundle, rows)), once=True)
    return Unit(f"rows {rows.first:,} to {rows.first + count - 1:,}", "score", content, lambda found: _fault_of(rows.first, count, found))


def _fault_of(first: int, count: int, found: Any) -> str | None:
    """Say what is wrong with the scores of a block, or None."""
    if not isinstance(found, tuple) or found[0] != first:
        return f"scores of other rows than those from {first:,} on"
    scores = found[1]
    if scores.shape != (count,) or scores.dtype != np.float64:
        return f"scores {scores.dtype} of shape {scores.shape} for {count:,} rows"
    wrong = np.flatnonzero(~np.isfinite(scores))
    return f"the score of row {first + int(wrong[0]):,} is no finite number" if wrong.size else None


def _scored(bundle: _Bundle, rows: _Rows) -> tuple[int, Array]:
    """Score a block, in a worker."""
    return rows.first, _scores(_opened(bundle), rows)


def _scores(detector: Detector, rows: _Rows) -> Array:
    samples = Samples(detector.scaler, detector.window, rows.table, rows.starts)
    chunk = samples.chunk()
    ends = range(rows.reach, len(rows.table), chunk)
    return np.concatenate(
        [detector.score_samples(samples.take(np.arange(at, min(at + chunk, len(rows.table))), keep=False)) for at in ends]
    )


_loaded: dict[str, Detector] = {}


def _opened(bundle: _Bundle) -> Detector:
    """Load a bundle, once for all blocks."""
    if bundle.digest not in _loaded:
        _loaded.clear()
        with TemporaryDirectory() as folder:
            for name, content in bundle.files:
                (Path(folder) / name).write_bytes(content.tobytes())
            _loaded[bundle.digest] = load_bundle(Path(folder))
    return _loaded[bundle.digest]
