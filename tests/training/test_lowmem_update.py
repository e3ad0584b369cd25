"""Updates of weights against torch's optimisers and autograd; 16-bit rounding, overflow, pruning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vedette.message import Array
from vedette.training.dense import Dense, parameters
from vedette.training.lowmem.network import DenseNetwork
from vedette.training.lowmem.update import CALM, LOSS_SCALE, MOST_SCALE, STATES, Elimination, Rule, Updater, state_of

DENSE = [Dense(5, 7, "relu"), Dense(7, 3)]
SIZE = parameters(DENSE)


def made(rule: Rule, precision: str = "float32", lanes: int = 2, stays: bool = False, nodes: tuple[int, ...] = ()) -> Updater:
    network = DenseNetwork(DENSE, 4, precision, lanes, nodes=nodes)  # type: ignore[arg-type]
    network.weights[:] = np.random.default_rng(0).normal(0, 0.5, (*nodes, SIZE))
    return Updater(network, rule, np.random.default_rng(1), stays)


def slopes(seed: int) -> Array:
    return np.random.default_rng(seed).normal(0, 1, SIZE).astype(np.float32)


TORCH: dict[Rule, Callable[[list[torch.Tensor]], torch.optim.Optimizer]] = {
    Rule("sgd"): lambda w: torch.optim.SGD(w, lr=0.01),
    Rule("sgd", decay=0.1): lambda w: torch.optim.SGD(w, lr=0.01, weight_decay=0.1),
    Rule("momentum", momentum=0.8): lambda w: torch.optim.SGD(w, lr=0.01, momentum=0.8),
    Rule("momentum", decay=0.1): lambda w: torch.optim.SGD(w, lr=0.01, momentum=0.9, weight_decay=0.1),
    Rule("adam"): lambda w: torch.optim.Adam(w, lr=0.01),
    Rule("adam", decay=0.1): lambda w: torch.optim.Adam(w, lr=0.01, weight_decay=0.1),
    Rule("adamw"): lambda w: torch.optim.AdamW(w, lr=0.01, weight_decay=0),
    Rule("adamw", decay=0.1): lambda w: torch.optim.AdamW(w, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("rule", TORCH, ids=str)
@pytest.mark.parametrize("lanes", [1, 64])
def test_steps_are_those_of_torch(rule: Rule, lanes: int) -> None:
    updater = made(rule, lanes=lanes)
    weights = torch.tensor(updater.network.weights, dtype=torch.float64, requires_grad=True)
    optimiser = TORCH[rule]([weights])
    for step in range(30):
        # Tiny slopes are where Adam's epsilon counts.
        slope = slopes(step) * np.where(np.arange(SIZE) % 3, 1, 1e-8).astype(np.float32)
        updater.network.gradients[:] = slope
        weights.grad = torch.tensor(slope, dtype=torch.float64)
        assert updater.step(0.01)
        optimiser.step()
        np.testing.assert_allclose(updater.network.weights, weights.detach().numpy(), atol=1e-6)
    assert updater.steps == 30


def test_pull_is_that_of_autograd() -> None:
    updater, anchor = made(Rule("sgd")), slopes(9)
    weights = torch.tensor(updater.network.weights, dtype=torch.float64, requires_grad=True)
    (0.3 / 2 * (weights - torch.tensor(anchor)).square().sum()).backward()
    updater.network.gradients[:] = 0
    before = updater.network.weights.copy()
    updater.step(1.0, pull=(0.3, anchor))
    assert weights.grad is not None
    np.testing.assert_allclose(before - updater.network.weights, weights.grad.numpy(), atol=1e-6)


def biases() -> Array:
    """Which parameters are biases."""
    found = np.zeros(SIZE, bool)
    found[35:42] = found[63:66] = True
    return found


@pytest.mark.parametrize("scale", [0.01, 0.5, 3.0])
def test_penalty_is_that_of_equation_4(scale: float) -> None:
    updater = made(Rule("sgd"))
    weights = torch.tensor(updater.network.weights, dtype=torch.float64, requires_grad=True)
    ratio = (weights[torch.tensor(~biases())] / scale).square()
    complexity = (ratio / (1 + ratio)).sum()
    (0.7 * complexity).backward()
    assert float(updater.complexity(scale)) == pytest.approx(complexity.item(), rel=1e-6)
    updater.network.gradients[:] = 0
    before = updater.network.weights.copy()
    updater.step(1.0, Elimination(0.7, scale))
    assert weights.grad is not None
    np.testing.assert_allclose(before - updater.network.weights, weights.grad.numpy(), atol=2e-6 * max(1, weights.grad.abs().max()))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("nodes", [(), (3,)])
def test_complexity_of_several_networks(precision: str, nodes: tuple[int, ...]) -> None:
    updater = made(Rule("sgd"), precision, nodes=nodes)
    weights = updater.network.weights.astype(np.float64)[..., ~biases()]
    ratio = (weights / 0.2) ** 2
    found = updater.complexity(0.2)
    assert found.shape == nodes
    np.testing.assert_allclose(found, (ratio / (1 + ratio)).sum(axis=-1), rtol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("rule", [Rule(name, decay=0.1) for name in STATES], ids=str)
def test_pruned_weights_stay_away(precision: str, rule: Rule) -> None:
    updater = made(rule, precision, stays=True)
    before = updater.network.weights.copy()
    updater.prune(0.3)
    gone = (np.abs(before.astype(np.float32)) < 0.3) & ~biases()
    assert 5 < gone.sum() < 50
    np.testing.assert_array_equal(updater.network.weights, np.where(gone, 0, before))
    for step in range(5):
        updater.network.gradients[:] = slopes(step)
        updater.step(0.05, Elimination(0.01, 0.1), (0.1, slopes(77)))
    assert (updater.network.weights[gone] == 0).all()
    assert (updater.network.weights[~gone] != 0).all()


def test_small_steps_are_not_lost_in_16_bits() -> None:
    updater = made(Rule("sgd"), "float16")
    updater.network.weights[:] = 1
    for _ in range(400):
        updater.network.gradients[:] = updater.scale
        # A tenth of what lies between 1 and the next smaller number.
        updater.step(0.1 * 2**-11)
    moved = 1 - updater.network.weights.astype(np.float64)
    # Each of 400 steps is 1 or 0 units of 2^-11 with a chance of 0.1: 40 units, give or take 6 for each of the 66 weights.
    assert moved.mean() / 2**-11 == pytest.approx(40, abs=4 * 6 / np.sqrt(SIZE))
    assert len(np.unique(moved)) > 5


def test_a_gradient_that_does_not_fit_is_left_out_and_the_scale_recovers() -> None:
    updater = made(Rule("adam"), "float16")
    network, before = updater.network, updater.network.weights.copy()
    network.inputs[:], network.shares[:] = 60_000, 1
    for value in (60_000.0, 1.0):
        network.inputs[:] = value
        network.forward(4)
        network.outputs[:] = 1000
        network.backward(4, first=True)
        moved = updater.step(0.001)
        assert moved == (value == 1.0)
        assert np.array_equal(network.weights, before) != moved
    assert (updater.overflows, updater.steps, updater.scale) == (1, 1, LOSS_SCALE / 2)
    for _ in range(CALM - 1):
        assert updater.scale == LOSS_SCALE / 2
        updater.step(0.001)
    assert updater.scale == LOSS_SCALE
    for _ in range(8 * CALM):
        updater.step(0.001)
    assert updater.scale == MOST_SCALE


def test_an_overflow_in_an_early_micro_batch_is_not_forgotten() -> None:
    updater = made(Rule("sgd"), "float16")
    network = updater.network
    for first, value in ((True, 60_000.0), (False, -60_000.0), (False, 1.0)):
        network.inputs[:] = value
        network.forward(4)
        network.outputs[:] = 1000
        network.backward(4, first)
    assert not updater.step(0.1)


def test_the_scale_stays_above_one() -> None:
    updater = made(Rule("sgd"), "float16")
    for _ in range(30):
        updater.network.fits = False
        updater.step(0.1)
    assert updater.scale == 1


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", STATES)
def test_buffers_are_all_there_is(precision: str, name: str) -> None:
    updater = made(Rule(name), precision)
    named = state_of(DENSE, name, precision, updater.network.other.shape)  # type: ignore[arg-type]
    assert updater.bytes == sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in named.values())
    own = [*updater.state.values(), updater._zero, updater._slope]
    assert updater.bytes == sum(array.nbytes for array in own)
    assert all(kept.dtype == np.float32 and kept.shape == (SIZE,) for kept in updater.state.values())
