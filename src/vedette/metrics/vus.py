"""Volume under the surface: ranking metrics that forgive a detection some rows before or after its event."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vedette.message import Array
from vedette.metrics.events import runs

__all__ = ["Vus", "vus", "window_of"]

THRESHOLDS = 250  # TSB-AD's: ranks of scores, evenly spaced from the highest to the lowest
DEFAULT_WINDOW = 125  # TSB-AD's, where a series has no period


class Vus(NamedTuple):
    """The two volumes, each at most 1; None where there is only one class."""

    roc: float | None
    pr: float | None


def vus(label: Array, score: Array, window: int) -> Vus:
    """Return VUS-ROC and VUS-PR, the areas under the range ROC and PR curves averaged over buffers of 0 to `window` rows.

    A buffer of w rows gives the d-th row before or after an event, d <= w // 2, the label sqrt(1 - d / w); labels of several events
    add up, at most to 1. Each curve has 250 thresholds, taken from the sorted scores at even distances. The values are TSB-AD's
    (`generate_curve`, version "opt", 250 thresholds).

    Parameters
    ----------
    label
        [rows], 1 = anomaly.
    score
        [rows], higher = more anomalous; only the order counts.
    window
        Rows of the widest buffer, half of them on each side of an event; `window_of` proposes one.

    Raises
    ------
    ValueError
        Label and score differ in shape or have more than one axis, a score is not a number, or the window is negative.

    References
    ----------
    Paparrizos et al., "Volume Under the Surface: A New Accuracy Evaluation Measure for Time-Series Anomaly Detection", VLDB 2022: the
    label of a buffer, range-TPR, -FPR and -precision, and the volumes.
    Liu and Paparrizos, "The Elephant in the Room: Towards A Reliable Time-Series Anomaly Detection Benchmark", NeurIPS 2024.
    """
    truth, scores = np.asarray(label) != 0, np.asarray(score)
    if truth.shape != scores.shape or truth.ndim != 1:
        raise ValueError(f"labels and scores must be two arrays of as many rows, not of the shapes {truth.shape} and {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores must be numbers: there is a nan")
    if window < 0:
        raise ValueError(f"a window has 0 or more rows, not {window}")
    if truth.all() or not truth.any():
        return Vus(None, None)
    step = _steps(scores)
    first, last = runs(truth)
    row, distance = _near(truth, first, last, window // 2)
    slots, slot = np.unique(row, return_inverse=True)
    flagged = np.cumsum(np.bincount(step, minlength=THRESHOLDS))
    found = np.cumsum(np.bincount(step[truth], minlength=THRESHOLDS))
    areas = np.zeros((window + 1, 2))
    for w in range(window + 1):
        reach = np.searchsorted(distance, w // 2, side="right")  # distances are sorted
        weight = np.minimum(np.bincount(slot[:reach], np.sqrt(1 - distance[:reach] / max(w, 1)), len(slots)), 1)
        if w % 2 == 0:  # the next buffer reaches as far
            existence = _existence(step, first, last, w // 2)
        near = np.cumsum(np.bincount(step[slots], weight, THRESHOLDS))
        areas[w] = _areas(found, near, flagged, existence, int(truth.sum()), len(truth))
    roc, pr = areas.mean(axis=0).tolist()
    return Vus(roc, pr)


def _steps(scores: Array) -> Array:
    """Return the first of the falling thresholds that each row reaches, [rows] of 0 to 249."""
    falling = np.sort(-scores.astype(np.float64))
    thresholds = falling[np.linspace(0, len(falling) - 1, THRESHOLDS).astype(int)]
    return np.searchsorted(thresholds, -scores.astype(np.float64))


def _near(truth: Array, first: Array, last: Array, reach: int) -> tuple[Array, Array]:
    """Return every pair of a normal row and its distance to an event's end, nearest first: a row may be near several events."""
    distances = np.arange(1, reach + 1)[:, None]
    row = np.concatenate([last + distances, first - distances], axis=1)
    kept = (row >= 0) & (row < len(truth))
    kept[kept] = ~truth[row[kept]]
    return row[kept], np.broadcast_to(distances, row.shape)[kept]


def _existence(step: Array, first: Array, last: Array, reach: int) -> Array:
    """Return the share of events, widened by `reach` rows and merged where they then overlap, of which a row is flagged; [thresholds]."""
    apart = last[:-1] + reach < first[1:] - reach
    begin = np.maximum(first[np.append(True, apart)] - reach, 0)
    end = np.minimum(last[np.append(apart, True)] + reach, len(step) - 1) + 1
    # A row that no threshold reaches stands after the last: an event may end there.
    earliest = np.minimum.reduceat(np.append(step, THRESHOLDS), np.column_stack([begin, end]).ravel())[::2]
    share: Array = np.cumsum(np.bincount(earliest, minlength=THRESHOLDS)) / len(begin)
    return share


def _areas(found: Array, near: Array, flagged: Array, existence: Array, anomalies: int, rows: int) -> tuple[float, float]:
    """Return the areas under one buffer's ROC and PR curves from what each threshold flags: in events, near them (weighted), in all."""
    hits = found + near
    positive = anomalies + near / 2  # the paper's P, halfway between the rows of events and those with flagged buffers
    tpr = np.minimum(hits / positive, 1) * existence
    fpr = (flagged - hits) / (rows - positive)
    tpr, fpr = np.concatenate([[0], tpr, [1]]), np.concatenate([[0], fpr, [1]])
    roc = np.dot(np.diff(fpr), (tpr[1:] + tpr[:-1]) / 2)
    pr = np.dot(np.diff(tpr[:-1]), hits / flagged)
    return float(roc), float(pr)


def window_of(series: Array) -> int:
    """Return a series' period in rows, the lag of its highest peak of autocorrelation: TSB-AD's window for `vus`.

    It is 125 where the first 20,000 rows show no peak, or the highest lies before a lag of 6 or after one of 303. Of a table with
    several columns TSB-AD takes the first.

    Parameters
    ----------
    series
        [rows], one feature.

    Raises
    ------
    ValueError
        The series has more than one axis, or a value is not finite.

    References
    ----------
    Liu and Paparrizos, NeurIPS 2024; `find_length_rank` of TSB-AD with rank 1.
    """
    values = np.asarray(series, dtype=np.float64)[:20_000]
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("a window is derived from one column of finite numbers")
    if len(values) < 6 or np.ptp(values) == 0:
        return DEFAULT_WINDOW
    spectrum = np.fft.rfft(values - values.mean(), 2 * len(values))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: min(len(values), 401)]
    middle = correlation[4:-1]  # peaks are looked for between lags 4 and 399, as TSB-AD cuts the first three lags off
    lags = 4 + np.flatnonzero((middle > correlation[3:-2]) & (middle > correlation[5:]))
    if not len(lags):
        return DEFAULT_WINDOW
    lag = int(lags[np.argmax(correlation[lags])])
    return lag if 6 <= lag <= 303 else DEFAULT_WINDOW
