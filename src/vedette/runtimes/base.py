"""What a runtime is: where a plan is carried out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from vedette.detectors.base import DETECTORS
from vedette.detectors.oneshot import Federable, OneShot
from vedette.errors import RecipeError
from vedette.message import Memory
from vedette.settings import build, describe
from vedette.strategies.base import STRATEGIES, Strategy
from vedette.strategies.calibrate import Calibrate
from vedette.strategies.merge import Merge
from vedette.strategies.prepare import Prepare

__all__ = ["OnRound", "Outcome", "Plan", "Round", "Runtime", "Stage", "demand_networks", "digest", "plan_of", "stages_of"]

Plan: TypeAlias = Mapping[str, Any]
"""A run as JSON of registered names: all that a joining node receives."""


class Stage(NamedTuple):
    """One part of a run: prepare, rounds or calibrate.

    Attributes
    ----------
    name
        ``"prepare"``, ``"rounds"`` or ``"calibrate"``.
    strategy
        What is done there.
    """

    name: str
    strategy: Strategy


class Round(NamedTuple):
    """What happened in one round.

    Attributes
    ----------
    stage
        Name of the stage.
    number, of
        Which round (from 1) of how many.
    loss
        Mean training loss over the nodes, weighted by rows; None where nothing was trained.
    sent, received
        Payload bytes from and to the nodes.
    """

    stage: str
    number: int
    of: int
    loss: float | None
    sent: int
    received: int


OnRound: TypeAlias = Callable[[Round, Mapping[str, Memory]], None]


class Outcome(NamedTuple):
    """What came of a run.

    Attributes
    ----------
    memories
        Each node's, at the end.
    history
        What happened round by round.
    exchanged
        By stage: what the exchange remembered last, such as who received whose weights.
    """

    memories: Mapping[str, Memory]
    history: Sequence[Round]
    exchanged: Mapping[str, Memory] = {}


class Runtime(Protocol):
    """Carries a plan out."""

    def run(self, plan: Plan, on_round: OnRound) -> Outcome:
        """Run prepare, rounds and calibrate.

        Parameters
        ----------
        plan
            From `plan_of`.
        on_round
            Called after every round with the nodes' memories as they stand.

        Raises
        ------
        VedetteError
            What a user can cause: data, settings, storage, divergence.
        """


def plan_of(detector: Federable, strategy: Strategy, seed: int) -> dict[str, Any]:
    """Say a run as JSON.

    Parameters
    ----------
    detector, strategy
        Registered ones.
    seed
        Root of the seed tree.

    Raises
    ------
    RecipeError
        A detector that learns in one step and a strategy of rounds, or the other way round; or a strategy that exchanges a network
        the detector does not have.
    """
    if isinstance(detector, OneShot) != isinstance(strategy, Merge):
        name = describe(DETECTORS, detector)["name"]
        if isinstance(detector, OneShot):
            raise RecipeError(f"detector '{name}' learns in one step: take the strategy 'merge'")
        raise RecipeError(f"the strategy 'merge' is for detectors that learn in one step, such as 'pca'; '{name}' is trained in rounds")
    demand_networks(detector, strategy)
    prepare = Prepare(scaling=detector.scaling)
    calibrate = Calibrate(residuals=detector.residual_summary, fit=detector.threshold.fit)
    stages = {"prepare": prepare, "rounds": strategy, "calibrate": calibrate}
    return {
        "schema": "vedette.plan/1",
        "seed": seed,
        "detector": describe(DETECTORS, detector),
        "stages": [{"stage": name, "strategy": describe(STRATEGIES, part)} for name, part in stages.items()],
    }


def demand_networks(detector: Federable, strategy: Strategy) -> None:
    """Refuse a strategy that exchanges a network which the detector does not have.

    Raises
    ------
    RecipeError
        Which it is.
    """
    lacking = next((c.role for c in strategy.channels if c.role and c.role not in getattr(detector, "roles", ())), None)
    if lacking is not None:
        names = describe(STRATEGIES, strategy)["name"], describe(DETECTORS, detector)["name"]
        raise RecipeError(f"strategy '{names[0]}' needs a detector with a '{lacking}' network, such as 'se-ea-edn'; '{names[1]}' has none")


def stages_of(plan: Plan) -> tuple[Federable, list[Stage]]:
    """Build the detector and the stages of a plan.

    Raises
    ------
    UnknownName, RecipeError
        The plan names something that is not registered, or a detector that cannot be trained among nodes.
    """
    detector = build(DETECTORS, plan["detector"], "plan, detector")
    if not isinstance(detector, Federable):
        raise RecipeError(f"detector '{plan['detector']['name']}' cannot be learned together: fit it at one place")
    return detector, [Stage(part["stage"], build(STRATEGIES, part["strategy"], f"plan, {part['stage']}")) for part in plan["stages"]]


def digest(plan: Plan) -> str:
    """Return a short hash that tells plans apart."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]
