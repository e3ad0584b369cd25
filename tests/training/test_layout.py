"""Layouts: names, shapes and offsets of flat vectors."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.detectors.mlp import Mlp
from vedette.errors import DetectorMisused, RecipeError
from vedette.message import Vector
from vedette.training.layout import Layout, initial, layout_of
from vedette.training.networks import Network

LAYERS = Mlp(hidden=(3, 2), batch_norm=True).networks(4)["model"]


def test_a_layout_counts_what_torch_holds():
    network = Network(LAYERS)
    tensors = {name: tensor for name, tensor in network.module.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert layout_of(LAYERS).size == sum(tensor.numel() for tensor in tensors.values())
    assert {f"{entry.layer}.{entry.name}" for entry in layout_of(LAYERS).entries} == set(tensors)


def test_vectors_go_there_and_back():
    layout = layout_of(LAYERS)
    vector = initial(LAYERS, np.random.default_rng(0))
    assert np.array_equal(layout.flat(layout.arrays(vector)).values, vector.values)
    network = Network(LAYERS)
    network.load(vector)
    assert np.array_equal(network.vector().values, vector.values)


def test_parts_split_weights_from_buffers():
    layout = layout_of(LAYERS)
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
        layout_of(LAYERS).arrays(Vector(np.zeros(3, dtype=np.float32), layout_of(LAYERS).hash))
    with pytest.raises(RecipeError, match="quantum"):
        Network([{"name": "x", "kind": "quantum"}])


def test_networks_that_share_layers_start_them_alike():
    one = layout_of(LAYERS).arrays(initial(LAYERS, np.random.default_rng(5)))
    wider = Mlp(hidden=(3, 2, 7), batch_norm=True).networks(4)["model"]
    other = layout_of(wider).arrays(initial(wider, np.random.default_rng(5)))
    assert np.array_equal(one["dense2.weight"], other["dense2.weight"])
    assert one["output.weight"].shape != other["output.weight"].shape
    bound = 1 / np.sqrt(4)
    assert np.abs(one["dense1.weight"]).max() <= bound
    assert not np.array_equal(one["dense1.bias"], one["dense1.weight"][:, 0])
