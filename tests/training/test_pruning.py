"""Pruning: neurons that do nothing go, and the network computes what it computed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import DetectorMisused
from vedette.message import Vector
from vedette.training.layout import initial, layout_of
from vedette.training.networks import Network
from vedette.training.pruning import compacted, expanded, pruned_share, stages_of


def network(*widths: int, activation: str = "relu") -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = []
    for place, (inputs, outputs) in enumerate(itertools.pairwise(widths), 1):
        layers.append({"name": f"dense{place}", "kind": "dense", "inputs": inputs, "outputs": outputs})
        layers.append({"name": f"{activation}{place}", "kind": activation})
        layers.append({"name": f"dropout{place}", "kind": "dropout", "share": 0.5})
    return layers[:-2]


def laid(layers: Any, **arrays: Any) -> Vector:
    return layout_of(layers).flat({name.replace("_", "."): np.array(array, dtype=np.float32) for name, array in arrays.items()})


def outputs(layers: Any, vector: Vector, samples: Any) -> Any:
    run = Network(layers)
    run.load(vector)
    return run.forward(samples)


def test_a_neuron_that_nobody_hears_goes() -> None:
    layers = network(2, 3, 1)
    vector = laid(layers, dense1_weight=[[1, 2], [3, 4], [5, 6]], dense1_bias=[7, 8, 9], dense2_weight=[[1, 0, -1]], dense2_bias=[2])
    done = compacted(layers, vector)
    assert [each.tolist() for each in done.kept] == [[0, 2]]
    assert [layer.get("outputs") for layer in done.layers if layer["kind"] == "dense"] == [2, 1]
    assert [layer["name"] for layer in done.layers] == [layer["name"] for layer in layers]
    assert done.vector.values.tolist() == [1, 2, 5, 6, 7, 9, 1, -1, 2]
    assert done.full.values.tolist() == [1, 2, 0, 0, 5, 6, 7, 0, 9, 1, 0, -1, 2]


@pytest.mark.parametrize(
    ("activation", "value"), [("relu", 0.0), ("leaky-relu", -0.02), ("tanh", np.tanh(-2)), ("sigmoid", 1 / (1 + np.e**2))]
)
def test_a_constant_neuron_becomes_a_bias(activation: str, value: float) -> None:
    layers = network(2, 2, 1, activation=activation)
    vector = laid(layers, dense1_weight=[[1, 2], [0, 0]], dense1_bias=[3, -2], dense2_weight=[[5, 10]], dense2_bias=[1])
    done = compacted(layers, vector)
    assert [each.tolist() for each in done.kept] == [[0]]
    np.testing.assert_allclose(done.vector.values, [1, 2, 3, 5, 1 + 10 * value], rtol=1e-6)


def test_what_goes_takes_others_along_and_one_neuron_stays() -> None:
    layers = network(1, 2, 2, 1)
    # The second layer's first neuron is not heard; the first layer's second neuron spoke to it alone.
    vector = laid(
        layers,
        dense1_weight=[[1], [2]],
        dense1_bias=[3, 4],
        dense2_weight=[[5, 6], [7, 0]],
        dense2_bias=[8, 9],
        dense3_weight=[[0, 2]],
        dense3_bias=[1],
    )
    done = compacted(layers, vector)
    assert [each.tolist() for each in done.kept] == [[0], [1]]
    assert done.vector.values.tolist() == [1, 3, 7, 9, 2, 1]
    # Cut in the middle, the network is one number: relu(9) · 2 + 1, and relu(8) · 0.
    cut = vector.values.copy()
    cut[4:8] = 0
    done = compacted(layers, Vector(cut, vector.layout))
    assert [each.tolist() for each in done.kept] == [[0], [0]]
    assert done.vector.values.tolist() == [0, 0, 0, 0, 0, 19]
    assert done.full.values.tolist() == [0] * 12 + [19]


def test_other_networks_come_back_as_they_are() -> None:
    for layers in (
        [*network(3, 2), {"name": "norm", "kind": "batch-norm", "width": 2}],
        [{"name": "first", "kind": "relu"}, *network(3, 2)],
    ):
        vector = initial(layers, np.random.default_rng(0))
        assert stages_of(layers, vector) is None
        done = compacted(layers, vector)
        assert (done.layers, done.vector, done.full, done.kept) == (layers, vector, vector, ())
        assert expanded(layers, vector, ()) is vector


def test_a_network_without_zeros_comes_back_as_it_is() -> None:
    layers = network(4, 3, 2)
    vector = initial(layers, np.random.default_rng(0))
    done = compacted(layers, vector)
    assert done.layers == layers
    assert done.vector.layout == done.full.layout == vector.layout
    assert np.array_equal(done.vector.values, vector.values)
    assert [each.tolist() for each in done.kept] == [[0, 1, 2]]


def test_the_share_of_weights_that_are_zero() -> None:
    layers = network(2, 2, 1)
    vector = laid(layers, dense1_weight=[[1, 0], [0, 2]], dense1_bias=[0, 0], dense2_weight=[[0, 5]], dense2_bias=[0])
    assert pruned_share(layers, vector) == 0.5
    assert pruned_share([{"name": "relu", "kind": "relu"}], layout_of([]).flat({})) == 0


def test_foreign_vectors_are_refused() -> None:
    layers = network(4, 3, 2)
    vector = initial(layers, np.random.default_rng(0))
    for kept in ((), (np.array([1]),)):
        with pytest.raises(DetectorMisused, match="layout"):
            expanded(network(4, 5, 2), vector, kept)


@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=5),
    st.sampled_from(["relu", "leaky-relu", "tanh", "sigmoid"]),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_outputs_stay_whatever_is_pruned(widths: list[int], activation: str, share: float, seed: int) -> None:
    layers, rng = network(*widths, activation=activation), np.random.default_rng(seed)
    first = initial(layers, rng)
    vector = Vector(np.where(rng.random(first.values.shape) < share, 0, first.values).astype(np.float32), first.layout)
    done = compacted(layers, vector)
    samples = rng.normal(size=(20, widths[0])).astype(np.float32)
    wanted = outputs(layers, vector, samples)
    np.testing.assert_allclose(outputs(layers, done.full, samples), wanted, atol=1e-5)
    np.testing.assert_allclose(outputs(done.layers, done.vector, samples), wanted, atol=1e-5)
    back = expanded(layers, done.vector, done.kept)
    assert back.layout == done.full.layout
    assert np.array_equal(back.values, done.full.values)
    again = compacted(done.layers, done.vector)
    assert np.array_equal(again.vector.values, done.vector.values)
    assert all(len(each) >= 1 for each in done.kept)
    # Every neuron that stays hears and is heard, but for the last of a layer.
    stages = stages_of(done.layers, done.vector)
    assert stages is not None
    for here, there in itertools.pairwise(stages):
        assert len(here.bias) == 1 or (here.weight.any(axis=1) & there.weight.any(axis=0)).all()
