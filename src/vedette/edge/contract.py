"""The false-alarm contract: at most so many false incidents of a device in so long, whatever drifts."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from pydantic import Field

from vedette.data.summaries import Moments, Sketch
from vedette.detectors.base import Detector
from vedette.detectors.threshold import PeaksOverThreshold, pareto
from vedette.edge.calibration import Calibrated, Calibration, Realised
from vedette.edge.windows import Histories, Ordered, grown
from vedette.errors import DataUnusable
from vedette.message import Array, Memory

__all__ = ["Contract"]

DAY = 86_400.0
BEGIN = 1000
"""Readings of all devices after which the tail is fitted, at least."""
BEYOND = 0.9
GROUPS = 512
STEEPEST = 0.25
"""Of the tail of logarithms: a steeper one says more of few values than of what is to come."""
OWN = ("_block", "_count", "_most", "_whole", "_quota", "_since", "_counts", "_anew", "_closed")


class Contract(Calibration):
    """At most so many false incidents: rolling peaks over threshold on the maxima of stretches of time.

    What opens an incident is the `alarms`-th largest of the last `among` scores. Its maximum over a block of time is compared with what
    is usual for the device now (its index: the median of its last maxima), and the ratios of all devices share one tail: a generalised
    Pareto distribution beyond their 0.9 quantile (index flood, Hosking and Wallis 1997; peaks over threshold, Coles 2001, section 4).
    A device's threshold is its index times the ratio that so few blocks exceed.

    Incidents do not count, but `slack` times as many of them as were promised do, cut at `cap`: so false incidents, which must be
    expected, are learned from, and faults, which are more and higher, hardly are. After an incident of `freeze` seconds the device
    begins anew.

    A few blocks say little of a device's day and night: as long as a device has fewer than `recent`, those that lack are what the scores
    that the bundle was calibrated by come to, and its ratios are kept from half of them on.

    Parameters
    ----------
    incidents, per
        So many false incidents of a device in so many seconds, at most.
    block
        Seconds of a block.
    recent
        Blocks that say what is usual for a device.
    blocks
        Blocks whose ratios are kept of a device.
    least
        Blocks of all devices from which on the tail is fitted to them; before that it follows from the scores the bundle was calibrated by.
    every
        Readings after which a device's threshold is set anew.
    freeze
        Seconds of an incident after which readings count again.
    slack, cap
        How many incidents count, in units of those promised, and what their scores are cut at, in units of the threshold.
    """

    incidents: float = Field(default=1.0, gt=0)
    per: float = Field(default=7 * DAY, gt=0)
    block: float = Field(default=1200.0, gt=0)
    recent: int = Field(default=72, ge=4)
    blocks: int = Field(default=512, ge=16)
    least: int = Field(default=200, ge=50)
    every: int = Field(default=20, ge=1)
    freeze: float = Field(default=6 * 3600.0, gt=0)
    slack: float = Field(default=1.5, ge=1)
    cap: float = Field(default=1.5, ge=1)

    @property
    def share(self) -> float:
        """Of blocks that may exceed the threshold."""
        return min(0.5, self.incidents * self.block / self.per)

    @property
    def quiet(self) -> float:
        """Three hours of a week's contract: who is told of an incident once a week is not told twice of one that comes and goes."""
        return self.per / 56

    def open(self, detector: Detector | None, alarms: int = 1, among: int = 1) -> Calibrated:
        return _Contract(self, detector, alarms, among)


