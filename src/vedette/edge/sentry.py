"""The sentry itself: what becomes of readings, as it follows from those before them and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vedette.edge.calibration import Calibrated, Calibration
from vedette.edge.events import Event
from vedette.edge.incidents import IncidentSettings, Record
from vedette.edge.judge import Judge, Judged
from vedette.edge.models import CareSettings, ModelCare, Station
from vedette.edge.readings import Devices, Readings
from vedette.edge.records import Acknowledgement
from vedette.edge.rolling import RollingScorer
from vedette.edge.scorer import Scorer, input_digest, part_of, parts_as
from vedette.message import Memory

__all__ = ["Outcome", "Sentry"]


class Outcome(NamedTuple):
    """What came of a batch.

    Attributes
    ----------
    judged
        Scores, thresholds, incidents and events.
    samples
        The values that were scored, by their digest, of the readings that are told of.
    """

    judged: Judged
    samples: dict[str, bytes]


class Sentry:
    """Scores readings, judges them and follows incidents; knows neither sources nor clocks.

    The same batches in the same order give the same events with the same ids, after a restart too.

    Parameters
    ----------
    scorer
        The detector at work, or models that devices make of their own readings.
    calibration, incidents, care
        Settings of what it is judged by, and of how a new model takes over.
    devices
        Their names; those that come later are taken from here.
    """

    def __init__(
        self,
        scorer: Scorer | RollingScorer,
        calibration: Calibration,
        incidents: IncidentSettings,
        devices: Devices,
        care: CareSettings | None = None,
    ) -> None:
        self.devices, self._calibration, self._incidents = devices, calibration, incidents
        judge = self._judge(scorer, self._record)
        self.care = ModelCare(Station(scorer, judge), self._judge, care) if isinstance(scorer, Scorer) else None
        self._rolling, self._judge_of_rolling = scorer, judge
        self._samples: dict[str, bytes] = {}

    @property
    def scorer(self) -> Scorer | RollingScorer:
        """What scores now."""
        return self._rolling if self.care is None else self.care.active.scorer

    @property
    def judge(self) -> Judge:
        """What judges now."""
        return self._judge_of_rolling if self.care is None else self.care.active.judge

    @property
    def calibrated(self) -> Calibrated:
        """The thresholds that hold now."""
        return self.judge.calibrated

    @property
    def current(self) -> list[Event]:
        """What was last told of each open incident."""
        return self.judge.incidents.current

    def take(self, readings: Readings, acknowledged: Sequence[Acknowledgement] = ()) -> Outcome:
        """Take a batch.

        Parameters
        ----------
        readings
            In the order of arrival.
        acknowledged
            What people said of earlier events since the last batch.
        """
        for said in acknowledged:
            device = self.devices.place(said.event.device)
            if device is not None:
                self.calibrated.grow(len(self.devices))
                self.calibrated.acknowledged(device, said.event.score, said.true)
        self._samples = {}
        judged = self.judge.watch(self._rolling, readings) if self.care is None else self.care.watch(readings)
        return Outcome(judged, self._samples)

    def _judge(self, scorer: Scorer | RollingScorer, record: Callable[[int, int], Record] | None = None) -> Judge:
        detector = scorer.detector if isinstance(scorer, Scorer) else None
        return Judge.of(self._calibration, self._incidents, self.devices, detector, record)

    def _record(self, device: int, row: int) -> Record:
        values = self.scorer.sample(row)
        digest = input_digest(values)
        self._samples[digest] = np.ascontiguousarray(values, dtype=np.float64).tobytes()
        return Record(self.scorer.causes(values), self.scorer.digest, self.calibrated.digest(device), digest)

    def memory(self) -> Memory:
        """Return all that is known, as arrays that nobody changes any more; ``digests`` are those of the models it needs."""
        if self.care is None:
            parts = {"scorer": self._rolling.memory(), "calibration": self.calibrated.memory()}
        else:
            parts = {"care": self.care.memory()}
        parts["incidents"] = self.judge.incidents.memory()
        found = {name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in parts_as(parts).items()}
        return {**found, "digests": " ".join([self.scorer.digest] if self.care is None else self.care.digests)}

    def restore(self, memory: Memory, other: Scorer | None = None) -> None:
        """Go on from what `memory` returned; `other` is the model on trial, if there was one."""
        if self.care is None:
            self._rolling.restore(part_of(memory, "scorer"))
            self.calibrated.restore(part_of(memory, "calibration"))
        else:
            self.care.restore(part_of(memory, "care"), other)
        self.judge.incidents.restore(part_of(memory, "incidents"))
