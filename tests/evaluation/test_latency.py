"""Latency: what is told of times can be trusted."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import correlated
from vedette.data.table import Table
from vedette.data.windows import Window
from vedette.detectors.base import Detector
from vedette.detectors.classical import Pca
from vedette.detectors.lstm import LstmAutoencoder
from vedette.edge.readings import Readings
from vedette.edge.scorer import Scorer
from vedette.errors import DataUnusable, DetectorMisused
from vedette.evaluation.latency import latency
from vedette.message import Array
from vedette.training.task import Optimiser

TABLE = correlated(120, 5, 1)


@pytest.fixture(scope="module")
def recurrent() -> Detector:
    window = Window(size=4, average=3)
    return LstmAutoencoder(window=window, hidden=(4,), epochs=1, residual="mahalanobis", optimiser=Optimiser(batch=16)).fit(TABLE)


class Clock:
    """A clock that stands still but where somebody sleeps, or where it is put on: so much a call of the scorer."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    thread_time = perf_counter

    def sleep(self, seconds: float) -> None:
        self.now += seconds + 1e-12


@pytest.mark.slow
def test_times_are_told_one_by_one_and_under_load(recurrent: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more readings than it can keep up with one by one, many are judged together, and the last of a batch waited for it."""
    clock, score = Clock(), Scorer.score

    def slow(self: Scorer, readings: Readings) -> Array:
        clock.now += 2e-4
        return score(self, readings)

    monkeypatch.setattr("vedette.evaluation.latency.time", clock)
    monkeypatch.setattr(Scorer, "score", slow)
    found = latency(recurrent, TABLE, loads=(100, 30_000), readings=50)
    assert found["readings"] == 50
    assert [found[key] for key in ("p50", "p99", "cpu_p50", "cpu_p99")] == pytest.approx([2e-4] * 4)
    calm, busy = found["loads"]
    assert [each["per_second"] for each in found["loads"]] == [100, 30_000]
    assert [each["readings"] for each in found["loads"]] == [400, 30_000]
    assert calm["p50"] == pytest.approx(2e-4, rel=1e-6)
    assert 1 <= calm["together"] < 1.1
    # As many as arrive while those before them are judged; whoever came first waited for those.
    assert 5 < busy["together"] < 7
    assert 2e-4 < busy["p50"] < busy["p99"] <= 4e-4


def test_clocks_of_the_machine_are_read(recurrent: Detector) -> None:
    found = latency(recurrent, TABLE, loads=(1_000,), readings=50)
    assert 0 < found["p50"] <= found["p99"] < 60
    assert 0 < found["cpu_p50"] <= found["cpu_p99"]
    assert 0 < found["loads"][0]["p50"] <= found["loads"][0]["p99"]


def test_what_cannot_be_measured_is_refused(recurrent: Detector) -> None:
    with pytest.raises(DataUnusable, match="there are none"):
        latency(recurrent, TABLE.take(slice(0, 0)))
    with pytest.raises(DetectorMisused, match="not fitted"):
        latency(Pca(), Table.from_array(np.zeros((3, 5))))
