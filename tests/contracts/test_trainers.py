"""Every registered trainer against the torch loop: whoever trains, the weights are the same."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from test_strategies import DETECTORS, PAIRS, QUICK, rows_for, strategy

from conftest import correlated, three_nodes, with_category
from vedette.data.fleet import Fleet
from vedette.data.windows import Window
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.mlp import Mlp
from vedette.errors import RecipeError, TrainingDiverged, VedetteError
from vedette.runtimes.base import plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.topology import Ring
from vedette.strategies.fedavg import FedAvg
from vedette.strategies.local import Local
from vedette.training.cohort.trainer import CohortTrainer
from vedette.training.lowmem.trainer import LowmemTrainer
from vedette.training.task import Optimiser
from vedette.training.trainer import LoopTrainer
from vedette.training.trainers import TRAINERS

OTHERS = {
    "cohort": CohortTrainer(),
    "cohort of two": CohortTrainer(chunk=2),
    "lowmem": LowmemTrainer(),
    "lowmem, two": LowmemTrainer(together=2),
}
NEAR = 1e-6
REFUSED = {
    "se-ea-edn": "knows dense layers",
    "lstm-autoencoder": "knows dense layers",
    "fedkd": "no room for a teacher",
    "probe-teacher": "no room for a teacher|trains whole networks",
}
"""Strategies and detectors that `lowmem` cannot do, and says so."""
CASES = [*(pair for pair in PAIRS if pair.values[1] in ("autoencoder", "mlp", "se-ea-edn")), ("local", "lstm-autoencoder")]


def ends(fleet: Fleet, detector, chosen, trainer=None, **more):
    """Train by torch's loop, the oracle, unless another trainer is given."""
    return LocalRuntime(fleet).run(plan_of(detector, chosen, 7, trainer=trainer or LoopTrainer(), **more))


def apart(one, other) -> float:
    """Largest difference of any array that both runs left in any node's memory, thresholds and residuals included."""
    worst = 0.0
    for node, memory in one.memories.items():
        assert {key for key in memory if not key.startswith("optimiser.")} == {
            key for key in other.memories[node] if not key.startswith("optimiser.")
        }
        for key, value in memory.items():
            if key.startswith(("network.", "residuals.", "scores.moments")):
                scale = max(1.0, float(np.abs(value).max()))
                worst = max(
                    worst, float(np.abs(np.asarray(value, dtype=float) - np.asarray(other.memories[node][key], dtype=float)).max()) / scale
                )
    return worst


def test_all_are_tried():
    assert {name.split(maxsplit=1)[0].strip(",") for name in OTHERS} | {"torch", "dp-sgd"} == set(TRAINERS)


def dense_of(detector: str):
    return DETECTORS[detector] if detector != "mlp" else Mlp(hidden=(6, 5), **QUICK)


@cache
def by_the_loop(name: str, detector: str):
    """Return what torch's loop comes to, which several trainers are held against, once made."""
    return ends(rows_for(detector, three_nodes()), dense_of(detector), strategy(name, rounds=2))


def is_rare(trainer: str, name: str, detector: str) -> bool:
    """Whether a case is left to `make test-all`: convolutions are never stacked, and two in lean memory are tried with FedAvg alone."""
    if detector == "se-ea-edn":
        return trainer == "cohort of two"
    return trainer == "lowmem, two" and name not in ("fedavg", "gossip-fedavg")


@pytest.mark.parametrize(
    ("trainer", "name", "detector"),
    [
        pytest.param(trainer, *pair, marks=[*getattr(case, "marks", ()), *([pytest.mark.slow] if is_rare(trainer, *pair) else [])])
        for trainer in sorted(OTHERS)
        for case in CASES
        for pair in [getattr(case, "values", case)]
    ],
)
def test_every_strategy_ends_with_the_same_weights(name, detector, trainer, fleet):
    """Where a trainer cannot do the work it says so, or has torch do it."""
    learner, rows, chosen = dense_of(detector), rows_for(detector, fleet), strategy(name, rounds=2)
    refused = [REFUSED[part] for part in (name, detector) if part in REFUSED]
    if refused and trainer.startswith("lowmem"):
        with pytest.raises(VedetteError, match="|".join(refused)):
            ends(rows, learner, chosen, OTHERS[trainer])
        return
    expected, found = by_the_loop(name, detector), ends(rows, learner, chosen, OTHERS[trainer])
    for one, other in zip(expected.history, found.history, strict=True):
        assert other.loss == (None if one.loss is None else pytest.approx(one.loss, rel=1e-4))
    assert apart(expected, found) < NEAR


