"""What is usual in a cluster, and the one threshold for all."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from vedette.data.summaries import Covariance, Moments, Sketch
from vedette.message import Array, Message
from vedette.seeds import stream
from vedette.strategies.base import Turn
from vedette.strategies.calibrate import Calibrate
from vedette.strategies.clustered_grouping import CLUSTER
from vedette.strategies.view import Answers
from vedette.training.task import Done

RESIDUALS = {"a": [1.0, 3.0], "b": [2.0], "c": [10.0, 10.0, 14.0], "new": [5.0]}
CLUSTERS = {"a": 0.0, "b": 0.0, "c": 1.0}


def told(strategy: Calibrate, phase: str) -> dict[str, Message]:
    """Return what nodes are sent back, each having told what it has."""
    turn, view = Turn(0, phase, tuple(RESIDUALS), {}, lambda: stream(0)), Answers(strategy.channels)
    for node, values in RESIDUALS.items():
        column = np.array(values)[:, None]
        tables = {"residuals.moments": Moments.of(column).table(), "residuals.covariance": Covariance.of(column).table()}
        if phase == "scores":
            tables = {"scores.moments": Moments.of(column).table(), "scores.sketch": Sketch.of(column[:, 0]).table()}
        mine = {CLUSTER: CLUSTERS[node]} if node in CLUSTERS else {}
        message, _ = strategy.answer(turn, Done({}, Message(tables=tables)), mine)
        view.add(node, message)
    return dict(strategy.exchange(turn, view, {}).messages or {})


def squares(message: Message, kind: str) -> float:
    """Return the mean square of what a summary is of."""
    table: Array = message.tables[f"residuals.{kind}"]
    if kind == "moments":
        moments = Moments.from_table(table)
        return float(moments.variance[0] + moments.mean[0] ** 2)
    covariance = Covariance.from_table(table)
    return float(covariance.matrix[0, 0] + covariance.mean[0] ** 2)


@pytest.mark.parametrize("kind", ["moments", "covariance"])
def test_residuals_of_all_count_as_so_many_rows_beside_a_clusters(kind: Literal["moments", "covariance"]) -> None:
    """Squares add up to 1 + 9 + 4 and to 100 + 100 + 196, of all seven rows with that of a node in no cluster to 435."""
    found = told(Calibrate(residuals=kind, prior_rows=3), "residuals")
    assert squares(found["*"], kind) == pytest.approx(435 / 7)
    assert squares(found["a"], kind) == squares(found["b"], kind) == pytest.approx((14 + 3 * 435 / 7) / 6)
    assert squares(found["c"], kind) == pytest.approx((396 + 3 * 435 / 7) / 6)
    assert "new" not in found
    alone = told(Calibrate(residuals=kind, prior_rows=0), "residuals")
    assert squares(alone["c"], kind) == pytest.approx(396 / 3)


@pytest.mark.parametrize(("prior_rows", "phase"), [(None, "residuals"), (3.0, "scores")])
def test_without_a_prior_residuals_are_common_and_thresholds_always(prior_rows: Any, phase: str) -> None:
    assert set(told(Calibrate(residuals="moments", prior_rows=prior_rows), phase)) == {"*"}
