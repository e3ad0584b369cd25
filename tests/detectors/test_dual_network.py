"""The dual network with and without a periodic embedding."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.data.table import Feature, Table
from vedette.detectors.dual_network import DualNetwork
from vedette.errors import RecipeError
from vedette.metrics.ranking import ranking
from vedette.runtimes.base import plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.settings import validated
from vedette.strategies import MtadFl
from vedette.training.task import Optimiser

SMALL = {"channels": (8, 8, 8), "slots": 4, "scaling": Scaling(fit="local")}
SMALL |= {"optimiser": Optimiser(name="adamw", rate=0.03, schedule="cosine", batch=32)}
WAVES = {"periodic": {"waves": 6, "channels": 4, "reach": 6.0}}


def striped(rows: int, features: int, seed: int) -> Table:
    """Readings between 0 and 1; anomalous where the last of them lies in one of five narrow stripes."""
    numbers = np.random.default_rng(seed).uniform(size=(rows, features))
    label = (numbers[:, -1] * 5 % 1 < 0.3).astype(np.int8)
    return Table(tuple(Feature(f"x{place}") for place in range(features)), numbers, label=label)


def test_narrow_ranges_of_one_feature_are_learned_with_waves_and_not_without():
    train, test = striped(300, 2, seed=1), striped(300, 2, seed=2)
    plain, waves = (
        ranking(test.label, DualNetwork(**SMALL, **more, scored_by="local", epochs=8).fit(train, seed=0).decision_function(test))["auc_pr"]
        for more in ({}, WAVES)
    )
    assert waves > 0.9
    assert waves > plain + 0.2


def test_embeddings_stay_and_convolutions_travel_among_nodes_with_other_features():
    fleet = Fleet.of({"wide": striped(200, 6, seed=1), "narrow": striped(200, 3, seed=2)})
    detector = DualNetwork(**SMALL, **WAVES)
    outcome = LocalRuntime(fleet).run(plan_of(detector, MtadFl(rounds=1, epochs=1), 3))
    assert outcome.exchanged["rounds"]["*"]["received.0"].tolist() == [[1], [0]]
    for node in fleet:
        assert detector.restored(outcome.memories[node]).decision_function(fleet[node]).std() > 0


def test_waves_are_for_convolutions_over_features():
    with pytest.raises(RecipeError, match="'periodic' is for convolutions over features"):
        validated(DualNetwork, {"convolve": "time", "window": 4, "periodic": {}}, "[detector]")
