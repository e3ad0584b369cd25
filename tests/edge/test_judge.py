"""Judging: the same thresholds, incidents and events however readings were cut into batches, and after a restart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conftest import correlated
from vedette.detectors import Detector, Pca
from vedette.edge.calibration import CALIBRATIONS, Calibration
from vedette.edge.incidents import IncidentSettings
from vedette.edge.judge import Judge, Judged
from vedette.edge.readings import Devices, Readings
from vedette.message import Array

NAMES = ("a", "b", "c")
SETTINGS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "rate": {"rate": 0.02, "rows": 300, "least": 60, "every": 7, "freeze": 40},
    "contract": {"block": 30.0, "per": 3000.0, "recent": 8, "blocks": 60, "least": 50, "freeze": 120.0},
}


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Pca().fit(correlated(2000, 4, 0))


def scored(detector: Detector, rows: int, seed: int) -> tuple[Readings, Array]:
    """Scores of devices that drift, each with a stretch of faults."""
    rng = np.random.default_rng(seed)
    devices = rng.integers(0, len(NAMES), rows).astype(np.int32)
    scores = rng.gamma(2.0, detector.threshold_ / 8, rows) * (1 + devices + np.arange(rows) / rows)
    for device in range(len(NAMES)):
        own = np.flatnonzero(devices == device)
        at = 200 + 150 * device
        scores[own[at : at + 60]] *= 20
    return Readings(devices, np.arange(rows) / 3.0, np.zeros((rows, 4))), scores


def judge_of(detector: Detector, name: str) -> Judge:
    calibration: Calibration = CALIBRATIONS[name](**SETTINGS[name])
    settings = IncidentSettings()
    return Judge.of(calibration, settings, Devices(NAMES), detector)


def run(judge: Judge, readings: Readings, scores: Array, size: int) -> list[Judged]:
    return [judge.judge(readings.take(slice(at, at + size)), scores[at : at + size]) for at in range(0, len(scores), size)]


@pytest.mark.parametrize("name", SETTINGS)
def test_batches_do_not_matter(detector: Detector, name: str) -> None:
    readings, scores = scored(detector, 2000, 1)
    (whole,) = run(judge_of(detector, name), readings, scores, 2000)
    assert any(event.kind == "opened" for event in whole.events)
    for size in (7, 1000):
        parts = run(judge_of(detector, name), readings, scores, size)
        np.testing.assert_array_equal(np.concatenate([part.thresholds for part in parts]), whole.thresholds)
        np.testing.assert_array_equal(np.concatenate([part.inside for part in parts]), whole.inside)
        assert [event for part in parts for event in part.events] == whole.events


@pytest.mark.parametrize("name", SETTINGS)
def test_a_restart_changes_nothing(detector: Detector, name: str) -> None:
    readings, scores = scored(detector, 2000, 2)
    (whole,) = run(judge_of(detector, name), readings, scores, 2000)
    before = judge_of(detector, name)
    first = before.judge(readings.take(slice(0, 777)), scores[:777])
    after = judge_of(detector, name)
    after.calibrated.restore(before.calibrated.memory())
    after.incidents.restore(before.incidents.memory())
    second = after.judge(readings.take(slice(777, None)), scores[777:])
    np.testing.assert_array_equal(np.concatenate([first.thresholds, second.thresholds]), whole.thresholds)
    assert first.events + second.events == whole.events
    assert before.calibrated.digest(1) != after.calibrated.digest(1) or name == "fixed"


def test_a_device_where_nothing_happens_is_left_alone(detector: Detector) -> None:
    readings, scores = scored(detector, 300, 3)
    quiet = judge_of(detector, "fixed").judge(readings, scores * 0)
    assert not quiet.events
    assert not quiet.inside.any()
    np.testing.assert_array_equal(quiet.thresholds, detector.threshold_)
