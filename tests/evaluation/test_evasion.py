"""How many anomalies are missed before and after evasion, on classifiers whose border is known."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import correlated
from vedette.data.table import Table
from vedette.data.windows import Window
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.bundle import load_bundle, save_bundle
from vedette.detectors.dual_network import DualNetwork
from vedette.detectors.mlp import Mlp
from vedette.detectors.threshold import Fixed
from vedette.errors import DataUnusable, DetectorMisused
from vedette.evaluation.evasion import Evaded, try_evasion
from vedette.training.evasion import Evasion
from vedette.training.task import Optimiser

FGSM = Evasion(name="fgsm", budget=0.1)
TRAIN = Table.from_array(np.linspace(0, 10, 11)[:, None], np.arange(11) > 5)


def known(*weights: float, window: int | Window = 1, score: float = 0.5) -> Mlp:
    """A classifier of one feature, 0 to 10 in training, with one hidden unit and the given weights: w, b, w, b."""
    detector = Mlp(hidden=(1,), epochs=0, window=window, threshold=Fixed(score=score)).fit(TRAIN)
    return detector.restore({**detector.memory, "network.model": np.array(weights, dtype=np.float32)})


def rows(values: list[float], labels: list[int]) -> Table:
    return Table.from_array(np.array(values)[:, None], np.array(labels))


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_anomalies_within_the_budget_of_the_border_slip_through(name):
    """Anomalous above 5; a tenth of 0 to 10 is 1: 4 was missed before, 5.2 and 5.7 are missed after, 7 and 9 are caught."""
    test = rows([4, 5.2, 5.7, 7, 9, 1, 6], [1, 1, 1, 1, 1, 0, 0])
    detector = known(1, 0, 10, -5)
    before = detector.decision_function(test)
    assert try_evasion(detector, TRAIN, test, Evasion(name=name, budget=0.1), 0) == Evaded(5, 1, 3)
    assert np.array_equal(detector.decision_function(test), before)


def test_the_whole_window_is_changed():
    """Two rows that sum to more than 10 are anomalous: 6 and 6, each less 1.5, sum to 9; the last alone would leave 10.5."""
    detector = known(1, 1, 0, 10, -10, window=2)
    assert try_evasion(detector, TRAIN, rows([6, 6], [0, 1]), Evasion(name="fgsm", budget=0.15), 0) == Evaded(1, 0, 1)


def test_averaged_scores_are_averaged_after_the_change():
    """Scores 0, 1 and 0.88 average to 0.5 (missed at 0.6) and 0.94; 8 still scores 1, but 4.2 does 0: the second average is 0.5 too."""
    detector = known(1, 0, 100, -50, window=Window(average=2), score=0.6)
    assert try_evasion(detector, TRAIN, rows([1, 9, 5.2], [0, 1, 1]), FGSM, 0) == Evaded(2, 1, 2)


def test_each_row_keeps_its_label_however_rows_are_read(monkeypatch):
    draws = np.random.default_rng(1)
    values, labels = draws.uniform(0, 10, 1000), draws.integers(0, 2, 1000)
    monkeypatch.setattr("vedette.data.windows.CHUNK_VALUES", 0)  # 256 rows a chunk
    found = try_evasion(known(1, 0, 10, -5), TRAIN, rows(list(values), list(labels)), FGSM, 0)
    mine = values[labels == 1]
    assert found == Evaded(len(mine), int((mine <= 5).sum()), int((mine <= 6).sum()))


def test_a_table_without_anomalies_counts_nothing():
    assert try_evasion(known(1, 0, 10, -5), TRAIN, rows([1, 9], [0, 0]), FGSM, 0) == Evaded(0, 0, 0)


def test_convolutions_over_windows_are_evaded_too():
    train, test = correlated(300, 6, seed=1, anomalies=0.4), correlated(200, 6, seed=2, anomalies=0.4)
    small = {"channels": (8, 8, 8), "reduction": 4, "slots": 4, "optimiser": Optimiser(rate=0.01)}
    detector = DualNetwork(**small, window=3, convolve="time", epochs=30).fit(train)
    found = try_evasion(detector, train, test, Evasion(budget=0.3), 0)
    assert found.missed < found.missed_after <= found.anomalies == int(test.label.sum())
    assert try_evasion(detector, train, test, Evasion(budget=0.3), 0) == found


def test_misuse_is_said_in_a_line(tmp_path):
    detector, test = known(1, 0, 10, -5), rows([7], [1])
    with pytest.raises(DetectorMisused, match="on classifiers, and Autoencoder is none"):
        try_evasion(Autoencoder(hidden=(1,), epochs=0).fit(TRAIN), TRAIN, test, FGSM, 0)
    with pytest.raises(DataUnusable, match="no labels"):
        try_evasion(detector, TRAIN, Table.from_array(np.ones((2, 1))), FGSM, 0)
    with pytest.raises(DataUnusable, match="no training row"):
        try_evasion(detector, TRAIN.take(slice(0, 0)), test, FGSM, 0)
    save_bundle(detector, tmp_path)
    with pytest.raises(DetectorMisused, match="engine='torch'"):
        try_evasion(load_bundle(tmp_path), TRAIN, test, FGSM, 0)  # type: ignore[arg-type]
    assert try_evasion(load_bundle(tmp_path, "torch"), TRAIN, test, FGSM, 0) == Evaded(1, 0, 0)  # type: ignore[arg-type]