class _Contract(Calibrated):
    FEW: ClassVar[int] = 4
    """Blocks before there is an index."""
    ROWS: ClassVar[int] = 20
    """Readings of a block where nothing is known of it."""

    def __init__(self, settings: Contract, detector: Detector | None, alarms: int, among: int) -> None:
        self.settings, self._alarms, self._among = settings, alarms, among
        self._calibrated = None if detector is None else detector.calibration_scores
        self._begun: dict[int, tuple[float, float]] = {}
        super().__init__(settings, self._first(self.ROWS)[0], settings.every)
        self.longest = settings.block
        self.common = BEGIN
        self._growth = math.nan
        # Of each device: its last scores, its last maxima, their ratios to what was usual, and the block under way.
        self._scores = Histories(among - 1)
        self._maxima, self._ratios = Histories(settings.recent, kind=np.float32), Histories(settings.blocks, kind=np.float32)
        self._block, self._count, self._most = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
        self._whole = np.zeros(0)  # readings of a block that is whole
        # How many incidents may count yet; since when one is open, whether it counts, whether the device began anew in it.
        self._quota, self._since = np.zeros(0), np.zeros(0)
        self._counts, self._anew = np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
        self._closed = np.zeros(0, dtype=np.int64)  # blocks that were counted

    def grow(self, devices: int) -> None:
        super().grow(devices)
        for histories in (self._scores, self._maxima, self._ratios):
            histories.reserve(devices)
        self._block, self._count, self._most = grown(self._block, devices), grown(self._count, devices), grown(self._most, devices)
        self._whole, self._quota, self._since = (
            grown(self._whole, devices),
            grown(self._quota, devices),
            grown(self._since, devices, np.nan),
        )
        self._counts, self._anew = grown(self._counts, devices), grown(self._anew, devices)
        self._closed = grown(self._closed, devices)

    def learn(self, batch: Ordered, times: Array, scores: Array, above: Array, inside: Array) -> None:
        self.common -= len(times)
        known = ~np.isnan(scores)
        scores = np.where(known, scores, 0.0)
        peaks = np.where(known, self._peaks(batch, scores), -1.0)
        self._scores.write(batch, scores[:, None])
        whose = batch.devices[batch.starts]
        odd = np.logical_or.reduceat(inside, batch.starts) | ~np.isnan(self._since[whose])
        for device, start, end in zip(whose[odd].tolist(), batch.starts[odd].tolist(), batch.ends[odd].tolist(), strict=True):
            peaks[start:end] = self._within(device, times[start:end], peaks[start:end], inside[start:end])
        blocks = np.floor_divide(times, self.settings.block).astype(np.int64)
        edges = np.diff(blocks, prepend=blocks[0]) != 0
        edges[batch.starts] = True
        parts = np.flatnonzero(edges)
        most, counts = np.maximum.reduceat(peaks, parts), np.add.reduceat(peaks >= 0, parts, dtype=np.int64)
        devices, blocks = batch.devices[parts], blocks[parts]
        # Most readings belong to the block that is under way.
        same = (batch.rank[parts] == 0) & (blocks == self._block[devices])
        self._most[devices[same]] = np.maximum(self._most[devices[same]], most[same])
        self._count[devices[same]] += counts[same]
        others = (column[~same].tolist() for column in (devices, blocks, most, counts))
        for part in zip(*others, strict=True):
            self._go_on(*part)

    def _peaks(self, batch: Ordered, scores: Array) -> Array:
        """Return [n], the highest threshold at which each reading would open an incident."""
        last = [scores]
        for back in range(1, self._among):
            inside = batch.rank >= back
            found = scores[np.maximum(np.arange(len(scores)) - back, 0)]
            if not inside.all():
                found[~inside] = self._scores.back(batch.devices[~inside], back - batch.rank[~inside])[:, 0]
            last.append(found)
        place = self._among - self._alarms
        return np.asarray(np.partition(np.stack(last), place, axis=0)[place])

    def _within(self, device: int, times: Array, peaks: Array, inside: Array) -> Array:
        """Return the peaks of a device around an incident as far as they count; -1 where they do not."""
        found, since = peaks.copy(), float(self._since[device])
        most = self.settings.cap * float(self.thresholds[device])
        for place, (time, within) in enumerate(zip(times.tolist(), inside.tolist(), strict=True)):
            if not within:
                since = math.nan
                continue
            if math.isnan(since):
                since = time
                self._anew[device], self._counts[device] = False, self._quota[device] >= 1
                self._quota[device] -= self._counts[device]
            if abs(time - since) > self.settings.freeze:
                if not self._anew[device]:
                    self._maxima.forget(device)
                    self._anew[device], self._closed[device] = True, self.settings.recent
            elif self._counts[device] and abs(time - since) <= self.settings.block:
                found[place] = min(peaks[place], most)
            else:
                found[place] = -1.0
        self._since[device] = since
        return found

    def _go_on(self, device: int, block: int, most: float, count: int) -> None:
        """Take a device's block further by readings with a highest peak, or begin another."""
        if block != self._block[device]:
            self._close(device)
            self._block[device], self._most[device], self._count[device] = block, 0.0, 0
        self._most[device] = max(self._most[device], most)
        self._count[device] += count

    def _close(self, device: int) -> None:
        """Count the block under way, if enough of it counts."""
        count, whole = int(self._count[device]), float(self._whole[device])
        self._whole[device] = max(0.8 * whole, count)
        if count < max(1.0, whole / 2):
            return
        index, most = self._index(device), max(float(self._most[device]), 1e-30)
        if not math.isnan(index):
            if 2 * self._lacking(device) <= self.settings.recent:
                self._ratios.add(device, np.array([[most / index]]))
            self._quota[device] = min(2.0, self._quota[device] + self.settings.slack * self.settings.share)
        self._maxima.add(device, np.array([[most]]))
        self._closed[device] += 1

    def _index(self, device: int) -> float:
        """Return what a block's maximum usually is for a device; NaN where that is not known yet."""
        if self._maxima.count(device) < self.FEW:
            return math.nan
        return float(np.median(self._maxima.of(device)))

    def _lacking(self, device: int) -> int:
        """Return for how many blocks the bundle stands in."""
        return 0 if self._calibrated is None else max(0, self.settings.recent - int(self._closed[device]))

    def recalibrate(self, device: int) -> None:
        super().recalibrate(device)
        index, seconds = self._index(device), float(self._seconds[device])
        if math.isnan(index):
            if not self._anew[device] and seconds > 0:
                self.thresholds[device] = self._first(self._readings[device] / seconds * self.settings.block)[0]
            return
        threshold, usual = self._first(self._whole[device])
        if lacking := self._lacking(device):
            index = float(np.median(np.append(self._maxima.of(device), np.full(lacking, usual))))
        self.thresholds[device] = index * (threshold / usual if math.isnan(self._growth) else self._growth)

    def acknowledged(self, device: int, score: float, true: bool) -> None:
        super().acknowledged(device, score, true)
        index = self._index(device)
        if not true and not math.isnan(index):
            self._ratios.add(device, np.array([[score / index]]))

    def renew(self) -> None:
        kept = [self._ratios.of(device)[:, 0] for device in range(len(self.thresholds))]
        self.common = max(BEGIN, 2 * self.settings.every * len(kept))
        if sum(len(ratios) for ratios in kept) >= self.settings.least:
            self._growth = exceeded(np.concatenate(kept), self.settings.share)

    def _first(self, rows: float) -> tuple[float, float]:
        """Return a threshold, and the usual maximum of a block of so many readings, by the bundle's calibration scores."""
        if self._calibrated is None:
            return math.inf, 1.0
        # To a tenth: a tail is not fitted for every number of readings that there is.
        size = round(math.log(max(rows, 1.0)) / math.log(1.1))
        if size not in self._begun:
            self._begun[size] = self._begin(1.1**size, *self._calibrated)
        return self._begun[size]

    def _begin(self, rows: float, moments: Moments, sketch: Sketch) -> tuple[float, float]:
        share = self.settings.share / rows
        try:
            threshold = PeaksOverThreshold(rate=share).value(moments, sketch)
        except DataUnusable:
            threshold = 2 * sketch.quantile(1.0)
        return threshold, max(sketch.quantile(0.5 ** (1 / rows)), 1e-30)

    def realised(self, device: int) -> Realised:
        per, watched = self.settings.per, float(self._seconds[device])
        measured = float(self._incidents[device]) * per / watched if watched else 0.0
        assumes = (
            f"that maxima of {self.settings.block / 60:g} min, in units of the device's own last ones, have one tail in the whole "
            "fleet, and that incidents nobody marked as true were false"
        )
        return Realised(self.settings.incidents, measured, f"incidents in {per / DAY:g} days", watched / DAY, assumes)

    def memory(self) -> Memory:
        parts = {"scores": self._scores, "maxima": self._maxima, "ratios": self._ratios}
        kept = {f"{part}/{name}": value for part, histories in parts.items() for name, value in histories.memory().items()}
        own = {name.lstrip("_"): getattr(self, name) for name in OWN}
        return {**super().memory(), **kept, **own, "growth": self._growth, "common": float(self.common)}

    def restore(self, memory: Memory) -> None:
        super().restore(memory)
        for part, histories in (("scores", self._scores), ("maxima", self._maxima), ("ratios", self._ratios)):
            histories.restore({name: memory[f"{part}/{name}"] for name in ("values", "written")})
        # Written before blocks were counted, it holds devices that were settled.
        held = {"closed": np.full_like(memory["block"], self.settings.recent), **memory}
        for name in OWN:
            setattr(self, name, np.array(held[name.lstrip("_")]))
        self._growth, self.common = float(memory["growth"]), int(memory["common"])


def exceeded(ratios: Array, share: float) -> float:
    """Return what a share of values like these exceeds: their quantile, or beyond their 0.9 quantile a generalised Pareto tail.

    Parameters
    ----------
    ratios
        [n] > 0.
    share
        In (0, 1).
    """
    logs = np.sort(np.log(np.asarray(ratios, dtype=np.float64)))
    if share >= 1 - BEYOND:
        return math.exp(float(np.quantile(logs, 1 - share)))
    begin = float(np.quantile(logs, BEYOND))
    if not (logs > begin).any():
        return math.exp(begin)
    beyond = logs[logs > begin] - begin
    if not len(beyond):
        return math.exp(begin)
    # As many values as a fit has use for; more are taken together.
    excess = np.array([part.mean() for part in np.array_split(beyond, min(GROUPS, len(beyond)))])
    shape, scale = pareto(excess, np.ones(len(excess)))
    shape = min(shape, STEEPEST)
    often = share / (1 - BEYOND)
    away = -scale * math.log(often) if abs(shape) < 1e-6 else scale / shape * (often**-shape - 1)
    return math.exp(begin + away)
