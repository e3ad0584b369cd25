"""What privacy costs: epsilon of noised sums, the noise that an epsilon needs, and how long a budget lasts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from vedette.errors import BudgetSpent, MissingExtra, RecipeError
from vedette.message import Array

__all__ = ["Budget", "Release", "epsilon_of", "noise_for", "noise_left", "releases_of", "rounding_slack", "spent", "table_of"]

BINS = (1e-3, 1e-4)
"""Widths of the bins that privacy losses are counted in: the wide ones where they do, as they take a tenth of the time."""

EXACT = 1e-3
"""By how much of itself an epsilon or a calibrated noise may be larger than it need be; it is never smaller."""

FOR_SLACK = 1e-3
"""The part of delta that is put by for `Release.slack`."""

DRAWS = ("all", "poisson", "fixed")


class Release(NamedTuple):
    """Sums of clipped contributions that are given away with Gaussian noise.

    The unit that is protected is whoever contributes: a node if nodes send updates, a row if rows give gradients. Two fleets are neighbours
    if one has a unit that the other has not (add or remove one; a unit that contributes zero instead is the same). Where a sample of fixed
    size is drawn, a unit is exchanged for another (replace one), which moves a sum twice as far; so then for all releases counted together.

    Attributes
    ----------
    noise
        Standard deviation of the noise, over the norm that a contribution is clipped to.
    times
        How many of them.
    share
        Of the units, in each sum.
    draw
        ``"all"`` units are in each; each by itself with a probability of `share` (``"poisson"``); or `share` of them exactly, drawn without
        replacement (``"fixed"``).
    parts
        Contributions that a unit has, each clipped and drawn by itself: windows that hold the same row.
    slack
        Total variation by which one may differ from real Gaussian noise; see `rounding_slack`.
    """

    noise: float
    times: int = 1
    share: float = 1.0
    draw: Literal["all", "poisson", "fixed"] = "all"
    parts: int = 1
    slack: float = 0.0


def epsilon_of(releases: Sequence[Release], delta: float) -> float:
    """Return the epsilon of all of them together.

    Without sampling it is exact (Balle and Wang 2018, theorem 8), with Poisson sampling an upper bound by privacy loss distributions
    (Doroshenko et al. 2022), where a unit has several parts by mixtures of Gaussians (Ganesh 2024). Samples of fixed size have no such
    distribution in dp-accounting: they are counted by Renyi divergences (Wang et al. 2019, theorem 27), and what is sampled otherwise
    beside them as if it were not sampled.

    Parameters
    ----------
    releases
        What is, or was, given away.
    delta
        Probability that is left for whatever epsilon does not cover.

    Returns
    -------
    float
        Infinite without noise, or with more slack than delta has room for.

    Raises
    ------
    MissingExtra
        dp-accounting is not installed.
    RecipeError
        A share or a delta that is none.
    """
    _demand_possible(releases, delta)
    given = [release for release in releases if release.times and release.share]
    slack = sum(release.times * release.slack for release in given)
    if slack:
        # Something (epsilon, delta)-private stays (epsilon, delta + (1 + e^epsilon) * slack)-private if it is changed by so much.
        epsilon = epsilon_of([release._replace(slack=0.0) for release in given], delta * (1 - FOR_SLACK))
        return epsilon if math.log(slack) + np.logaddexp(0, epsilon) <= math.log(FOR_SLACK * delta) else math.inf
    if any(release.noise <= 0 for release in given):
        return math.inf
    if any(release.draw == "fixed" for release in given):
        return _replaced(given, delta)
    if any(release.draw == "poisson" for release in given):
        return _sampled(given, delta)
    with np.errstate(divide="ignore"):
        return float(_accounting().get_epsilon_gaussian(_one(given), delta)) if given else 0.0


def noise_for(
    epsilon: float,
    delta: float,
    times: int = 1,
    share: float = 1.0,
    draw: Literal["all", "poisson", "fixed"] = "all",
    parts: int = 1,
    slack: float = 0.0,
    beside: Sequence[Release] = (),
) -> float:
    """Return the least noise with which an epsilon is kept: never too little, too much by a thousandth of itself at most.

    Parameters
    ----------
    epsilon, delta
        What all may come to.
    times, share, draw, parts, slack
        Of what is noised; see `Release`.
    beside
        What else is given away.

    Raises
    ------
    RecipeError
        No noise is enough, because of what is given away beside, or of the slack.
    """

    def over(log_noise: float) -> float:
        return epsilon_of([each._replace(noise=math.exp(log_noise)), *beside], delta) - epsilon

    each = Release(1.0, times, share, draw, parts, slack)
    if not epsilon > 0:
        raise RecipeError(f"epsilon must be above 0 (got {epsilon:g})")
    least = epsilon_of([*beside, Release(1e6, times, slack=slack)], delta)
    if not least < epsilon:
        raise RecipeError(f"no noise keeps epsilon {epsilon:g} at delta {delta:g}: what is given away beside comes to {least:.4g} already")
    # From much noise to little: epsilon, and what it takes to count it, grow without end the other way.
    high = math.log(parts * math.sqrt(max(times, 1)) * _accounting().get_sigma_gaussian(epsilon, delta))
    while over(high) > 0:
        high += 1
    low = high - 1
    while over(low) <= 0:
        high, low = low, low - 1
        if low < math.log(1e-3):
            return math.exp(high)
    from scipy.optimize import brentq

    found = float(brentq(over, low, high, xtol=EXACT / 2))
    while over(found) > 0:
        found += EXACT / 4
    return math.exp(found)


def spent(each: Release, delta: float, beside: Sequence[Release] = ()) -> Array:
    """Return the epsilon after each of `each.times` releases, [times] float64, with what was given away beside them before."""
    return np.array([epsilon_of([each._replace(times=done), *beside], delta) for done in range(1, each.times + 1)])


class Budget(NamedTuple):
    """What may be spent.

    Attributes
    ----------
    epsilon, delta
        All told.
    """

    epsilon: float
    delta: float

    def lasts(self, each: Release, beside: Sequence[Release] = ()) -> int:
        """Return after how many of `each.times` releases it is used up; `each.times` if it lasts for all."""
        if epsilon_of([each, *beside], self.delta) <= self.epsilon:
            return each.times
        kept, broken = 0, each.times
        while broken - kept > 1:
            middle = (kept + broken) // 2
            if epsilon_of([each._replace(times=middle), *beside], self.delta) <= self.epsilon:
                kept = middle
            else:
                broken = middle
        return kept

    def demand(self, each: Release, beside: Sequence[Release] = (), who: str = "") -> float:
        """Return the epsilon that all comes to.

        Parameters
        ----------
        each, beside
            What is going to be given away, and what was already.
        who
            Whose budget it is, for the message: ``"node 'a', round 3: "``.

        Raises
        ------
        BudgetSpent
            It is more than there is, and in which release it would be exceeded.
        """
        epsilon = epsilon_of([each, *beside], self.delta)
        if epsilon > self.epsilon:
            raise BudgetSpent(
                f"{who}the privacy budget of epsilon {self.epsilon:g} (delta {self.delta:g}) ends before release "
                f"{self.lasts(each, beside) + 1} of {each.times}, all of which come to {epsilon:.4g}: fewer, more noise or a larger budget"
            )
        return epsilon


def noise_left(noise: float, shares: int, honest: int) -> float:
    """Return the noise of a sum to which each unit adds its share, where not all of them do.

    Parameters
    ----------
    noise
        What `shares` shares come to, each of ``noise / sqrt(shares)``.
    shares
        How many were expected.
    honest
        How many came at least, of those who keep theirs to themselves. A unit that is taken out still adds its share, but nothing else.
    """
    return noise * math.sqrt(honest / shares)


def rounding_slack(std: float, shares: int, values: int) -> float:
    """Return by how much a sum of rounded shares may differ from one with real Gaussian noise (total variation).

    Each of m units adds Gaussian noise of s grid steps to its contribution and rounds to the grid. The sum is then nearly what the server
    would get if it added Gaussian noise of s sqrt(m) and m - 1 uniform roundings to the plain sum and rounded that, which costs no more
    privacy than the Gaussian noise alone, and rounding moves no norm. (Kairouz et al. 2021 round first, whereby norms grow by a share of
    sqrt(values), and need discrete noise.) By how much it is not: the spectrum of a rounded Gaussian is that of the Gaussian, times that of
    a rounding, and copies of it at whole frequencies. For the frequencies that a grid has, the copies sum to R <= 1.3 exp(-pi^2 s^2 / 2),
    so the probabilities of a sum differ by (m + 1) R at most. Over all points within m / 2 + pi s^2 sqrt(m) of the middle, with what lies
    beyond, 4 exp(-pi^2 s^2 / 2), that is half of what is returned for one value; values and releases add up. At 4 steps, 500 units and
    4,000 values it is 1e-25.

    Parameters
    ----------
    std
        Of one unit's noise, in grid steps.
    shares
        Units that contribute at most (m).
    values
        In a contribution.
    """
    points = shares + 1 + 2 * math.pi * std**2 * math.sqrt(shares)
    return min(1.0, values * math.exp(-(math.pi**2) * std**2 / 2) * (0.65 * (shares + 1) * points + 2))


def table_of(releases: Sequence[Release]) -> Array:
    """Return releases as a table [releases, 6] float64, to be kept; equal ones are counted together."""
    times: dict[Release, int] = {}
    for release in releases:
        alike = release._replace(times=0)
        times[alike] = times.get(alike, 0) + release.times
    rows = [(one.noise, count, one.share, DRAWS.index(one.draw), one.parts, one.slack) for one, count in times.items()]
    return np.array(rows, dtype=np.float64).reshape(-1, 6)


def releases_of(table: Array) -> list[Release]:
    """Return what `table_of` made a table of."""
    rows = np.asarray(table, dtype=np.float64).tolist()
    return [Release(row[0], int(row[1]), row[2], DRAWS[int(row[3])], int(row[4]), row[5]) for row in rows]  # type: ignore[arg-type]


@cache
def _accounting() -> Any:
    try:
        import dp_accounting
    except ImportError:
        raise MissingExtra("differential privacy needs dp-accounting: pip install 'vedette[privacy]'") from None
    return dp_accounting


def _demand_possible(releases: Sequence[Release], delta: float) -> None:
    if not 0 < delta < 1:
        raise RecipeError(f"delta must be between 0 and 1, well below one over the number of units (got {delta:g})")
    for release in releases:
        if not 0 <= release.share <= 1 or (release.draw == "all" and release.share != 1):
            raise RecipeError(f"a share of {release.share:g} of the units cannot be drawn as '{release.draw}'")


def _one(releases: Sequence[Release]) -> float:
    """Return the noise of one Gaussian release that costs as much as all of these do, if none is sampled."""
    return 1 / math.sqrt(sum(release.times * (release.parts / release.noise) ** 2 for release in releases))


def _replaced(releases: Sequence[Release], delta: float) -> float:
    """Return epsilon where a unit is replaced: a sum moves twice as far."""
    dp = _accounting()
    accountant = dp.rdp.RdpAccountant(neighboring_relation=dp.NeighboringRelation.REPLACE_ONE)
    for release in releases:
        event = dp.GaussianDpEvent(release.noise / (2 * release.parts))
        if release.draw == "fixed" and release.parts == 1:
            # Only their quotient counts.
            event = dp.SampledWithoutReplacementDpEvent(1, release.share, event)
        accountant.compose(event, release.times)
    return max(0.0, float(accountant.get_epsilon(delta)))


def _sampled(releases: Sequence[Release], delta: float) -> float:
    """Return epsilon where some are sampled by Poisson's way, and none with a fixed size."""
    plain, epsilon = [release for release in releases if release.draw == "all"], 0.0
    sampled = [release for release in releases if release.draw == "poisson"]
    for width in BINS:
        whole = _losses(_one(plain), 1.0, 1, width) if plain else None
        for release in sampled:
            part = _losses(release.noise, release.share, release.parts, width).self_compose(release.times)
            whole = part if whole is None else whole.compose(part)
        assert whole is not None
        epsilon = max(0.0, float(whole.get_epsilon_for_delta(delta)))
        # Each loss is rounded up by a bin at most, which adds to the variance of their sum.
        if sum(release.times for release in sampled) * width**2 <= EXACT * epsilon**2:
            break
    return epsilon


@lru_cache(maxsize=32)
def _losses(noise: float, share: float, parts: int, width: float) -> Any:
    """Return the privacy loss distribution of one release."""
    _accounting()
    from dp_accounting.pld import privacy_loss_distribution as known

    if parts == 1:
        return known.from_gaussian_mechanism(noise, sampling_prob=share, value_discretization_interval=width)
    hits = [math.comb(parts, count) * share**count * (1 - share) ** (parts - count) for count in range(parts + 1)]
    return known.from_mixture_gaussian_mechanism(noise, range(parts + 1), hits, value_discretization_interval=width)
