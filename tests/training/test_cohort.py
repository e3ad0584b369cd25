"""What stacks of networks do where they differ from the torch loop: without torch, with odd networks, with rows that are kept."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.detectors.autoencoder import Autoencoder
from vedette.errors import RecipeError
from vedette.runtimes.base import plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.strategies.fedavg import FedAvg
from vedette.training.cohort import trainer as cohort
from vedette.training.cohort.device import DeviceStack
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
        stack.step(rng.normal(size=(3, 8, 5)).astype(np.float32), None, 8, 0.01)
    return stack.weights.copy()


@pytest.mark.parametrize("optimiser", [Optimiser(), Optimiser(decay=0.1), Optimiser(name="adamw", decay=0.1)])
def test_adam_is_the_same_without_torch(optimiser: Optimiser, monkeypatch: pytest.MonkeyPatch) -> None:
    by_torch = stepped(optimiser)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert np.allclose(stepped(optimiser), by_torch, atol=1e-6)


def test_chunks_are_trained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two waits in its first step until the other is there; one after the other they would wait in vain."""
    met, step, begun = threading.Barrier(2, timeout=60), Stack.step, set[int]()

    def meeting(stack: Stack, *batch: Any) -> np.ndarray:
        if id(stack) not in begun:
            begun.add(id(stack))
            met.wait()
        return step(stack, *batch)

    monkeypatch.setattr(Stack, "step", meeting)
    fleet = Fleet.of({f"n{place}": correlated(30, 5, seed=place).normal() for place in range(4)})
    LocalRuntime(fleet).run(plan_of(Autoencoder(hidden=(3,)), FedAvg(rounds=1), 0, trainer=CohortTrainer(chunk=2, threads=2)))
    assert len(begun) == 2


def test_threads_are_for_numpy() -> None:
    with pytest.raises(ValueError, match="threads = 1"):
        CohortTrainer(device="cpu", threads=2)


def devices() -> list[Any]:
    import torch

    return ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))]


OPTIMISERS = [
    Optimiser(name="sgd"),
    Optimiser(name="sgd", momentum=0.9, decay=0.1),
    Optimiser(decay=0.1),
    Optimiser(name="adamw", decay=0.1),
]


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda each: each.name)
@pytest.mark.parametrize("loss", ["mse", "mae", "cross-entropy"])
def test_a_device_trains_as_numpy_does(device: str, optimiser: Optimiser, loss: str) -> None:
    """Ragged batches, batches of other sizes, a pull towards an anchor, and a state that goes on."""
    dense = DENSE if loss != "cross-entropy" else [*DENSE[:3], Dense(6, 3, "relu"), Dense(3, 1)]
    parts = dense, 3, 8, loss, optimiser
    found = []
    for stack in (Stack(*parts), DeviceStack(*parts, device)):
        rng = np.random.default_rng(0)
        start = rng.normal(size=(3, stack.weights.shape[1])).astype(np.float32) * 0.3
        stack.begin(start, {name: np.full_like(start, 1e-3) for name in stack.state}, 2)
        fits = []
        for number, rows in enumerate((8, 8, 6, 8, 8, 6)):
            inputs = rng.normal(size=(3, 8, 5)).astype(np.float32)[:, :rows]
            labels = rng.integers(0, 2, (3, 8)).astype(np.float32)[:, :rows] if loss == "cross-entropy" else None
            held = np.array([rows, rows - 1, 2]) if number == 2 else rows
            fits.append(stack.step(inputs, labels, held, 0.02 / (number + 1), (0.1, start) if number > 3 else None))
        assert stack.steps == 8
        assert stack.finite().all()
        found.append((np.array(fits), stack.weights.copy(), {name: kept.copy() for name, kept in stack.state.items()}))
    (fits, weights, state), (fits_there, weights_there, state_there) = found
    assert np.allclose(fits, fits_there, rtol=1e-5)
    assert np.allclose(weights, weights_there, atol=1e-6)
    assert all(np.allclose(state[name], state_there[name], atol=1e-6) for name in state)


@pytest.mark.parametrize("device", devices())
def test_rounds_on_a_device_end_with_the_same_weights(device: str) -> None:
    fleet = Fleet.of({f"n{rows}": correlated(rows, 5, rows) for rows in (40, 33, 64, 64)})
    detector, ends = Autoencoder(hidden=(3,), optimiser=Optimiser(rate=0.01, batch=16)), []
    for trainer in (CohortTrainer(), CohortTrainer(device=device)):
        outcome = LocalRuntime(fleet).run(plan_of(detector, FedAvg(rounds=3), 7, trainer=trainer))
        ends.append(np.stack([memory["network.model"] for memory in outcome.memories.values()]))
    assert np.allclose(*ends, atol=1e-6)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RecipeError, match="no CUDA device here"):
        LocalRuntime(Fleet.of({"n": correlated(40, 4, 0)})).run(
            plan_of(Autoencoder(hidden=(2,)), FedAvg(rounds=1), 7, trainer=CohortTrainer(device="cuda"))
        )


def test_what_a_node_comes_to_does_not_depend_on_who_holds_less() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(3, 8, 5)).astype(np.float32)
    for loss in ("mse", "mae"):
        found = []
        for held in (8, np.array([8, 5, 1])):
            stack = Stack(DENSE, 3, 8, loss, Optimiser(name="sgd"))
            stack.begin(np.linspace(-0.5, 0.5, stack.weights.shape[1], dtype=np.float32), {}, 0)
            found.append((stack.step(inputs, None, held, 0.1)[0], stack.weights[0].copy()))
        assert found[0][0] == found[1][0]
        assert np.array_equal(found[0][1], found[1][1])


def test_weights_that_are_large_are_not_taken_for_infinite() -> None:
    stack = Stack(DENSE, 3, 8, "mse", Optimiser(name="sgd"))
    stack.weights[:] = 1
    stack.weights[0], stack.weights[1, 3] = 1e38, np.nan
    assert stack.finite().tolist() == [True, False, True]


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
    assert stack.step(x, None, 8, 1.0)[0] == pytest.approx(loss(before), rel=1e-5)
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
