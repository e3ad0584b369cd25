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
from vedette.errors import DataUnusable, DetectorMisused
from vedette.evaluation.latency import latency
from vedette.training.task import Optimiser

TABLE = correlated(120, 5, 1)


@pytest.fixture(scope="module")
def recurrent() -> Detector:
    window = Window(size=4, average=3)
    return LstmAutoencoder(window=window, hidden=(4,), epochs=1, residual="mahalanobis", optimiser=Optimiser(batch=16)).fit(TABLE)


def test_times_are_told_one_by_one_and_under_load(recurrent: Detector) -> None:
    """Of more readings than it can keep up with one by one, many are judged together, and the last of a batch waited for it."""
    found = latency(recurrent, TABLE, loads=(1_000, 30_000), readings=50)
    assert found["readings"] == 50
    assert 0 < found["p50"] <= found["p99"] < 1
    assert 0 < found["cpu_p50"] <= found["cpu_p99"]
    calm, busy = found["loads"]
    assert [each["per_second"] for each in found["loads"]] == [1_000, 30_000]
    assert calm["readings"] == 1_000
    assert 1 <= calm["together"] < busy["together"]
    assert all(0 < each["p50"] <= each["p99"] for each in found["loads"])


def test_what_cannot_be_measured_is_refused(recurrent: Detector) -> None:
    with pytest.raises(DataUnusable, match="there are none"):
        latency(recurrent, TABLE.take(slice(0, 0)))
    with pytest.raises(DetectorMisused, match="not fitted"):
        latency(Pca(), Table.from_array(np.zeros((3, 5))))
