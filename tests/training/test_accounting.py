"""What privacy costs, against dp-accounting's own figures, formulas worked out here, and the literature."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from vedette.errors import BudgetSpent, MissingExtra, RecipeError
from vedette.training import accounting
from vedette.training.accounting import Budget, Release, epsilon_of, noise_for, noise_left, releases_of, rounding_slack, spent, table_of

dp = pytest.importorskip("dp_accounting")

DELTA = 1e-5
POISSON = Release(2.0, 50, 0.1, "poisson")


def delta_of(noise: float, epsilon: float) -> float:
    """Balle and Wang 2018, theorem 8."""
    cdf = NormalDist().cdf
    return cdf(1 / (2 * noise) - epsilon * noise) - math.exp(epsilon) * cdf(-1 / (2 * noise) - epsilon * noise)


def counted(*events: object, fixed: bool = False, width: float = 1e-4) -> float:
    if fixed:
        accountant = dp.rdp.RdpAccountant(neighboring_relation=dp.NeighboringRelation.REPLACE_ONE)
    else:
        accountant = dp.pld.PLDAccountant(value_discretization_interval=width)
    for event in events:
        accountant.compose(event)
    return float(accountant.get_epsilon(DELTA))


@pytest.mark.parametrize(("noise", "times"), [(1.0, 1), (0.5, 1), (3.0, 10), (20.0, 100)])
def test_unsampled_releases_cost_what_the_analytic_gaussian_mechanism_does(noise, times):
    epsilon = epsilon_of([Release(noise, times)], DELTA)
    assert delta_of(noise / math.sqrt(times), epsilon) == pytest.approx(DELTA, rel=1e-6)


def test_different_releases_add_up():
    """1/9 + 4/16 = 13/36: one release of noise 6 / sqrt(13)."""
    assert epsilon_of([Release(3.0), Release(4.0, 4)], DELTA) == pytest.approx(epsilon_of([Release(6 / math.sqrt(13))], DELTA))


@pytest.mark.parametrize(
    ("noise", "times", "share"), [(1.0, 100, 0.01), (2.0, 50, 0.1), pytest.param(1.5, 20, 0.5, marks=pytest.mark.slow)]
)
def test_poisson_sampling_is_counted_as_dp_accounting_counts_it(noise, times, share):
    event = dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(share, dp.GaussianDpEvent(noise)), times)
    epsilon = epsilon_of([Release(noise, times, share, "poisson")], DELTA)
    assert epsilon == pytest.approx(counted(event, width=1e-3), rel=1e-9)
    assert counted(event) <= epsilon <= 1.001 * counted(event)


def test_small_epsilons_are_counted_in_narrow_bins():
    event = dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.1, dp.GaussianDpEvent(20.0)), 100)
    assert epsilon_of([Release(20.0, 100, 0.1, "poisson")], DELTA) == pytest.approx(counted(event), rel=1e-9)


def test_what_is_not_sampled_is_counted_beside():
    events = dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.1, dp.GaussianDpEvent(2.0)), 50), dp.GaussianDpEvent(5.0)
    assert epsilon_of([POISSON, Release(5.0)], DELTA) == pytest.approx(counted(*events), rel=1e-3)


@pytest.mark.slow
def test_samples_of_a_fixed_size_are_counted_for_an_exchanged_unit():
    """A sum moves by two clipped lengths, so noise counts half."""
    event = dp.SelfComposedDpEvent(dp.SampledWithoutReplacementDpEvent(200, 20, dp.GaussianDpEvent(2.0)), 50)
    assert epsilon_of([Release(4.0, 50, 0.1, "fixed")], DELTA) == pytest.approx(counted(event, fixed=True), rel=1e-9)
    both = counted(event, dp.GaussianDpEvent(3.0), fixed=True)
    assert epsilon_of([Release(4.0, 50, 0.1, "fixed"), Release(6.0)], DELTA) == pytest.approx(both, rel=1e-9)
    # Drawn otherwise, it counts as if it had not been drawn.
    assert epsilon_of([Release(4.0, 50, 0.1, "fixed"), Release(6.0, 1, 0.5, "poisson")], DELTA) == pytest.approx(both, rel=1e-9)


def test_figures_of_the_literature():
    """Abadi et al. 2016, section 3.2 (q = 0.01, sigma = 4, 10,000 steps): 1.26 by the moments accountant, which is looser."""
    assert 0.9 < epsilon_of([Release(4.0, 10_000, 0.01, "poisson")], DELTA) < 1.26
    # TensorFlow Privacy's MNIST tutorial (60,000 rows, batches of 250, noise 1.3, 15 epochs): 1.18 by Renyi divergences.
    assert 0.8 < epsilon_of([Release(1.3, 3600, 250 / 60_000, "poisson")], DELTA) < 1.18


@pytest.mark.slow
def test_a_unit_in_several_parts_costs_more_and_at_most_what_all_at_once_do():
    one = epsilon_of([Release(40.0, 100, 0.2, "poisson")], DELTA)
    four = epsilon_of([Release(40.0, 100, 0.2, "poisson", parts=4)], DELTA)
    together = epsilon_of([Release(10.0, 100)], DELTA)
    assert one < four < together
    assert epsilon_of([Release(40.0, 100, parts=4)], DELTA) == pytest.approx(together)
    # Drawn with certainty, all of them are always there.
    assert together <= epsilon_of([Release(40.0, 100, 1.0, "poisson", parts=4)], DELTA) < together * 1.002


@pytest.mark.parametrize("draw", ["poisson", pytest.param("fixed", marks=pytest.mark.slow)])
def test_more_noise_costs_less_and_more_of_anything_else_more(draw):
    base = Release(2.0, 20, 0.2, draw)
    least = epsilon_of([base._replace(noise=3.0)], DELTA)
    epsilon = epsilon_of([base], DELTA)
    assert 0 < least < epsilon
    for more in ({"times": 30}, {"share": 0.3}, {"parts": 2}):
        assert epsilon_of([base._replace(**more)], DELTA) > epsilon
    assert epsilon_of([base, Release(10.0)], DELTA) > epsilon
    assert epsilon_of([base], DELTA / 10) > epsilon
    assert epsilon < epsilon_of([base._replace(share=1.0, draw="fixed" if draw == "fixed" else "poisson")], DELTA)


def test_nothing_costs_nothing_and_no_noise_everything():
    assert epsilon_of([], DELTA) == epsilon_of([Release(1.0, 0)], DELTA) == epsilon_of([Release(0.0, 5, 0.0, "poisson")], DELTA) == 0
    assert epsilon_of([POISSON, Release(0.0)], DELTA) == math.inf


@pytest.mark.parametrize(
    ("epsilon", "about"),
    [
        (8.0, {"times": 100}),
        (8.0, {"times": 50, "share": 0.1, "draw": "poisson"}),
        (0.5, {"times": 50, "share": 0.1, "draw": "poisson"}),
        pytest.param(1.0, {"times": 30, "share": 0.2, "draw": "fixed"}, marks=pytest.mark.slow),
        pytest.param(0.1, {"times": 2, "share": 0.02, "draw": "poisson", "parts": 2}, marks=pytest.mark.slow),
        (8.0, {"times": 20, "share": 0.3, "draw": "poisson", "beside": (Release(4.0),)}),
        (1.5, {"times": 20, "slack": 1e-20}),
    ],
    ids=["all", "poisson", "little", "fixed", "parts", "beside", "slack"],
)
def test_calibrated_noise_keeps_the_epsilon_and_hardly_more(epsilon, about):
    noise = noise_for(epsilon, DELTA, **about)
    release = Release(noise, **{key: value for key, value in about.items() if key != "beside"})
    beside = about.get("beside", ())
    assert epsilon_of([release, *beside], DELTA) <= epsilon
    assert epsilon_of([release._replace(noise=noise / 1.004), *beside], DELTA) > epsilon


def test_what_no_noise_can_keep_is_said():
    with pytest.raises(RecipeError, match=r"given away beside comes to 9\.99"):
        noise_for(8.0, DELTA, beside=[Release(0.5)])
    with pytest.raises(RecipeError, match="epsilon must be above 0"):
        noise_for(0.0, DELTA)
    with pytest.raises(RecipeError, match="delta must be between 0 and 1"):
        epsilon_of([POISSON], 0.0)
    with pytest.raises(RecipeError, match="drawn as 'all'"):
        epsilon_of([Release(1.0, 1, 0.5)], DELTA)


def test_a_budget_says_when_it_ends():
    curve = spent(POISSON._replace(times=6), DELTA, [Release(5.0)])
    assert (np.diff(curve) > 0).all()
    assert curve[3] == epsilon_of([POISSON._replace(times=4), Release(5.0)], DELTA)
    budget = Budget(float(curve[3]), DELTA)
    assert budget.lasts(POISSON._replace(times=6), [Release(5.0)]) == 4
    assert budget.demand(POISSON._replace(times=4), [Release(5.0)]) == curve[3]
    assert budget.lasts(POISSON._replace(times=3), [Release(5.0)]) == 3
    with pytest.raises(BudgetSpent, match=r"node 'a': .* ends before release 5 of 6, all of which come to"):
        budget.demand(POISSON._replace(times=6), [Release(5.0)], "node 'a': ")
    assert Budget(0.1, DELTA).lasts(POISSON) == 0


def test_shares_that_do_not_come_leave_less_noise():
    """100 shares of variance 4 / 100; 64 of them sum to 2.56 = 1.6 squared."""
    assert noise_left(2.0, 100, 64) == pytest.approx(1.6)


def rounded(std: float, offset: float, reach: int) -> np.ndarray:
    """Probabilities of round(offset + std * z) on -reach … reach."""
    edges = [NormalDist(offset, std).cdf(point - 0.5) for point in range(-reach, reach + 2)]
    return np.diff(edges)


@pytest.mark.parametrize(("std", "units"), [(0.8, 2), (1.0, 3), (1.0, 5), (1.3, 3)])
def test_a_sum_of_rounded_shares_is_as_near_to_gaussian_noise_as_is_said(std, units):
    """The sum, term by term, against the rounded sum of everything with one Gaussian of the same variance and units - 1 roundings."""
    offsets, reach = [0.3 * place - 0.45 for place in range(units)], 40
    found = np.ones(1)
    for offset in offsets:
        found = np.convolve(found, rounded(std, offset, reach))
    middle = len(found) // 2
    # Density of the Gaussian and units - 1 uniform variables, integrated over each cell: one more of them, on a fine grid.
    fine, wide = 200, middle
    grid = np.arange(-wide * fine, wide * fine + 1) / fine
    ideal = np.array([NormalDist(sum(offsets), std * math.sqrt(units)).pdf(point) for point in grid]) / fine
    for _ in range(units):
        summed = np.concatenate([[0.0], np.cumsum(ideal)])
        # The mean over a window of width 1; ends count half (trapezium).
        window = (np.roll(summed, -fine // 2 - 1) - np.roll(summed, fine // 2))[: len(ideal)]
        edges = 0.5 * (np.roll(ideal, -fine // 2) + np.roll(ideal, fine // 2))
        ideal = np.where(np.abs(grid) < wide - units - 1, (window - edges) / fine, 0.0)
    on_grid = ideal[::fine] * fine
    distance = 0.5 * np.abs(found - on_grid).sum()
    assert distance <= rounding_slack(std, units, 1)
    # By how much they differ falls as the bound does; at 1.3 steps they agree to the accuracy of the sums above.
    assert distance < {0.8: 2e-3, 1.0: 1e-4, 1.3: 1e-5}[std]
    assert rounding_slack(std, units, 7) == pytest.approx(min(1.0, 7 * rounding_slack(std, units, 1)))


def test_a_grid_fine_enough_costs_nothing_and_a_coarse_one_everything():
    slack = rounding_slack(4.0, 500, 4000)
    assert slack < 1e-24
    plain = epsilon_of([Release(5.0, 100)], DELTA)
    assert plain < epsilon_of([Release(5.0, 100, slack=slack)], DELTA) < plain * 1.001
    assert epsilon_of([Release(5.0, 100, slack=rounding_slack(1.5, 500, 4000))], DELTA) == math.inf


def test_releases_are_kept_as_a_table():
    releases = [POISSON, Release(1.0, 1), POISSON._replace(times=5), Release(1.5, 2, 0.5, "fixed", 3, 1e-9)]
    kept = releases_of(table_of(releases))
    assert kept == [POISSON._replace(times=55), releases[1], releases[3]]
    assert releases_of(table_of([])) == []


def test_without_dp_accounting_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dp_accounting", None)
    accounting._accounting.cache_clear()
    with pytest.raises(MissingExtra, match=r"vedette\[privacy\]"):
        epsilon_of([Release(1.0)], DELTA)
    accounting._accounting.cache_clear()