PLAIN, HEAVY = Optimiser(name="sgd", rate=0.05, batch=16), Optimiser(name="sgd", rate=0.05, momentum=0.9, decay=0.01, batch=16)
ADAM = Optimiser(name="adam", rate=0.01, decay=0.1, batch=7)
ADAMW = Optimiser(name="adamw", rate=0.01, decay=0.1, schedule="cosine", batch=16)


# A sign turns on the last digit, and Adam's steps, which do not shrink with the gradient, carry it on: no mae for them.
@pytest.mark.parametrize("trainer", sorted(OTHERS))
@pytest.mark.parametrize(
    ("optimiser", "loss"), [(PLAIN, "mse"), (PLAIN, "mae"), (HEAVY, "mse"), (HEAVY, "mae"), (ADAM, "mse"), (ADAMW, "mse")]
)
def test_every_optimiser_on_ragged_nodes(optimiser, loss, trainer):
    """Nodes with other numbers of rows, of batches, and of rows in their last batch; one with a single row."""
    sizes = (40, 41, 47, 33, 90, 1, 16, 32)
    ragged = Fleet.of({f"n{place}": correlated(size, 5, seed=place) for place, size in enumerate(sizes)})
    learner = Autoencoder(hidden=(4, 3), loss=loss, residual="absolute", **{**QUICK, "optimiser": optimiser})
    chosen = FedAvg(rounds=3, epochs=1.5)
    assert apart(ends(ragged, learner, chosen), ends(ragged, learner, chosen, OTHERS[trainer])) < NEAR


@pytest.mark.parametrize("trainer", sorted(OTHERS))
def test_windows_categories_and_peers(trainer):
    fleet = Fleet.of({f"n{place}": with_category(correlated(60 + place, 4, seed=place, anomalies=0.2), seed=place) for place in range(5)})
    for learner in (
        Autoencoder(hidden=(4,), window=Window(size=4, stride=2), residual="variance", **QUICK),
        Mlp(hidden=(6,), activation="leaky-relu", rebalance={"name": "over-sampling"}, **QUICK),
    ):
        rows = fleet if isinstance(learner, Mlp) else fleet.map(lambda table: table.normal())
        for chosen, more in ((Local(rounds=2), {}), (strategy("gossip-fedavg", rounds=2, merging=1.0), {"topology": Ring()})):
            # Peers weigh each other by the inverse of a loss, which makes more of the last digits.
            near = NEAR if isinstance(chosen, Local) else 2 * NEAR
            assert apart(ends(rows, learner, chosen, **more), ends(rows, learner, chosen, OTHERS[trainer], **more)) < near


def test_what_a_cohort_comes_to_does_not_depend_on_its_size():
    """To the bit: company changes nothing, so neither does the number of workers or of threads."""
    learner = Autoencoder(hidden=(5, 3), **QUICK)
    rows = Fleet.of({f"n{place}": correlated(40 + size, 5, seed=place) for place, size in enumerate((0, 0, 1, 3, 4, 8, 9, 24, 40))})
    ways = [*((chunk, 1) for chunk in (0, 1, 2, 3)), (1, 2), (2, 3), (1, 16)]
    found = [ends(rows, learner, FedAvg(rounds=2), CohortTrainer(chunk=chunk, threads=threads)) for chunk, threads in ways]
    assert all(apart(found[0], other) == 0 for other in found[1:])


@pytest.mark.parametrize("trainer", sorted(OTHERS))
def test_a_node_that_diverges_is_named(trainer, fleet):
    wild = Autoencoder(hidden=(4,), **{**QUICK, "optimiser": Optimiser(name="sgd", rate=1e12, batch=8)})
    with pytest.raises((TrainingDiverged, RecipeError), match=r"node 'node-\d', round \d+: the loss is no longer a number"):
        ends(fleet.map(lambda table: table.normal()), wild, FedAvg(rounds=3), OTHERS[trainer])
