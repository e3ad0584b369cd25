"""The loudest alarms of a run, each with the reading it comes from."""

from __future__ import annotations

import numpy as np

from vedette.data.table import Table
from vedette.detectors import Pca
from vedette.detectors.baselines import IsolationForest
from vedette.evaluation.reasons import reasons
from vedette.evaluation.report.scores import reasons_of
from vedette.evaluation.scoring import score_fleet

SCALING = {"numbers": "standard"}


def rows(seed: int, faults: dict[int, int]) -> Table:
    """Readings that go together, but for one of them in some rows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1000, 1)) + rng.normal(0, 0.1, (1000, 4))
    label = np.zeros(1000, dtype=np.int8)
    for row, feature in faults.items():
        x[row : row + 4, feature] += np.array([3, 6, 3, 4])
        label[row : row + 4] = 1
    return Table.from_array(x, label, ["flow", "pressure", "current", "level"])


def test_loudest_alarms_are_explained_and_what_flickers_is_one() -> None:
    detector = Pca(share=0.5, scaling=SCALING).fit(rows(0, {}))
    table = rows(1, {100: 2, 104: 2, 130: 2, 500: 0, 900: 3})
    (scored,) = score_fleet({"a": detector}, table)
    found = reasons(detector, table, scored)
    assert sorted(alarm["row"] // 100 for alarm in found) == [1, 5, 9]
    assert found[0]["score"] == max(alarm["score"] for alarm in found) > 1
    named = {alarm["row"] // 100: alarm["said"][0].split()[0] for alarm in found}
    assert named == {1: "current", 5: "flow", 9: "level"}
    assert all(alarm["right"] for alarm in found)
    (shown,) = reasons_of({"reasons": [{"method": "pca", "protocol": "strict", "seed": 0, "node": "*", "alarms": found}]})
    assert shown["node"] == "All nodes together"
    assert {alarm["verdict"] for alarm in shown["alarms"]} == {"right"}


def test_without_alarms_or_features_there_is_nothing_to_say() -> None:
    train, quiet = rows(0, {}), rows(2, {})
    for detector in (Pca(share=0.9, scaling=SCALING, threshold={"name": "fixed", "score": 1e9}), IsolationForest(scaling=SCALING)):
        fitted = detector.fit(train)
        (scored,) = score_fleet({"a": fitted}, quiet)
        assert reasons(fitted, quiet, scored) == []
