"""Votes: what most nodes say is found under noise, and what nobody can make out is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.data.votes import CENTRES, LEVELS, SPREADS, centre_votes, centres_of, level_of, level_votes, spread_votes, spreads_of


def columns(seed: int) -> np.ndarray:
    """Forty rows: of spread 1, of spread 100 around 500, and constant."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.normal(0, 1, 40), rng.normal(500, 100, 40), np.full(40, 7.0)], axis=1)


def test_a_node_votes_once_for_each_column() -> None:
    votes = spread_votes(columns(0))
    assert votes.shape == (SPREADS, 3)
    np.testing.assert_array_equal(votes.sum(axis=0), 1)
    assert centre_votes(columns(0), np.array([1.0, 100.0, 0.0])).sum(axis=0).tolist() == [1, 1, 0]


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_spreads_and_middles_are_found(noise: float) -> None:
    rng = np.random.default_rng(1)
    spreads = spreads_of(np.mean([spread_votes(columns(seed)) for seed in range(50)], axis=0) + rng.normal(0, noise, (SPREADS, 3)))
    assert 0.6 < spreads[0] < 1.7
    assert 60 < spreads[1] < 170
    assert spreads[2] == 0
    means = np.mean([centre_votes(columns(seed), spreads) for seed in range(50)], axis=0)
    centres = centres_of(means + rng.normal(0, noise, (CENTRES, 3)), spreads)
    assert abs(centres[0]) < 0.7
    assert centres[1] == pytest.approx(500, abs=60)


def test_where_noise_drowns_the_votes_a_column_stays_as_it_is() -> None:
    noise = np.random.default_rng(2).normal(0, 1, (SPREADS + CENTRES, 3))
    spreads = spreads_of(np.mean([spread_votes(columns(seed)) for seed in range(50)], axis=0) + noise[:SPREADS])
    assert spreads.tolist() == [1.0, 1.0, 1.0]
    assert centres_of(noise[SPREADS:], spreads).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("level", [0.003, 0.04, 1.5, 80.0])
def test_a_level_is_found_within_a_bin(level: float) -> None:
    """Bins are a factor of 1e8 ** (1 / 24) = 2.15 wide."""
    rng = np.random.default_rng(3)
    votes = np.mean([level_votes(level * factor) for factor in rng.lognormal(0, 0.5, 200)], axis=0)
    assert votes.shape == (LEVELS,)
    assert votes.sum() == pytest.approx(1)
    for shares in (votes, votes * 0.4, votes + rng.normal(0, 0.06, LEVELS)):
        assert 1 / 2.15 < level_of(shares) / level < 2.15
    assert level_votes(0.0)[0] == level_votes(1e9)[-1] == 1
