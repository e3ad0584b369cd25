"""The seed tree."""

from __future__ import annotations

import numpy as np

from vedette.seeds import _states, seed_of, stream, streams


def test_a_place_has_its_own_stream_and_always_the_same() -> None:
    assert seed_of(7, "node", "a") == seed_of(7, "node", "a") != seed_of(7, "node", "b")
    assert seed_of(7, "1") != seed_of(7, 1)
    assert stream(7, "x").integers(1 << 60) == stream(7, "x").integers(1 << 60)


def test_many_streams_are_what_each_would_be_alone() -> None:
    names = [f"node-{number}" for number in range(300)] + ["", "ä", "a/b"]
    for name, one in zip(names, streams((7, "round", 3), names, ("task", 0)), strict=True):
        alone = stream(7, "round", 3, name, "task", 0)
        assert one.bit_generator.state == alone.bit_generator.state
        assert np.array_equal(one.permutation(50), alone.permutation(50))


def test_states_are_numpys() -> None:
    seeds = np.array([0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1], dtype=np.uint64)
    for seed, state in zip(seeds, _states(seeds), strict=True):
        assert np.array_equal(state, np.random.SeedSequence(int(seed)).generate_state(4, np.uint64))
