"""Evasion against steps worked out by hand, and training that makes it harder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import correlated
from vedette.data.scaling import Scaling
from vedette.data.table import Coded, Feature, Table
from vedette.data.windows import Samples, Window
from vedette.detectors.base import DETECTORS
from vedette.detectors.mlp import Mlp
from vedette.errors import DataUnusable, RecipeError
from vedette.message import Array
from vedette.settings import build, describe
from vedette.training.evasion import Evasion, Range, evaded, hardened
from vedette.training.networks import Network
from vedette.training.task import Optimiser

FGSM, PGD = Evasion(name="fgsm", budget=0.1), Evasion(name="pgd", budget=0.1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def linear(*weights: float) -> Network:
    network = Network([{"name": "output", "kind": "dense", "inputs": len(weights), "outputs": 1}])
    with torch.no_grad():
        network.module[0].weight.copy_(torch.tensor([weights]))
        network.module[0].bias.zero_()
    return network


def curved(seed: int = 1, width: int = 6) -> Network:
    """A network with everything that training and scoring treat otherwise: batch norm and dropout."""
    network = Network(Mlp(hidden=(8, 4), batch_norm=True, dropout=0.5).networks(width)["model"])
    torch.manual_seed(seed)
    for parameter in network.module.parameters():
        torch.nn.init.normal_(parameter)
    return network


def within(low: list[float], high: list[float], still: tuple[int, ...] = ()) -> Range:
    moves = np.ones(len(low), dtype=bool)
    moves[list(still)] = False
    return Range(np.array(low, dtype=np.float32), np.array(high, dtype=np.float32), moves)


UNIT = within([-2.0] * 6, [2.0] * 6)
SAMPLES = rng(5).uniform(-1, 1, (40, 6)).astype(np.float32)


@pytest.mark.parametrize("evasion", [FGSM, PGD], ids=lambda e: e.name)
def test_each_column_moves_by_its_share_of_the_range_against_its_weight(evasion):
    """On a linear network the best corner of the box is known, and small steps from anywhere get there too."""
    network = linear(2, -3, 0.5, 4, 5, -1)
    ranges = within([0, 0, 0, 0, 0, 0], [1, 10, 1, 2, 1, 1], still=(4,))
    start = np.array([[0.5, 5.0, 0.02, 1.0, 1.0, 0.97]], dtype=np.float32)
    # 0.5 - 0.1; 5 + 0.1 · 10; 0.02 - 0.1 stops at 0; 1 - 0.1 · 2; a category; 0.97 + 0.1 stops at 1.
    np.testing.assert_allclose(evaded(network, start, ranges, evasion, rng()), [[0.4, 6.0, 0.0, 0.8, 1.0, 1.0]], atol=1e-6)


@pytest.mark.parametrize("evasion", [FGSM, PGD], ids=lambda e: e.name)
def test_what_lies_outside_of_the_range_goes_no_further_out(evasion):
    network = linear(1, -1, 1, -1)
    start = np.array([[1.5, 1.5, -0.2, -0.2]], dtype=np.float32)
    found = evaded(network, start, within([0] * 4, [1] * 4), evasion, rng())
    np.testing.assert_allclose(found, [[1.4, 1.5, -0.2, -0.1]], atol=1e-6)


def test_small_steps_find_what_one_step_jumps_over():
    """|x - 0.5| from 0.6 with budget 0.3: one step lands at 0.3, worse than the start; steps of 0.075 come within half of one."""
    network = Network(
        [
            {"name": "sides", "kind": "dense", "inputs": 1, "outputs": 2},
            {"name": "relu", "kind": "relu"},
            {"name": "output", "kind": "dense", "inputs": 2, "outputs": 1},
        ]
    )
    values = {"sides.weight": [[1.0], [-1.0]], "sides.bias": [-0.5, 0.5], "output.weight": [[1.0, 1.0]], "output.bias": [0.0]}
    network.load(network.layout.flat({name: np.array(value) for name, value in values.items()}))
    start = np.array([[0.6]], dtype=np.float32)
    fast = evaded(network, start, within([0], [1]), Evasion(name="fgsm", budget=0.3), rng())
    small = evaded(network, start, within([0], [1]), Evasion(name="pgd", budget=0.3), rng())
    assert np.array_equal(fast, start)
    assert abs(small[0, 0] - 0.5) <= 0.0375 + 1e-6


def test_small_steps_fool_a_curved_network_more_than_one():
    network = curved()
    moved = [evaded(network, SAMPLES, UNIT, Evasion(name=name, budget=0.3), rng()) for name in ("fgsm", "pgd")]
    start, fast, small = (network.forward(samples)[:, 0] for samples in (SAMPLES, *moved))
    assert (fast <= start).all()
    assert (small <= start).all()
    assert small.mean() < fast.mean() - 1 < start.mean() - 2
    assert (small <= fast + 1e-5).mean() > 0.8


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_no_step_leaves_the_budget_or_the_range(name):
    ranges = within([-1, -1, -1, -0.5, 0, 0], [1, 1, 1, 0.5, 0, 1], still=(5,))
    found = evaded(curved(), SAMPLES, ranges, Evasion(name=name, budget=0.2), rng())
    moved = np.abs(found - SAMPLES)
    assert (moved <= 0.2 * np.array([2, 2, 2, 1, 0, 0]) + 1e-6).all()
    assert (found[:, :3] >= -1).all()
    assert (found[:, :3] <= 1).all()
    assert (moved[:, :4].max(axis=0) > 0.1).all()


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_no_budget_changes_nothing(name):
    assert np.array_equal(evaded(curved(), SAMPLES * 3, UNIT, Evasion(name=name, budget=0), rng()), SAMPLES * 3)


def test_the_same_seed_gives_the_same_samples_in_blocks_of_any_size(monkeypatch):
    network = curved()
    whole = evaded(network, SAMPLES, UNIT, PGD, rng(3))
    assert np.array_equal(evaded(network, SAMPLES, UNIT, PGD, rng(3)), whole)
    assert not np.array_equal(evaded(network, SAMPLES, UNIT, PGD, rng(4)), whole)
    monkeypatch.setattr("vedette.training.evasion.BLOCK", 7)
    np.testing.assert_allclose(evaded(network, SAMPLES, UNIT, PGD, rng(3)), whole, atol=1e-5)


def test_the_network_stays_as_it_is():
    """Weights, statistics of batch norm, gradients in the making, and the mode of each layer."""
    network = curved()
    network.module.train()
    network.module.norm1.eval()  # as where only some layers are trained
    network.module(torch.from_numpy(SAMPLES)).sum().backward()
    slopes = [parameter.grad.clone() for parameter in network.module.parameters()]
    modes, before = [layer.training for layer in network.module.modules()], network.vector().values.copy()
    given = SAMPLES.copy()
    evaded(network, SAMPLES, UNIT, PGD, rng())
    assert np.array_equal(SAMPLES, given)
    assert np.array_equal(network.vector().values, before)
    assert [layer.training for layer in network.module.modules()] == modes
    assert all(torch.equal(parameter.grad, slope) for parameter, slope in zip(network.module.parameters(), slopes, strict=True))


def mixed(rows: int = 600) -> Table:
    """Two numbers, one of them sometimes missing, and a category."""
    numbers = np.column_stack([np.linspace(-3, 5, rows), np.linspace(10, 20, rows)])
    numbers[7, 1] = np.nan
    colour = Coded((np.arange(rows) % 2).astype(np.int32), ("green", "red"))
    return Table((Feature("a"), Feature("colour", "category"), Feature("b")), numbers, (colour,))


@pytest.mark.parametrize("size", [1, 2])
def test_the_range_is_read_off_training_samples(size):
    scaling = Scaling(numbers="standard", missing="mask")
    table = mixed()
    samples = Samples(scaling.fitted(scaling.summary(table)), Window(size=size), table)
    found = Range.of(samples)
    scaled = samples.scaler.transform(table)
    assert np.array_equal(found.low, np.tile(scaled.min(axis=0), size))
    assert np.array_equal(found.high, np.tile(scaled.max(axis=0), size))
    # a, b; green, red, neither; whether b is missing.
    assert found.moves.tolist() == [True, True, False, False, False, False] * size
    with pytest.raises(DataUnusable, match="no training row"):
        Range.of(Samples(samples.scaler, Window(size=size), table.take(slice(0, 0))))


def test_half_of_the_anomalies_of_a_batch_evade():
    table, scaling = Table.from_array(rng(6).uniform(-1, 1, (400, 6))), Scaling()
    samples = Samples(scaling.fitted(scaling.summary(table)), Window(), table)
    inputs, labels = torch.from_numpy(samples.all()), torch.zeros(400)
    labels[::2] = 1
    network, given = curved(), inputs.clone()
    shown = hardened(PGD, network, samples, rng(1))(inputs, labels)
    changed = (shown != inputs).any(dim=1)
    assert torch.equal(inputs, given)
    assert not changed[labels == 0].any()
    assert 70 <= int(changed.sum()) <= 130
    assert (network.forward(shown.numpy()) <= network.forward(inputs.numpy())).all()


TABLE = correlated(200, 4, seed=3, anomalies=0.4)


def weights(**settings) -> Array:
    quick = Mlp(hidden=(6,), dropout=0.2, epochs=3, scaling=Scaling(numbers="standard"), **settings)
    return quick.fit(TABLE, seed=2).weights_.values


def test_hardening_draws_nothing_that_training_draws():
    """An adversary without a budget leaves rows as they are: what comes out must be as without one, to the bit."""
    plain = weights()
    assert np.array_equal(weights(hardening=Evasion(budget=0)), plain)
    hard = weights(hardening=PGD)
    assert not np.array_equal(hard, plain)
    assert np.array_equal(weights(hardening=PGD), hard)


def two_classes(rows: int, seed: int) -> Table:
    """One clear feature, and sixty faint ones that tell as much together but change sign within a small budget."""
    draws = rng(seed)
    label = draws.integers(0, 2, rows).astype(np.int8)
    side = 2.0 * label[:, None] - 1
    faint = 0.25 * side + draws.normal(0, 0.3, (rows, 60))
    return Table.from_array(np.column_stack([side + draws.normal(0, 0.2, (rows, 1)), faint]), label)


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_hardening_makes_evasion_fail(name):
    evasion = Evasion(name=name, budget=0.15)
    train, test = two_classes(600, 1), two_classes(600, 2)
    rates = {}
    for hardening in (None, evasion):
        detector = Mlp(hidden=(16,), epochs=20, optimiser=Optimiser(rate=0.01, batch=50), hardening=hardening).fit(train)
        samples = detector.samples(test, detector.memory).all()
        anomalies, reach = samples[test.label == 1], Range.of(detector.samples(train, detector.memory))
        shown = evaded(detector.network(), anomalies, reach, evasion, rng())
        missed = [float((detector.score_samples(each) <= 0.5).mean()) for each in (anomalies, shown)]
        false_alarms = float((detector.score_samples(samples[test.label == 0]) > 0.5).mean())
        assert missed[0] < 0.01
        assert false_alarms < 0.01
        rates[hardening] = missed[1]
    assert rates[None] > 0.8
    assert rates[evasion] < 0.02


def test_settings_are_said_and_refused_in_a_line():
    detector = build(DETECTORS, {"name": "mlp", "hardening": {"name": "fgsm", "budget": 0.02}}, "[detector]")
    assert detector.hardening == Evasion(name="fgsm", budget=0.02)
    assert build(DETECTORS, describe(DETECTORS, detector), "[detector]") == detector
    with pytest.raises(RecipeError, match=r"hardening\.budget"):
        build(DETECTORS, {"name": "mlp", "hardening": {"budget": -1}}, "[detector]")
