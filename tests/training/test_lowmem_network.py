"""Forward and backward passes in buffers against torch's autograd; 16-bit numbers against NumPy's own casts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from vedette.errors import DetectorMisused
from vedette.message import Array
from vedette.training.dense import ACTIVATIONS, Dense, dense_of, parameters
from vedette.training.lowmem.descent import _loss
from vedette.training.lowmem.half import draw, narrow, widen
from vedette.training.lowmem.network import DenseNetwork, buffers_of
from vedette.training.lowmem.update import Rule, Updater


def shaped(widths: tuple[int, ...], activation: str, last: str = "", slope: float = 0.01) -> list[Dense]:
    pairs = list(itertools.pairwise(widths))
    return [Dense(*pair, activation if place < len(pairs) - 1 else last, slope) for place, pair in enumerate(pairs)]


def drawn(dense: list[Dense], seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 0.5, parameters(dense)).astype(np.float32)


def oracle(dense: list[Dense], vector: Array, x: Array, y: Array, loss: str) -> tuple[float, Array]:
    """Mean loss over rows and its gradient, by autograd in float64."""
    flat = torch.tensor(vector, dtype=torch.float64, requires_grad=True)
    inputs = values = torch.tensor(x, dtype=torch.float64)
    start = 0
    for layer in dense:
        middle, stop = start + layer.inputs * layer.outputs, start + layer.parameters
        values = torch.nn.functional.linear(values, flat[start:middle].reshape(layer.outputs, layer.inputs), flat[middle:stop])
        functions = {
            "relu": torch.relu,
            "leaky-relu": lambda v, slope=layer.slope: torch.nn.functional.leaky_relu(v, slope),
            "tanh": torch.tanh,
            "sigmoid": torch.sigmoid,
            "": lambda v: v,
        }
        values, start = functions[layer.activation](values), stop
    if loss == "cross-entropy":
        found = torch.nn.functional.binary_cross_entropy_with_logits(values[:, 0], torch.tensor(y, dtype=torch.float64))
    else:
        found = {"mse": torch.nn.functional.mse_loss, "mae": torch.nn.functional.l1_loss}[loss](values, inputs)
    found.backward()
    return found.item(), flat.grad.numpy()


def gradient(network: DenseNetwork, x: Array, y: Array, loss: str) -> float:
    """Run all rows of one network through in micro-batches, as `descend` does; return the loss."""
    total = 0.0
    for start in range(0, len(x), network.rows):
        some = x[start : start + network.rows]
        network.inputs[: len(some)], network.labels[: len(some)] = some, y[start : start + network.rows]
        network.shares[:] = 1 / len(x)
        network.forward(len(some))
        total += float(_loss(network, len(some), loss)[0])  # type: ignore[arg-type]
        network.backward(len(some), first=not start)
    return total


def data(rows: int, width: int, seed: int = 1) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, width)).astype(np.float32), rng.integers(0, 2, rows).astype(np.float32)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, ""])
@pytest.mark.parametrize("loss", ["cross-entropy", "mse", "mae"])
def test_gradient_is_that_of_autograd(activation: str, loss: str) -> None:
    dense = shaped((7, 11, 5, 1 if loss == "cross-entropy" else 7), activation, "" if loss == "cross-entropy" else activation, 0.2)
    vector, (x, y) = drawn(dense), data(23, 7)
    network = DenseNetwork(dense, 23, lanes=4)
    network.weights[:] = vector
    wanted, slope = oracle(dense, vector, x, y, loss)
    assert gradient(network, x, y, loss) == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_allclose(network.gradients, slope, atol=3e-6 * np.abs(slope).max())


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("micro", [1, 4, 5, 23, 40])
@pytest.mark.parametrize("lanes", [1, 3, 64])
def test_micro_batches_and_lanes_change_nothing(precision: str, micro: int, lanes: int) -> None:
    dense = shaped((7, 11, 5, 7), "leaky-relu", "tanh")
    vector, (x, y) = drawn(dense).astype(np.float16).astype(np.float32), data(23, 7)
    network = DenseNetwork(dense, micro, precision, lanes)  # type: ignore[arg-type]
    network.weights[:] = vector
    for loss in ("mse", "mae"):
        wanted, slope = oracle(dense, vector, x, y, loss)
        assert gradient(network, x, y, loss) == pytest.approx(wanted, rel=1e-5)
        # Each of up to 23 sums is rounded to 11 bits.
        off = 3e-6 if precision == "float32" else 2**-11 * (1 + 23 / micro)
        np.testing.assert_allclose(network.gradients, slope, atol=off * np.abs(slope).max())
        assert network.fits


def test_what_is_exactly_zero_has_no_slope() -> None:
    dense = shaped((2, 3, 1), "relu")
    network = DenseNetwork(dense, 1)
    network.weights[:] = 1
    network.weights[:9] = 0  # first layer: all values are 0, or -0 if the bias is
    network.weights[6:9] = -0.0
    gradient(network, np.array([[-1.0, 2.0]], np.float32), np.ones(1, np.float32), "cross-entropy")
    assert (network.gradients[:9] == 0).all()


def test_numbers_that_are_none_are_not_hidden_by_relu() -> None:
    dense = shaped((2, 3, 1), "relu")
    network = DenseNetwork(dense, 1)
    network.weights[:] = np.inf
    with np.errstate(invalid="ignore"):
        loss = gradient(network, np.array([[1.0, -1.0]], np.float32), np.ones(1, np.float32), "cross-entropy")
    assert np.isnan(loss)
    assert np.isnan(network.gradients).any()


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_networks_side_by_side_are_each_alone(precision: str) -> None:
    dense = shaped((6, 9, 4, 1), "sigmoid")
    together = DenseNetwork(dense, 8, precision, 3, nodes=(3,))  # type: ignore[arg-type]
    sets = [data(8, 6, seed) for seed in range(3)]
    for place, (x, y) in enumerate(sets):
        together.weights[place], together.inputs[place], together.labels[place] = drawn(dense, place), x, y
    together.shares[:] = 1 / 8
    together.forward(8)
    _loss(together, 8, "cross-entropy")
    together.backward(8, first=True)
    for place, (x, y) in enumerate(sets):
        alone = DenseNetwork(dense, 8, precision, 3)  # type: ignore[arg-type]
        alone.weights[:] = drawn(dense, place)
        gradient(alone, x, y, "cross-entropy")
        np.testing.assert_allclose(together.gradients[place], alone.gradients, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("activation", ["relu", "leaky-relu"])
def test_buffers_are_all_there_is(training: bool, precision: str, activation: str) -> None:
    dense = shaped((6, 9, 4, 1), activation)
    network = DenseNetwork(dense, 8, precision, 3, training)  # type: ignore[arg-type]
    named = buffers_of(dense, 8, precision, 3, training)  # type: ignore[arg-type]
    bytes_ = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in named.values())
    assert network.bytes == bytes_

    def arrays(value: object) -> list[Array]:
        if isinstance(value, np.ndarray):
            return [value]
        return [array for each in value for array in arrays(each)] if isinstance(value, list) else []

    held = {}
    for array in [array for value in vars(network).values() for array in arrays(value)]:
        while array.base is not None:
            array = array.base
        held[id(array)] = array.nbytes
    assert sum(held.values()) == bytes_
    if training:
        Updater(network, Rule("adam"), np.random.default_rng(0))
        network.inputs[:] = 1
    assert network.forward(8).shape == (8, 1)


def test_layers_are_read_and_others_refused() -> None:
    layers = [
        {"name": "a", "kind": "dense", "inputs": 3, "outputs": 2},
        {"name": "b", "kind": "leaky-relu", "slope": 0.3},
        {"name": "c", "kind": "dense", "inputs": 2, "outputs": 1},
    ]
    assert dense_of(layers) == [Dense(3, 2, "leaky-relu", 0.3), Dense(2, 1)]
    assert parameters(dense_of(layers)) == 11
    assert dense_of([layers[0], {**layers[1], "slope": 0.0}])[0].activation == "relu"
    for wrong in ({"name": "d", "kind": "batch-norm"}, {**layers[1], "slope": -0.1}, {**layers[1], "slope": 1.5}):
        with pytest.raises(DetectorMisused):
            dense_of([layers[0], wrong])
    with pytest.raises(DetectorMisused):
        dense_of([layers[1]])


def test_widening_is_exact_for_every_number() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    wide = np.empty(2**16, np.float32)
    widen(halves, wide)
    finite = np.isfinite(halves)
    np.testing.assert_array_equal(wide[finite], halves[finite].astype(np.float32))
    assert (np.abs(wide[~finite]) >= 65536).all()


def test_rounding_to_the_nearest() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    found = np.empty_like(halves)
    assert narrow(halves.astype(np.float32), found)
    np.testing.assert_array_equal(found.view(np.uint16), halves.view(np.uint16))
    values = (10 ** np.random.default_rng(0).uniform(-9, 4.8, 20_000) * np.tile([1, -1], 10_000)).astype(np.float32)
    found = np.empty(len(values), np.float16)
    assert narrow(values.copy(), found)
    nearest = values.astype(np.float16)
    middle = found != nearest  # NumPy goes to the even one, we away from 0
    assert middle.sum() < 10
    exact, other = values.astype(np.float64)[middle], nearest.astype(np.float64)[middle]
    np.testing.assert_allclose(found[middle] - exact, exact - other, rtol=1e-4)


@pytest.mark.parametrize("large", [65520.0, 1e6, -7e4, np.inf, -np.inf, np.nan, 3e38])
def test_what_does_not_fit_is_told_and_becomes_infinite(large: float) -> None:
    found = np.empty(3, np.float16)
    assert not narrow(np.array([1, large, -2], np.float32), found)
    assert np.isinf(found[1])
    assert found[[0, 2]].tolist() == [1, -2]
    assert narrow(np.array([65519], np.float32), found[:1])


def test_rounding_by_chance_is_unbiased() -> None:
    count, rng = 40_000, np.random.default_rng(0)
    # A third, a number of which 16 bits have an exact one, subnormals, and less than half of the smallest.
    for value in (1 / 3, -1000.1, 0.25, 3.3e-6, 1e-8):
        values, found = np.full(count, value, np.float32), np.empty(count, np.float16)
        room = np.empty(count, np.float32)
        assert narrow(values, found, draw(rng, room))
        sizes = np.unique(found.astype(np.float64))
        exact = float(np.float32(value))
        if value == 0.25:
            assert sizes.tolist() == [0.25]
            continue
        low, high = sizes
        assert low < exact < high
        spread = np.sqrt((exact - low) * (high - exact) / count)
        assert abs(found.astype(np.float64).mean() - exact) < 4 * spread
