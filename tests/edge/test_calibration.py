"""Calibration: thresholds that keep what they promise while scores drift, and do not learn from faults."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vedette.detectors import Pca
from vedette.detectors.base import Detector
from vedette.edge.calibration import Calibration, Fixed, Rate
from vedette.edge.contract import Contract, exceeded
from vedette.edge.incidents import IncidentSettings
from vedette.edge.judge import Judge, Judged
from vedette.edge.readings import Devices, Readings
from vedette.message import Array

MINUTE, DAY = 60.0, 86_400.0


def watched(
    calibration: Calibration, scores: Array, settings: IncidentSettings | None = None, detector: Detector | None = None
) -> tuple[Judge, Judged]:
    """Judge scores [devices, n], one a minute from each device."""
    settings = settings or IncidentSettings()
    devices, rows = scores.shape
    judge = Judge.of(calibration, settings, Devices([f"d{place}" for place in range(devices)]), detector)
    readings = Readings(
        np.tile(np.arange(devices, dtype=np.int32), rows), np.repeat(np.arange(rows) * MINUTE, devices), np.zeros((devices * rows, 1))
    )
    return judge, judge.judge(readings, scores.T.reshape(-1))


def test_a_rate_is_the_conformal_quantile_of_the_last_scores() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))[None]
    judge, _ = watched(Rate(rate=0.1, rows=50, least=50, every=50, freeze=0), scores)
    # Of n scores the ceil((n + 1) (1 - rate))-th smallest: the 46th of the last 50.
    assert judge.calibrated.thresholds[0] == np.sort(scores[0, 50:])[45]


def test_a_rate_is_kept_while_scores_drift() -> None:
    rng = np.random.default_rng(1)
    scores = rng.gamma(2.0, 1.0, (2, 12_000)) * np.linspace(1, 4, 12_000)
    judge, judged = watched(Rate(rate=0.01), scores)
    for device in range(2):
        realised = judge.calibrated.realised(device)
        assert 0.005 < realised.measured < 0.02
        assert realised.promised == 0.01
    fixed = np.quantile(scores[:, :2000], 0.99)
    assert (scores > fixed).mean() > 0.05
    assert np.isfinite(judged.thresholds[2000:]).all()


def test_a_fault_is_not_learned_and_a_new_normal_is() -> None:
    rng = np.random.default_rng(2)
    scores = rng.gamma(2.0, 1.0, (1, 6000))
    scores[0, 3000:3080] += 100
    settings = Rate(rate=0.01, rows=1000, freeze=200)
    judge, judged = watched(settings, scores)
    assert judged.inside[3005:3080].all()
    assert judged.thresholds[3200] < 1.5 * judged.thresholds[2999]
    # The same step for good: the incident ends, and the threshold is above what is normal now.
    scores[0, 3000:] = 60 * rng.gamma(2.0, 1.0, 3000)
    judge, judged = watched(settings, scores)
    assert judged.inside[3010:3200].mean() > 0.9
    assert not judge.incidents.open[0]
    assert judged.thresholds[-1] > 60 * 4
    assert (scores[0, 4500:] > judged.thresholds[4500:]).mean() < 0.03


def test_missing_scores_count_for_nothing() -> None:
    scores = np.random.default_rng(3).gamma(2.0, 1.0, (1, 3000))
    scores[0, :500] = math.nan
    for settings in (Rate(), Contract(per=DAY, least=50)):
        judge, judged = watched(settings, scores)
        assert not judged.inside[:500].any()
        assert 0 < judge.calibrated.thresholds[0] < 100


def test_the_tail_is_the_distributions_own() -> None:
    rng = np.random.default_rng(4)
    # Ratios whose logarithms are exponential: what a share s exceeds is s ** -scale.
    ratios = np.exp(rng.exponential(0.2, 20_000))
    for share in (0.3, 0.01, 1e-3):
        assert exceeded(ratios, share) == pytest.approx(share**-0.2, rel=0.1)
    assert exceeded(np.ones(100), 0.01) == pytest.approx(1.0)


def drifting(devices: int, days: int, seed: int) -> Array:
    """Scores of devices that drift to four times their size, each at its own level, as calm at night as loud by day."""
    rng = np.random.default_rng(seed)
    rows = days * 1440
    at = np.arange(rows)
    levels = rng.uniform(0.5, 2, (devices, 1)) * np.linspace(1, 4, rows) * (1 + 0.2 * np.sin(2 * np.pi * at / 1440))
    return np.asarray(rng.gamma(4.0, 0.25, (devices, rows)) * levels)


def test_a_contract_is_kept_while_scores_drift_and_faults_are_seen() -> None:
    devices, days, first = 4, 14, 4
    scores = drifting(devices, days, 5)
    rng = np.random.default_rng(6)
    faults = [(device, int(at)) for device in range(devices) for at in first * 1440 + 400 * rng.choice(34, 12, replace=False)]
    for device, at in faults:
        scores[device, at : at + 30] *= 6
    contract = Contract(incidents=1, per=2 * DAY)
    judge, judged = watched(contract, scores)
    opened = [(int(event.device[1:]), event.time / MINUTE) for event in judged.events if event.kind == "opened"]
    met = sum(any(device == where and at <= time < at + 30 for where, time in opened) for device, at in faults)
    late = [(where, time) for where, time in opened if time >= first * 1440]
    false = [each for each in late if not any(each[0] == device and at <= each[1] < at + 60 for device, at in faults)]
    allowed = devices * (days - first) / 2
    assert met >= 0.8 * len(faults)
    assert len(false) <= 1.5 * allowed
    # What would have met the contract on the first days drowns in false incidents.
    peaks = np.partition(np.stack([scores[:, :-2], scores[:, 1:-1], scores[:, 2:]]), 1, axis=0)[1][:, : first * 1440]
    _, fixed = watched(Fixed(threshold=float(np.median(peaks.max(axis=1)))), scores)
    assert sum(event.kind == "opened" for event in fixed.events) > 3 * allowed
    # What was marked as true does not count as false.
    realised = judge.calibrated.realised(0)
    judge.calibrated.acknowledged(0, 1.0, true=True)
    assert judge.calibrated.realised(0).measured < realised.measured
    assert realised.promised == 1
    assert realised.days == pytest.approx(days, rel=0.01)


def test_a_contract_begins_anew_after_a_long_incident() -> None:
    scores = drifting(1, 8, 7)
    scores[0, 5 * 1440 :] *= 20
    judge, judged = watched(Contract(per=DAY, recent=24, freeze=4 * 3600.0), scores)
    assert judged.inside[5 * 1440 + 5 : 5 * 1440 + 200].all()
    assert not judged.inside[6 * 1440 :].mean() > 0.1
    assert judge.calibrated.thresholds[0] > np.quantile(scores[0, -1440:], 0.9)


def test_a_quiet_night_says_little_of_the_day_to_come() -> None:
    """A bundle knows nights and days; a device that is new has shown a few quiet hours so far."""
    rng = np.random.default_rng(9)
    at = np.arange(3 * 1440)
    loud = np.where((at % 1440 >= 360) & (at % 1440 < 1080), 1.5, 0.5)[:, None]
    detector = Pca(share=0.5).fit(rng.normal(size=(len(at), 4)) * loud)
    scores = np.stack([detector.decision_function(rng.normal(size=(len(at), 4)) * loud) for _ in range(6)])
    judge, judged = watched(Contract(per=DAY), scores, detector=detector)
    opened = [event.time for event in judged.events if event.kind == "opened"]
    assert sum(time < DAY for time in opened) <= 6
    assert len(opened) <= 18
    # What a device shows itself takes the bundle's place within the day.
    assert (judge.calibrated.thresholds[:6] < np.quantile(scores, 0.9999)).all()
    half = judged.thresholds.reshape(-1, 6)[720]
    assert (half > np.quantile(scores, 0.99)).all()
    # A state that knows of no blocks is of devices that are settled.
    other = Contract(per=DAY).open(detector, 2, 3)
    other.restore({name: value for name, value in judge.calibrated.memory().items() if name != "closed"})
    for calibrated in (judge.calibrated, other):
        calibrated.recalibrate(0)
    assert other.thresholds[0] == judge.calibrated.thresholds[0]


@pytest.mark.parametrize("times", [1 / 9, 9.0])
def test_a_device_that_is_another_than_the_bundle_knows_is_learned_within_the_day(times: float) -> None:
    rng = np.random.default_rng(10)
    detector = Pca(share=0.5).fit(rng.normal(size=(4000, 4)))
    scores = times * detector.decision_function(rng.normal(size=(3 * 1440, 4)))[None]
    _, judged = watched(Contract(per=DAY), scores, detector=detector)
    opened = [event.time for event in judged.events if event.kind == "opened"]
    assert sum(time >= DAY for time in opened) <= 4
    # Nor does it stay deaf to what would be unusual for this device.
    assert (judged.thresholds[1500:] < 1.5 * scores.max()).all()


def test_a_false_alarm_marked_as_such_is_learned_from() -> None:
    scores = drifting(1, 6, 8)
    judges = [watched(Contract(per=DAY, least=50), scores)[0] for _ in range(2)]
    high = 3 * float(judges[0].calibrated.thresholds[0])
    for _ in range(5):
        judges[1].calibrated.acknowledged(0, high, true=False)
    for judge in judges:
        judge.calibrated.renew()
        judge.calibrated.recalibrate(0)
    assert judges[1].calibrated.thresholds[0] > 1.03 * judges[0].calibrated.thresholds[0]
