"""How much noise keeps a privacy budget, and what was given away with it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from vedette.errors import RecipeError
from vedette.strategies.base import AnyLink, Strategy
from vedette.strategies.budget import Privacy
from vedette.strategies.chain.chained import plain
from vedette.strategies.chain.clip import Clip
from vedette.strategies.chain.mask import Mask
from vedette.strategies.chain.noise import Noise
from vedette.training.accounting import Release, noise_for

__all__ = ["noise_for_share", "noise_of", "noised_alike", "releases_of", "within"]


def noise_of(strategy: Strategy) -> Noise | None:
    """Return the noise in a strategy's chain, if there is some."""
    return next((link for link in strategy.chain if isinstance(link, Noise)), None)


def releases_of(strategy: Strategy) -> list[Release]:
    """Return what a strategy gives away with noise; sums without noise are none of it.

    Where nodes are in groups each is in one of them: what it adds to one sum of a round it does not add to the others, so that all of them
    together are one release (parallel composition).
    """
    strategy = plain(strategy)
    noise = noise_of(strategy)
    return [] if noise is None or noise.multiplier is None else [_sums(strategy, noise.multiplier), *strategy.beside]


def noised_alike(strategy: Strategy, votes: Strategy, privacy: Privacy, share: float) -> Strategy:
    """Return a strategy of vectors of length 1 with a chain that hides nodes as another's does, for a share of the budget.

    Parameters
    ----------
    strategy
        With noise in its chain.
    votes
        The one to give a chain to.
    privacy, share
        The budget, and how much of it all phases may take.
    """
    multiplier = noise_for_share(strategy, privacy, share) * math.sqrt(len(votes.phases) * votes.rounds)
    found: list[AnyLink] = []
    for link in strategy.chain:
        if isinstance(link, Clip):
            found.append(Clip(norm=1.0))
        elif isinstance(link, Noise):
            found.append(link.model_copy(update={"multiplier": multiplier}))
        elif isinstance(link, Mask):
            found.append(link)
    return votes.model_copy(update={"chain": tuple(found)})


def noise_for_share(strategy: Strategy, privacy: Privacy, share: float) -> float:
    """Return the noise, over the length of a node's part, of what is told once for a share of the budget beside a strategy's rounds."""
    draw: Literal["all", "fixed"] = "fixed" if _sums(plain(strategy), 1.0).draw == "fixed" else "all"
    return noise_for(privacy.epsilon, privacy.delta, draw=draw) / math.sqrt(share)


def within(strategy: Strategy, privacy: Privacy, beside: Iterable[Strategy]) -> Strategy:
    """Return a strategy with the least noise in its chain that keeps a budget; noise that is said stays, if it does.

    Parameters
    ----------
    strategy
        With noise in its chain.
    privacy
        The budget.
    beside
        What else is done in the run.

    Raises
    ------
    RecipeError
        The budget cannot be kept.
    """
    noise, others = noise_of(strategy), [release for each in beside for release in releases_of(each)]
    if noise is None:
        raise RecipeError("a privacy budget needs noise: strategy.chain = [{ name = 'clip' }, { name = 'noise' }]")
    if noise.multiplier is not None:
        return strategy
    unit = _sums(plain(strategy), 1.0)
    least = noise_for(privacy.epsilon, privacy.delta, unit.times, unit.share, unit.draw, beside=[*others, *strategy.beside])
    return _with(strategy, least)


def _sums(strategy: Strategy, multiplier: float) -> Release:
    """Return what a strategy gives away through its chain, with so much noise."""
    noise = noise_of(strategy)
    # Whoever adds noise alone hides from a coordinator that sees who takes part.
    drawn = strategy.sample < 1 and noise is not None and noise.added == "coordinator"
    times = strategy.rounds * len(strategy.core.phases)
    return Release(multiplier, times, strategy.sample, strategy.draw) if drawn else Release(multiplier, times)


def _with(strategy: Strategy, multiplier: float) -> Strategy:
    chain = tuple(link.model_copy(update={"multiplier": multiplier}) if isinstance(link, Noise) else link for link in strategy.chain)
    return strategy.model_copy(update={"chain": chain})
