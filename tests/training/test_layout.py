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
    settings = {"inputs": 3, "outputs": 5, "returns": "steps", "width": 4, "steps": 2, "share": 0.1}
    for kind in LAYERS:
        layers = [{"name": "it", "kind": kind, **settings}]
        held = {name: tuple(t.shape) for name, t in Network(layers).module.state_dict().items() if not name.endswith("num_batches_tracked")}
        assert held == {f"it.{each.name}": each.shape for each in LAYERS[kind].holds(layers[0])}
        network = Network(layers)
        network.load(initial(layers, np.random.default_rng(1)))
        assert np.array_equal(network.vector().values, initial(layers, np.random.default_rng(1)).values)


def test_first_weights_are_spread_as_torchs_are():
    for layer in ({"kind": "dense", "inputs": 30, "outputs": 50}, {"kind": "lstm", "inputs": 30, "outputs": 40, "returns": "last"}):
        ours = layout_of([{"name": "it", **layer}]).arrays(initial([{"name": "it", **layer}], np.random.default_rng(0)))
        theirs = Network([{"name": "it", **layer}]).module.state_dict()
        for name, array in ours.items():
            assert np.abs(array).max() == pytest.approx(float(theirs[name].abs().max()), rel=0.15)
            assert array.std() == pytest.approx(float(theirs[name].std()), rel=0.25)
