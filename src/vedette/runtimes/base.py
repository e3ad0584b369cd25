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
from vedette.runtimes.cluster.incident import Incident
from vedette.runtimes.meetings import Attackers
from vedette.runtimes.privacy import private_stages
from vedette.runtimes.topology import TOPOLOGIES, Server, Topology
from vedette.settings import build, describe
from vedette.strategies.base import STRATEGIES, Strategy
from vedette.strategies.calibrate import Calibrate
from vedette.strategies.chain.chained import chained
from vedette.strategies.chain.privacy import noise_of
from vedette.strategies.merge import Merge
from vedette.strategies.prepare import Prepare
from vedette.training.cohort.trainer import CohortTrainer
from vedette.training.task import Trainer
from vedette.training.trainers import TRAINERS

__all__ = ["OnRound", "Outcome", "Plan", "Round", "Runtime", "Stage", "demand_fitting", "digest", "plan_of", "stages_of"]

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
        Payload bytes: answers to the coordinator and back from it; among peers all is sent, an answer once for each peer that hears it.
    refused
        Node -> why its answer was left out.
    late
        Node -> how many rounds there were between what it was sent and its answer, where these are taken in one by one
        (`Strategy.arrivals`).
    epsilon
        What all up to this round costs in privacy, where there is a budget.
    """

    stage: str
    number: int
    of: int
    loss: float | None
    sent: int
    received: int
    refused: Mapping[str, str] = {}
    late: Mapping[str, int] = {}
    epsilon: float | None = None

    def plus(self, phase: Round) -> Round:
        """Return this round with what happened in one more phase of it."""
        return self._replace(
            loss=self.loss if phase.loss is None else phase.loss,
            sent=self.sent + phase.sent,
            received=self.received + phase.received,
            refused={**self.refused, **phase.refused},
            late={**self.late, **phase.late},
        )


OnRound: TypeAlias = Callable[[Round, Callable[[], Mapping[str, Memory]]], None]
"""Called with the round just finished, and a function that gives each node's memory as it were if the run ended there.

A run that is resumed tells of its last round once more. Where only some nodes merge in a round the others stand with their own weights.
"""


class Outcome(NamedTuple):
    """What came of a run.

    Attributes
    ----------
    memories
        Each node's, at the end.
    history
        What happened round by round.
    exchanged
        By stage, and who carried the exchange out (``"*"`` a coordinator, else a peer): what it remembered last, such as who received
        whose weights.
    incidents
        What went wrong with workers; what they did was done again.
    """

    memories: Mapping[str, Memory]
    history: Sequence[Round]
    exchanged: Mapping[str, Mapping[str, Memory]] = {}
    incidents: Sequence[Incident] = ()


class Runtime(Protocol):
    """Carries a plan out."""

    def run(self, plan: Plan, on_round: OnRound) -> Outcome:
        """Run prepare, rounds and calibrate.

        Parameters
        ----------
        plan
            From `plan_of`.
        on_round
            Called after every round.

        Raises
        ------
        VedetteError
            What a user can cause: data, settings, storage, divergence.
        """


def plan_of(
    detector: Federable,
    strategy: Strategy,
    seed: int,
    topology: Topology | None = None,
    attackers: Attackers | None = None,
    trainer: Trainer | None = None,
) -> dict[str, Any]:
    """Say a run as JSON.

    Parameters
    ----------
    detector, strategy
        Registered ones.
    seed
        Root of the seed tree.
    topology
        Who hears whom; a coordinator hears all unless it is said.
    attackers
        Nodes that do not play by the rules; none.
    trainer
        Who trains; dense networks side by side, others one by one with torch, unless it is said.

    Raises
    ------
    RecipeError
        A detector that learns in one step and a strategy of rounds, or the other way round; or a detector that lacks what the strategy
        needs (`demand_fitting`).
    DataMissing, DataBroken
        A file of edges that is not there or is none.
    """
    if isinstance(detector, OneShot) != isinstance(strategy, Merge):
        name = describe(DETECTORS, detector)["name"]
        if isinstance(detector, OneShot):
            raise RecipeError(f"detector '{name}' learns in one step: take the strategy 'merge'")
        raise RecipeError(f"the strategy 'merge' is for detectors that learn in one step, such as 'pca'; '{name}' is trained in rounds")
    demand_fitting(detector, strategy)
    chained(strategy)
    prepare: Strategy = Prepare(scaling=detector.scaling)
    summary, fit = detector.residual_summary, detector.threshold.fit
    calibrate: Strategy = Calibrate(residuals=summary, fit=fit, prior_rows=strategy.residual_prior)
    if strategy.privacy is not None:
        prepare, strategy, calibrate = private_stages(detector, strategy, strategy.privacy)
    elif (noise := noise_of(strategy)) is not None and noise.multiplier is None:
        raise RecipeError("how much noise? Say its multiplier, or a budget: [privacy] epsilon = 8")
    stages = {"prepare": prepare, "rounds": strategy, "calibrate": calibrate}
    return {
        "schema": "vedette.plan/1",
        "seed": seed,
        "detector": describe(DETECTORS, detector),
        "topology": describe(TOPOLOGIES, (topology or Server()).settled()),
        "attackers": (attackers or Attackers()).model_dump(mode="json"),
        "trainer": describe(TRAINERS, trainer or CohortTrainer()),
        "stages": [{"stage": name, "strategy": describe(STRATEGIES, part)} for name, part in stages.items()],
    }


def demand_fitting(detector: Federable, strategy: Strategy) -> None:
    """Refuse a strategy that needs what the detector does not have.

    Raises
    ------
    RecipeError
        A network that scores and is trained, labels, a scaling common to all nodes, or residuals that clusters could weigh.
    """
    names = describe(STRATEGIES, strategy)["name"], describe(DETECTORS, detector)["name"]
    lacking = next((c.role for c in strategy.channels if c.role and c.role not in getattr(detector, "roles", ())), None)
    if lacking is not None:
        raise RecipeError(f"strategy '{names[0]}' needs a detector with a '{lacking}' network, such as 'se-ea-edn'; '{names[1]}' has none")
    if getattr(detector, "role", None) in strategy.untrained:
        raise RecipeError(
            f"strategy '{names[0]}' as it is set trains no '{detector.role}' network, and that is to score: "
            "let another one score (detector.scored_by), or this one be trained"
        )
    if strategy.labelled and detector.learning != "supervised":
        raise RecipeError(f"strategy '{names[0]}' is for detectors that learn from labels, such as 'mlp'; '{names[1]}' does not")
    if strategy.shares_rows and detector.scaling.fit != "federated":
        raise RecipeError(f"strategy '{names[0]}' shares scaled rows: all nodes must scale alike (detector.scaling.fit = 'federated')")
    if strategy.residual_prior is not None:
        if detector.residual_summary not in ("moments", "covariance"):
            raise RecipeError("the detector's score weighs no residuals: take residual = 'mahalanobis' or 'variance', or no prior_rows")
        if detector.threshold.fit != "federated":
            raise RecipeError("with threshold.fit = 'local' each node weighs residuals by itself: take 'federated', or no prior_rows")
        if strategy.privacy is not None:
            raise RecipeError("under a privacy budget residuals are told of all nodes together: take no prior_rows")


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
    return detector, [
        Stage(part["stage"], chained(build(STRATEGIES, part["strategy"], f"plan, {part['stage']}"))) for part in plan["stages"]
    ]


def digest(plan: Plan) -> str:
    """Return a short hash that tells plans apart."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]
