"""Care for models: a better one takes over between two readings, a worse one does not, or gives way again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import correlated
from vedette.data.table import Table
from vedette.detectors import Pca, save_bundle
from vedette.detectors.bundle import digest_of
from vedette.edge.calibration import Fixed
from vedette.edge.drift import Drift
from vedette.edge.incidents import Incidents, IncidentSettings
from vedette.edge.judge import Judge
from vedette.edge.models import CareSettings, ModelCare, Station, Versions
from vedette.edge.readings import Devices, Readings
from vedette.edge.scorer import Scorer
from vedette.errors import CheckpointError
from vedette.message import Array

SETTINGS = CareSettings(shadow=300, probation=400, versions=2)
DEVICES = Devices(["a", "b"])


def bundle(folder: Path, train: Table, rows: slice = slice(None)) -> Path:
    save_bundle(Pca(window=2).fit(train.take(rows)), folder)
    return folder


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    train = correlated(2000, 4, 0)
    half = Table(train.features, np.asarray(train.numbers) * 0.2)
    return {
        "first": bundle(folder / "first", train, slice(0, 1000)),
        "second": bundle(folder / "second", train, slice(1000, 2000)),
        "strange": bundle(folder / "strange", half),
        "wide": bundle(folder / "wide", correlated(500, 5, 0)),
    }


def judge_of(scorer: Scorer) -> Judge:
    return Judge(Fixed().open(scorer.detector), Incidents(IncidentSettings()), DEVICES)


def care_of(folder: Path) -> ModelCare:
    scorer = Scorer.of(folder)
    return ModelCare(Station(scorer, judge_of(scorer)), judge_of, SETTINGS)


def readings_of(rows: int, seed: int = 1) -> Readings:
    numbers = np.asarray(correlated(rows, 4, seed).numbers, dtype=np.float64)
    return Readings(np.tile(np.array([0, 1], np.int32), rows // 2), np.arange(rows) / 2.0, numbers)


def watched(care: ModelCare, readings: Readings, size: int) -> Array:
    return np.concatenate([care.watch(readings.take(slice(at, at + size))).scores for at in range(0, len(readings), size)])


def test_a_good_model_takes_over_after_its_time_in_the_shadow(bundles: dict[str, Path]) -> None:
    readings = readings_of(1000)
    alone = [watched(care_of(bundles[name]), readings, 1000) for name in ("first", "second")]
    for size in (1000, 7):
        care = care_of(bundles["first"])
        care.offer(Scorer.of(bundles["second"]))
        scores = watched(care, readings, size)
        # Between the 300th and the 301st reading, with windows that were filled in the shadow.
        np.testing.assert_array_equal(scores[:300], alone[0][:300])
        np.testing.assert_array_equal(scores[300:], alone[1][300:])
        assert [verdict.kind for verdict in care.verdicts] == ["swapped", "kept"]
        assert care.verdicts[0].digest == digest_of(bundles["second"])
        assert care.digests == [digest_of(bundles["second"])]


def test_a_model_that_cries_wolf_is_refused(bundles: dict[str, Path]) -> None:
    care, readings = care_of(bundles["first"]), readings_of(1000)
    care.offer(Scorer.of(bundles["strange"]))
    alone = watched(care_of(bundles["first"]), readings, 1000)
    np.testing.assert_array_equal(watched(care, readings, 64), alone)
    (verdict,) = care.verdicts
    assert verdict.kind == "refused"
    assert "readings above its threshold" in verdict.why or "stability index" in verdict.why


def test_a_model_that_does_worse_later_gives_way_again(bundles: dict[str, Path]) -> None:
    # What it was trained on is all it sees in the shadow; then come readings that it takes for anomalies and the old one does not.
    care, readings = care_of(bundles["first"]), readings_of(1200)
    small = Readings(readings.devices, readings.times, np.where(np.arange(1200)[:, None] < 320, 0.2, 1.0) * readings.numbers)
    care.offer(Scorer.of(bundles["strange"]))
    scores = watched(care, small, 50)
    assert [verdict.kind for verdict in care.verdicts] == ["swapped", "rolled-back"]
    np.testing.assert_array_equal(scores[700:], watched(care_of(bundles["first"]), small, 50)[700:])


def test_incidents_go_on_across_a_change_and_a_restart(bundles: dict[str, Path]) -> None:
    readings = readings_of(1000)
    numbers = readings.numbers.copy()
    numbers[280:340:2] *= np.array([9.0, -9.0, 9.0, -9.0])
    readings = Readings(readings.devices, readings.times, numbers)
    events = []
    for restarted in (False, True):
        care = care_of(bundles["first"])
        care.offer(Scorer.of(bundles["second"]))
        told = care.watch(readings.take(slice(0, 310))).events
        if restarted:
            again = care_of(bundles["second"])
            again.restore(care.memory(), Scorer.of(bundles["first"]))
            again.active.judge.incidents.restore(care.active.judge.incidents.memory())
            assert again.digests == care.digests
            care = again
        told += care.watch(readings.take(slice(310, None))).events
        events.append(told)
    assert events[0] == events[1]
    opened = [event for event in events[0] if event.kind == "opened" and 140 <= event.time <= 150]
    closed = [event for event in events[0] if event.kind == "closed" and event.incident == opened[0].incident]
    assert len(opened) == len(closed) == 1
    assert closed[0].time >= 169


def test_a_model_of_other_features_is_refused_at_once(bundles: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match="other features"):
        care_of(bundles["first"]).offer(Scorer.of(bundles["wide"]))


def test_versions_are_kept_and_the_oldest_goes(bundles: dict[str, Path], tmp_path: Path) -> None:
    versions = Versions(tmp_path / "kept", most=2)
    digests = []
    for name in ("first", "second", "strange"):
        assert versions.arrived(bundles[name])
        assert not versions.arrived(bundles[name])
        place = versions.keep(bundles[name])
        digests.append(digest_of(bundles[name]))
        assert digest_of(place) == digests[-1]
        Scorer.of(place)
    assert versions.digests == digests[1:]
    with pytest.raises(CheckpointError, match="not kept any more"):
        versions.place(digests[0])
    versions.back(digests[1])
    assert versions.digests == [digests[2], digests[1]]
    (broken := tmp_path / "broken").mkdir()
    (broken / "detector.json").write_text("{}")
    with pytest.raises(CheckpointError):
        versions.keep(broken)
    assert versions.digests == [digests[2], digests[1]]


def test_drift_is_seen_in_scores_and_named_by_feature(bundles: dict[str, Path]) -> None:
    scorer = Scorer.of(bundles["first"])
    same, moved = Drift(scorer.detector), Drift(scorer.detector)
    readings = readings_of(1000, seed=3)
    same.take(readings, scorer.score(readings))
    assert same.scores < 0.1
    numbers = readings.numbers + np.array([0.0, 5.0, 0.0, 0.0])
    shifted = Readings(readings.devices, readings.times, numbers)
    moved.take(shifted, Scorer.of(bundles["first"]).score(shifted))
    assert moved.scores > 0.25
    assert max(moved.features, key=lambda name: abs(moved.features[name] - same.features[name])) == "s1"


def test_drift_of_many_small_batches_is_that_of_few_and_goes_on_from_anywhere(bundles: dict[str, Path]) -> None:
    scorer = Scorer.of(bundles["first"])
    readings = readings_of(1000, seed=3)
    scores = scorer.score(readings)
    whole, small, stored = (Drift(scorer.detector) for _ in range(3))
    whole.take(readings, scores)
    for first in range(0, 1000, 7):
        part = slice(first, first + 7)
        small.take(readings.take(part), scores[part])
        stored.take(readings.take(part), scores[part])
        other = Drift(scorer.detector)
        other.restore(stored.memory())
        stored = other
    assert stored.scores == small.scores
    assert stored.features == small.features
    assert small.scores == pytest.approx(whole.scores, abs=0.01)
    assert small.features == pytest.approx(whole.features, abs=0.03)
