"""Order: a detector that looks ahead is found out, and shuffled rows tell what their order was worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.table import Coded, Table
from vedette.data.windows import Window
from vedette.detectors.classical import Pca
from vedette.evaluation.order import lookahead, order, shuffled
from vedette.evaluation.scoring import score_fleet
from vedette.message import Array


class Ahead(Pca):
    """Scores each row by the next one."""

    def raw_scores(self, table: Table) -> Array:
        scores = super().raw_scores(table)
        return np.append(scores[1:], 0.0)


def swinging(rows: int, seed: int, jumping: slice | None = None) -> Table:
    """Readings that swing; while they jump each stands where it often is, so that only its neighbours tell."""
    rng, at = np.random.default_rng(seed), np.arange(rows)
    values = np.stack([np.sin(at / 3), np.cos(at / 7)], axis=1) + rng.normal(0, 0.05, (rows, 2))
    label = np.zeros(rows, dtype=np.int8)
    if jumping is not None:
        values[jumping], label[jumping] = rng.permutation(values[jumping]), 1
    return replace(Table.from_array(values), label=label)


def test_who_looks_ahead_is_found_out() -> None:
    table = correlated(200, 4, 1)
    for window in (Window(), Window(size=5, average=4)):
        assert lookahead(Pca(window=window).fit(table), table) == 0
        assert lookahead(Ahead(window=window).fit(table), table) > 0.01


@pytest.mark.parametrize("shared", [True, False])
def test_what_order_is_worth_shows_where_only_neighbours_tell(shared: bool) -> None:
    train, test = swinging(600, 1), swinging(400, 2, slice(200, 280))
    tests = test if shared else Fleet.of({"a": test, "b": swinging(300, 3, slice(100, 160))})
    found = {}
    for size in (1, 6):
        detector = Pca(window=Window(size=size, scored="whole", average=5), share=0.9).fit(train)
        detectors = dict.fromkeys(("a", "b"), detector)
        found[size] = order(detectors, tests, score_fleet(detectors, tests), 0)
        assert found[size]["lookahead"] == 0
    assert found[6]["ordered"]["auc_pr"] > found[6]["shuffled"]["auc_pr"] + 0.2


def test_without_a_window_order_is_worth_nothing() -> None:
    detectors = {"a": Pca().fit(correlated(200, 4, 1))}
    test = correlated(150, 4, 2, anomalies=0.2)
    found = order(detectors, test, score_fleet(detectors, test), 0)
    assert found["ordered"] == pytest.approx(found["shuffled"])


def test_recordings_are_shuffled_each_in_itself() -> None:
    table = replace(correlated(90, 3, 1), group=Coded(np.repeat(np.arange(3, dtype=np.int32), 30), ("a", "b", "c")), time=np.arange(90.0))
    mixed = shuffled(table, 0)
    assert mixed.time is None
    assert np.array_equal(mixed.group.codes, table.group.codes)
    assert not np.array_equal(mixed.numbers, table.numbers)
    for code in range(3):
        assert sorted(map(tuple, mixed.numbers[mixed.group.codes == code])) == sorted(map(tuple, table.numbers[table.group.codes == code]))
