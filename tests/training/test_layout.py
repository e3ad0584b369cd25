"""Layouts: names, shapes and offsets of flat vectors."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.detectors.mlp import Mlp
from vedette.errors import DetectorMisused, RecipeError
from vedette.message import Vector
from vedette.training.layers import LAYERS
from vedette.training.layout import Layout, initial, layout_of
from vedette.training.networks import Network

NETWORK = Mlp(hidden=(3, 2), batch_norm=True).networks(4)["model"]


def test_a_layout_counts_what_torch_holds():
    network = Network(NETWORK)
    tensors = {name: tensor for name, tensor in network.module.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert layout_of(NETWORK).size == sum(tensor.numel() for tensor in tensors.values())
    assert {f"{entry.layer}.{entry.name}" for entry in layout_of(NETWORK).entries} == set(tensors)


def test_vectors_go_there_and_back():
    layout = layout_of(NETWORK)
    vector = initial(NETWORK, np.random.default_rng(0))
    assert np.array_equal(layout.flat(layout.arrays(vector)).values, vector.values)
    network = Network(NETWORK)
    network.load(vector)
    assert np.array_equal(network.vector().values, vector.values)


def test_parts_split_weights_from_buffers():
    layout = layout_of(NETWORK)
    weights, buffers = layout.part(holds="weights"), layout.part(holds="buffers")
    assert weights.size + buffers.size == layout.size
    # Two batch norms of widths 3 and 2 with a mean and a variance each.
    assert buffers.size == 2 * (3 + 2)
    assert layout.part("dense1").size == 4 * 3 + 3
    assert layout.part("dense*").hash != layout.part("dense1").hash


def test_hashes_tell_names_shapes_and_kinds_apart():
    from vedette.training.layout import Entry

    base = Layout([Entry("a", "weight", (2, 3))]).hash
    others = [Entry("b", "weight", (2, 3)), Entry("a", "bias", (2, 3)), Entry("a", "weight", (3, 2)), Entry("a", "weight", (2, 3), True)]
    assert len({base, *(Layout([entry]).hash for entry in others)}) == 5


def test_wrong_vectors_and_layers_are_refused():
    with pytest.raises(DetectorMisused):
        layout_of(NETWORK).arrays(Vector(np.zeros(3, dtype=np.float32), layout_of(NETWORK).hash))
    with pytest.raises(RecipeError, match="quantum"):
        Network([{"name": "x", "kind": "quantum"}])


def test_networks_that_share_layers_start_them_alike():
    one = layout_of(NETWORK).arrays(initial(NETWORK, np.random.default_rng(5)))
    wider = Mlp(hidden=(3, 2, 7), batch_norm=True).networks(4)["model"]
    other = layout_of(wider).arrays(initial(wider, np.random.default_rng(5)))
    assert np.array_equal(one["dense2.weight"], other["dense2.weight"])
    assert one["output.weight"].shape != other["output.weight"].shape
    bound = 1 / np.sqrt(4)
    assert np.abs(one["dense1.weight"]).max() <= bound
    assert not np.array_equal(one["dense1.bias"], one["dense1.weight"][:, 0])


def test_every_kind_of_layer_holds_what_its_module_holds():
    settings = {"inputs": 3, "outputs": 5, "returns": "steps", "width": 4, "steps": 2, "share": 0.1, "kernel": 3, "squeezed": 2, "slots": 6}
    settings |= {"waves": 3, "reach": 2.0}
    for kind in LAYERS:
        layers = [{"name": "it", "kind": kind, **settings}]
        held = {name: tuple(t.shape) for name, t in Network(layers).module.state_dict().items() if not name.endswith("num_batches_tracked")}
        assert held == {f"it.{each.name}": each.shape for each in LAYERS[kind].holds(layers[0])}
        network = Network(layers)
        network.load(initial(layers, np.random.default_rng(1)))
        assert np.array_equal(network.vector().values, initial(layers, np.random.default_rng(1)).values)


def test_first_weights_are_spread_as_torchs_are():
    conv = {"kind": "conv", "inputs": 20, "outputs": 50, "kernel": 5}
    for layer in ({"kind": "dense", "inputs": 30, "outputs": 50}, {"kind": "lstm", "inputs": 30, "outputs": 40, "returns": "last"}, conv):
        ours = layout_of([{"name": "it", **layer}]).arrays(initial([{"name": "it", **layer}], np.random.default_rng(0)))
        theirs = Network([{"name": "it", **layer}]).module.state_dict()
        for name, array in ours.items():
            assert np.abs(array).max() == pytest.approx(float(theirs[name].abs().max()), rel=0.15)
            assert array.std() == pytest.approx(float(theirs[name].std()), rel=0.25)


def ran(layer: dict, x: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Run one layer on [rows, channels, length]; return what it makes of them and its parameters."""
    layers = [{"name": "it", **layer}]
    network, vector = Network(layers), initial(layers, np.random.default_rng(3))
    network.load(vector)
    return network.forward(x), {name.removeprefix("it."): array for name, array in layout_of(layers).arrays(vector).items()}


def test_squeeze_excitation_is_what_the_paper_says():
    x = np.random.default_rng(0).normal(size=(5, 6, 4)).astype(np.float32)
    found, held = ran({"kind": "squeeze-excitation", "width": 6, "squeezed": 2}, x)
    z = x.mean(axis=2)  # eq. 7
    s = 1 / (1 + np.exp(-(np.maximum(z @ held["down"].T, 0) @ held["up"].T)))  # eq. 8
    np.testing.assert_allclose(found, s[:, :, None] * x, rtol=1e-5)  # eq. 9


def test_external_attention_is_normalised_over_places_and_slots():
    x = np.random.default_rng(0).normal(size=(5, 6, 4)).astype(np.float32)
    found, held = ran({"kind": "external-attention", "width": 6, "slots": 3}, x)
    for row in range(5):
        asked = np.exp(x[row].T @ held["keys"].T)  # [places, slots]
        asked /= asked.sum(axis=0)
        asked /= asked.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found[row], (asked @ held["values"].T).T, rtol=1e-4)


def test_each_feature_rides_on_waves_of_its_own():
    x = np.random.default_rng(0).uniform(-1, 1, size=(5, 4)).astype(np.float32)
    found, held = ran({"kind": "periodic", "width": 4, "waves": 3, "outputs": 2, "reach": 2.0}, x)
    assert 1 < np.abs(held["frequencies"]).max() <= 2
    for feature in range(4):
        angles = 2 * np.pi * np.outer(x[:, feature], held["frequencies"][feature])
        by_hand = np.hstack([np.cos(angles), np.sin(angles)]) @ held["weight"][feature] + held["bias"][feature]
        np.testing.assert_allclose(found[:, :, feature], by_hand, atol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_convolutions_keep_the_length(kernel):
    x = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    found, held = ran({"kind": "conv", "inputs": 3, "outputs": 4, "kernel": kernel}, x)
    padded = np.pad(x, ((0, 0), (0, 0), ((kernel - 1) // 2, kernel // 2)))
    by_hand = np.stack([np.einsum("ncl,ocl->no", padded[:, :, at : at + kernel], held["weight"]) + held["bias"] for at in range(5)], axis=2)
    np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-5)
