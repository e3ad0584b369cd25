"""What stacks of networks do where they differ from the torch loop: without torch, with odd networks, with rows that are kept."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from conftest import correlated
from vedette.detectors.autoencoder import Autoencoder
from vedette.training.cohort import trainer as cohort
from vedette.training.cohort.slot import Shape
from vedette.training.cohort.stack import Stack
from vedette.training.cohort.trainer import CohortTrainer
from vedette.training.dense import Dense
from vedette.training.task import Job, Optimiser, Task, Work
from vedette.training.trainer import LoopTrainer

DENSE = [Dense(5, 7, "tanh"), Dense(7, 4, "sigmoid"), Dense(4, 6, "leaky-relu", 0.2), Dense(6, 5)]


def stepped(optimiser: Optimiser) -> np.ndarray:
    rng = np.random.default_rng(0)
    stack = Stack(DENSE, 3, 8, "mse", optimiser)
    stack.weights[:] = rng.normal(size=stack.weights.shape) * 0.3
    for _ in range(20):
        stack.step(rng.normal(size=(3, 8, 5)).astype(np.float32), None, 1 / 8, 0.01)
    return stack.weights.copy()


@pytest.mark.parametrize("optimiser", [Optimiser(), Optimiser(decay=0.1), Optimiser(name="adamw", decay=0.1)])
def test_adam_is_the_same_without_torch(optimiser: Optimiser, monkeypatch: pytest.MonkeyPatch) -> None:
    by_torch = stepped(optimiser)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert np.allclose(stepped(optimiser), by_torch, atol=1e-6)


def test_a_gradient_reaches_every_activation() -> None:
    """Against numerical slopes of the loss: plain descent at rate 1 moves each weight by its slope."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 8, 5)).astype(np.float32)
    start = rng.normal(size=sum(layer.parameters for layer in DENSE)) * 0.5

    def loss(weights: np.ndarray) -> float:
        values, at = x[0].astype(np.float64), 0
        for layer in DENSE:
            matrix = weights[at : at + layer.inputs * layer.outputs].reshape(layer.outputs, layer.inputs)
            at += layer.parameters
            values = values @ matrix.T + weights[at - layer.outputs : at]
            if layer.activation == "tanh":
                values = np.tanh(values)
            elif layer.activation == "sigmoid":
                values = 1 / (1 + np.exp(-values))
            elif layer.activation == "leaky-relu":
                values = np.where(values < 0, 0.2 * values, values)
        return float(((values - x[0]) ** 2).mean())

    stack = Stack(DENSE, 1, 8, "mse", Optimiser(name="sgd"))
    stack.weights[0] = start
    before = stack.weights[0].astype(np.float64)
    assert stack.step(x, None, 1 / 8, 1.0)[0] == pytest.approx(loss(before), rel=1e-5)
    tiny = np.eye(len(start)) * 1e-5
    slopes = np.array([(loss(before + step) - loss(before - step)) / 2e-5 for step in tiny])
    assert np.allclose(before - stack.weights[0], slopes, atol=2e-6)


def test_networks_that_end_in_an_activation_are_left_to_torch() -> None:
    layers = [{"name": "a", "kind": "dense", "inputs": 3, "outputs": 3}, {"name": "b", "kind": "tanh"}]
    assert not Shape(layers).dense
    assert Shape(layers[:1]).dense

    class Bounded(Autoencoder):
        def networks(self, features):
            ((role, layers),) = super().networks(features).items()
            return {role: [*layers, {"name": "end", "kind": "tanh"}]}

    detector, table = Bounded(hidden=(2,), optimiser=Optimiser(batch=16)), correlated(60, 4, seed=0)
    memory = detector.scaling.fitted(detector.scaling.summary(table)).memory()
    job = Job("n", table, Work(tasks=(Task(epochs=2),)), memory)
    found = [next(iter(each.run(detector, [job], (), 7, 0, "train")))[2]["network.model"] for each in (LoopTrainer(), CohortTrainer())]
    assert np.array_equal(*found)


def test_one_trainer_serves_detectors_of_other_shapes() -> None:
    """What it keeps for one must not be taken for that of another that stands in its place in memory."""
    trainer, table = CohortTrainer(), correlated(60, 4, seed=0)
    for hidden in (2, 3, 4, 5, 6) * 3:
        detector = Autoencoder(hidden=(hidden,), optimiser=Optimiser(batch=16))
        memory = detector.scaling.fitted(detector.scaling.summary(table)).memory()
        job = Job("n", table, Work(tasks=(Task(),)), memory)
        ((_, _, after),) = trainer.run(detector, [job], (), 7, 0, "train")
        assert len(after["network.model"]) == 2 * 4 * hidden + hidden + 4
        del detector


def test_scaled_rows_are_kept_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Autoencoder(hidden=(2,), optimiser=Optimiser(batch=16))
    tables = [correlated(50, 4, seed=seed) for seed in range(4)]
    memory = detector.scaling.fitted(detector.scaling.summary(tables[0])).memory()
    monkeypatch.setattr(cohort, "KEPT", 2 * 50 * 4 * 4)
    trainer = CohortTrainer()
    jobs = [Job(f"n{place}", table, Work(tasks=(Task(),)), memory) for place, table in enumerate(tables)]
    first, second = ({node: after["network.model"] for node, _, after in trainer.run(detector, jobs, (), 7, 0, "train")} for _ in range(2))
    assert all(np.array_equal(first[node], second[node]) for node in first)
    assert set(trainer._kept.rows) == set(tables[:2])
    assert trainer._kept.room == 0
