"""Runs under a privacy budget: their stages with as much noise as it takes, and what was spent after each round."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vedette.detectors.oneshot import Federable
from vedette.detectors.threshold import Quantile
from vedette.errors import RecipeError
from vedette.strategies.base import Strategy
from vedette.strategies.budget import Privacy
from vedette.strategies.calibrate import Calibrate
from vedette.strategies.chain.chained import plain
from vedette.strategies.chain.privacy import noise_for_share, noise_of, noised_alike, releases_of, within
from vedette.strategies.prepare import Prepare
from vedette.strategies.private import PrivateCalibrate, PrivatePrepare
from vedette.training.accounting import Budget, epsilon_of

__all__ = ["cost_of", "private_stages", "spent_after"]


def private_stages(detector: Federable, strategy: Strategy, privacy: Privacy) -> tuple[Strategy, Strategy, Strategy]:
    """Return what prepares, learns and calibrates within a budget.

    Raises
    ------
    RecipeError
        The detector, or the strategy, would tell something that no noise covers, or there is no noise.
    BudgetSpent
        The noise that is said is too little.
    """
    if (noise := noise_of(strategy)) is None:
        raise RecipeError("a privacy budget needs noise: strategy.chain = [{ name = 'clip' }, { name = 'noise' }]")
    scaling, threshold = detector.scaling, detector.threshold
    if detector.residual_summary == "covariance" and threshold.fit == "federated":
        raise RecipeError(
            "under a privacy budget scores cannot take covariances of residuals: take residual = 'variance', or threshold.fit = 'local'"
        )
    if threshold.fit == "federated" and not isinstance(threshold, Quantile):
        raise RecipeError("under a privacy budget nodes vote on a threshold: take threshold 'quantile', or threshold.fit = 'local'")
    if scaling.fit == "federated" and (scaling.numbers != "standard" or scaling.missing == "mask" or scaling.order != "name"):
        raise RecipeError(
            "under a privacy budget nodes vote on a scaling: take scaling.numbers = 'standard' without masks, or scaling.fit = 'local'"
        )
    prepare: Strategy = Prepare(scaling=scaling)
    calibrate: Strategy = Calibrate(residuals=detector.residual_summary, fit=threshold.fit)
    if scaling.fit == "federated":
        prepare = noised_alike(strategy, PrivatePrepare(scaling=scaling), privacy, privacy.prepare)
    if isinstance(threshold, Quantile) and threshold.fit == "federated":
        calibrate = PrivateCalibrate(residuals=detector.residual_summary, q=threshold.q, full=privacy.full)
        calibrate = noised_alike(strategy, calibrate, privacy, privacy.calibrate)
    if strategy.beside:
        strategy = strategy.noised(noise_for_share(strategy, privacy, privacy.group), noise.secret)
    learned = within(strategy, privacy, [prepare, calibrate])
    rounds, *beside = releases_of(learned)
    Budget(privacy.epsilon, privacy.delta).demand(rounds, [*beside, *releases_of(prepare), *releases_of(calibrate)])
    return prepare, learned, calibrate


def cost_of(strategies: Sequence[Strategy], delta: float) -> float:
    """Return the epsilon of all that nodes tell in a run; infinite if something is told without noise, or with noise from a known seed."""
    for strategy in map(plain, strategies):
        noise = noise_of(strategy)
        silent = (isinstance(strategy, Prepare) and strategy.scaling.fit == "local") or (
            isinstance(strategy, Calibrate) and strategy.fit == "local"
        )
        if not silent and (noise is None or not noise.multiplier or strategy.known_noise):
            return math.inf
    return epsilon_of([release for strategy in strategies for release in releases_of(strategy)], delta)


def spent_after(strategies: Sequence[Strategy], stage: int, rounds: int, delta: float) -> float:
    """Return the epsilon of a run up to a round of a stage."""
    given = [*strategies[:stage], plain(strategies[stage]).model_copy(update={"rounds": rounds})]
    return epsilon_of([release for strategy in given for release in releases_of(strategy)], delta)
