"""Scoring: windows of each device however readings were cut into batches, and scores that can be made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import correlated, with_category
from vedette.data.table import Coded, Table
from vedette.detectors import Autoencoder, Detector, Pca, save_bundle
from vedette.edge.readings import Readings
from vedette.edge.rolling import Rolling
from vedette.edge.scorer import Scorer
from vedette.edge.windows import Intervals, ordered
from vedette.errors import DetectorMisused
from vedette.message import Array

ROWS, DEVICES, LEVELS = 1200, 4, ("green", "red", "blue", "yellow")
KINDS: dict[str, tuple[type[Detector], dict[str, Any]]] = {
    "row": (Pca, {}),
    "window": (Autoencoder, {"hidden": (6, 2), "window": 5, "epochs": 1}),
    "average": (Pca, {"window": {"average": 7}}),
    "both": (Pca, {"window": {"size": 4, "average": 3}}),
    "across": (Pca, {"window": {"size": 4, "across": True}}),
    "ranks and text": (Pca, {"window": 3, "scaling": {"numbers": "quantile"}}),
}


def fleet(text: bool) -> Readings:
    """Devices in turn, each with pauses and a clock that is set back at times."""
    rng = np.random.default_rng(5)
    devices = rng.integers(0, DEVICES, ROWS).astype(np.int32)
    times, clocks = np.zeros(ROWS), np.zeros(DEVICES)
    for row, device in enumerate(devices):
        clocks[device] += 1 + 0.1 * rng.random() + 20 * (rng.random() < 0.02) - 7 * (rng.random() < 0.01)
        times[row] = clocks[device]
    numbers = rng.normal(size=(ROWS, 4))
    numbers[rng.random(numbers.shape) < 0.02] = np.nan
    return Readings(devices, times, numbers, (Coded(rng.integers(0, 4, ROWS).astype(np.int32), LEVELS),) if text else ())


@pytest.fixture(scope="module", params=KINDS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Readings]:
    kind, settings = KINDS[request.param]
    train = correlated(400, 4, 1)
    text = request.param == "ranks and text"
    folder = tmp_path_factory.mktemp("bundle")
    save_bundle(kind(**settings).fit(with_category(train, 1) if text else train), folder)
    return folder, fleet(text)


def in_batches(scorer: Any, readings: Readings, size: int) -> Array:
    return np.concatenate([scorer.score(readings.take(slice(at, at + size))) for at in range(0, len(readings), size)])


def test_scores_are_the_detectors_and_batches_do_not_matter(bundle: tuple[Path, Readings]) -> None:
    folder, readings = bundle
    scorer = Scorer.of(folder)
    scores = scorer.score(readings)
    for size in (1, 170):
        part = readings.take(slice(0, 300 if size == 1 else ROWS))
        np.testing.assert_array_equal(in_batches(Scorer.of(folder), part, size), scores[: len(part)])
    for device in range(DEVICES):
        own = readings.take(readings.devices == device)
        table = Table(scorer.features, own.numbers, own.categories, time=own.times)
        np.testing.assert_allclose(scores[readings.devices == device], scorer.detector.decision_function(table), rtol=1e-6)


def test_a_score_can_be_made_again_from_its_sample(bundle: tuple[Path, Readings]) -> None:
    folder, readings = bundle
    scorer = Scorer.of(folder)
    first, rest = readings.take(slice(0, 700)), readings.take(slice(700, None))
    scorer.score(first)
    scores = scorer.score(rest)
    other = Scorer.of(folder)
    for row in (0, 1, 3, 90, 250, len(rest) - 1):
        values = scorer.sample(row)
        assert other.exact(values) == scores[row]
        assert scorer.causes(values)[0].startswith(("s", "lamp"))


def test_numpy_scores_the_same_whatever_comes_together(bundle: tuple[Path, Readings]) -> None:
    folder, readings = bundle
    scorer, part = Scorer.of(folder, "numpy"), readings.take(slice(0, 300))
    assert scorer.graph is None
    scores = scorer.score(part)
    for size in (1, 7, 170):
        np.testing.assert_array_equal(in_batches(Scorer.of(folder, "numpy"), part, size), scores)
    np.testing.assert_allclose(scores, Scorer.of(folder).score(part), rtol=1e-5)
    assert [scorer.exact(scorer.sample(row)) for row in (0, 3, 90, 299)] == scores[[0, 3, 90, 299]].tolist()


def test_a_restart_changes_nothing(bundle: tuple[Path, Readings]) -> None:
    folder, readings = bundle
    whole, before, after = (Scorer.of(folder) for _ in range(3))
    scores = whole.score(readings)
    before.score(readings.take(slice(0, 611)))
    after.restore(before.memory())
    np.testing.assert_array_equal(after.score(readings.take(slice(611, None))), scores[611:])


def test_other_features_are_refused(bundle: tuple[Path, Readings]) -> None:
    folder, readings = bundle
    with pytest.raises(DetectorMisused, match="the readings have 3 numbers"):
        Scorer.of(folder).score(Readings(readings.devices, readings.times, readings.numbers[:, :3], readings.categories))


def test_a_pause_is_known_from_the_past_alone() -> None:
    # A device that sends every second: nothing is a pause until four intervals are known, then 5 s are one, and 4.9 s are not.
    steps = [9.0, 1, 1, 1, 1, 1, 4.9, 5.1, -1, 1]
    times = np.cumsum([0.0, *steps])
    together = Intervals(5.0).breaks(ordered(np.zeros(len(times), np.int32)), times)
    assert np.flatnonzero(together).tolist() == [0, 8, 9]
    one = Intervals(5.0)
    assert [bool(one.breaks(ordered(np.zeros(1, np.int32)), times[at : at + 1])[0]) for at in range(len(times))] == together.tolist()


def test_the_usual_interval_follows_the_last_32() -> None:
    steps = np.concatenate([np.full(100, 1.0), np.full(100, 10.0)])
    times = np.cumsum(steps)
    intervals = Intervals(5.0)
    breaks = intervals.breaks(ordered(np.zeros(200, np.int32)), times)
    # 16 of the 32 intervals up to the 128th are long, then all: the last pause is that of the 128th row at the latest.
    assert intervals.usual[0] == 10
    assert breaks[100:110].all()
    assert not breaks[129:].any()


ROLLING = Rolling(rows=80, least=30, every=10, freeze=15, average=3)


def rolled(readings: Readings, size: int, inside: Array) -> Array:
    scorer, found = ROLLING.open(correlated(2, 4, 0).features), []
    for at in range(0, len(readings), size):
        batch = readings.take(slice(at, at + size))
        for part in scorer.pieces(batch):
            found.append(scorer.score(batch.take(part)))
            scorer.learn(inside[at : at + size][part], np.full(len(inside[at : at + size][part]), 1.5))
    return np.concatenate(found)


def test_rolling_models_change_at_the_same_reading_wherever_batches_end() -> None:
    readings = fleet(False).take(slice(0, 400))
    inside = np.zeros(400, dtype=bool)
    inside[200:300] = True
    scores = rolled(readings, 400, inside)
    assert np.isfinite(scores[readings.devices == 0][30:]).all()
    assert np.isnan(scores[readings.devices == 0][:30]).all()
    for size in (1, 33):
        np.testing.assert_array_equal(rolled(readings, size, inside), scores)


def test_a_rolling_score_can_be_made_again() -> None:
    readings = fleet(False).take(slice(0, 400))
    scorer = ROLLING.open(correlated(2, 4, 0).features)
    other = ROLLING.open(scorer.features)
    for part in scorer.pieces(readings):
        piece = readings.take(part)
        scores = scorer.score(piece)
        row = len(piece) - 1
        if not np.isnan(scores[row]):
            values = scorer.sample(row)
            assert other.exact(values) == scores[row]
            assert scorer.causes(values)
        scorer.learn(np.zeros(len(piece), dtype=bool), np.full(len(piece), np.inf))


def test_what_is_above_the_threshold_enters_a_rolling_model_cut() -> None:
    features, limit = correlated(2, 4, 0).features, 3.0
    settings = Rolling(rows=80, least=30, every=10, freeze=4)
    usual = np.random.default_rng(0).normal(size=(60, len(features)))

    def scored(rows: Array, inside: bool) -> tuple[Array, Array]:
        """Score ten rows after the usual ones, and return what the model keeps of them."""
        scorer, scores = settings.open(features), []
        readings = Readings(np.zeros(70, np.int32), np.arange(70.0), np.concatenate([usual, rows]))
        for part in scorer.pieces(readings):
            scores.append(scorer.score(readings.take(part)))
            late = np.arange(70)[part] >= 60
            scorer.learn(late & inside, np.where(late, limit, np.inf))
        return np.concatenate(scores)[60:], np.asarray(scorer.memory()["rows/values"])[0, 60:70]

    # A million deviations are where scaling ends.
    for far in (50.0, 1e12):
        strange = np.full((10, len(features)), far)
        scores, kept = scored(strange, inside=False)
        assert (scores > limit).all()
        # What was kept scores just the threshold, by the same model.
        np.testing.assert_allclose(scored(kept, inside=False)[0], limit, rtol=1e-3)
        # An incident that lasts is how the device is now.
        kept = scored(strange, inside=True)[1]
        assert (kept[:4] < far / 2).all()
        np.testing.assert_array_equal(kept[4:], strange[4:])
