"""Federate a detector over a fleet from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.detectors.oneshot import Federable
from vedette.errors import RecipeError
from vedette.evaluation.methods import over
from vedette.evaluation.privacy import privacy_of
from vedette.evaluation.report import Curve, Trace, write_report
from vedette.evaluation.scoring import kind_rows, metric_rows, score_fleet
from vedette.runtimes.base import OnRound, Outcome, Plan, Round, plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.topology import Topology
from vedette.runtimes.workers import Workers
from vedette.settings import validated
from vedette.strategies.base import AnyLink, Strategy
from vedette.strategies.budget import Privacy
from vedette.training.task import Trainer
from vedette.version import __version__

__all__ = ["Federation", "federate"]

RUNTIMES = ("local", "cluster")
TRACES = 3


@dataclass(frozen=True)
class Federation:
    """What came of a federation.

    Attributes
    ----------
    detectors
        Each node's fitted detector.
    history
        What happened in each round.
    fleet
        What was trained on.
    plan, outcome
        The run as it was carried out, and all that came of it.
    """

    detectors: Mapping[str, Detector]
    history: Sequence[Round]
    fleet: Fleet
    plan: Plan
    outcome: Outcome

    @property
    def seed(self) -> int:
        """Root of the seed tree."""
        return int(self.plan["seed"])

    def report(self, path: str | Path, tests: Fleet | None = None) -> Path:
        """Write a report on labelled rows.

        Parameters
        ----------
        path
            Of the HTML file.
        tests
            Test rows by node; the training rows if absent, and then the report says so.

        Raises
        ------
        RecipeError
            There are no rows, they have no labels, or they are of a node that took no part.
        StorageError
            The file cannot be written.
        MissingExtra
            There was noise, and dp-accounting, which says what that comes to, is not installed.
        """
        split, fleet = ("train", self.fleet) if tests is None else ("test", tests)
        strange = next((node for node in fleet if node not in self.detectors), None)
        if strange is not None:
            raise RecipeError(f"node '{strange}' has rows to report on but took no part in the federation")
        if any(fleet[node].label is None for node in fleet):
            raise RecipeError("a report needs labelled rows: pass tests= a fleet whose tables have labels")
        scored = score_fleet(self.detectors, fleet)
        if not scored:
            raise RecipeError("a report needs rows: the tables of all nodes are empty")
        anomalies, rows = sum(int(part.label.sum()) for part in scored), sum(len(part.label) for part in scored)
        about = {"method": "federated", "protocol": "strict", "split": split, "seed": self.seed}
        private = privacy_of(self.plan, self.outcome, len(self.detectors))
        run = {
            "schema": "vedette.run/1",
            "recipe": "federate",
            "title": "A federation from Python",
            "version": __version__,
            "seed": self.seed,
            "seeds": [self.seed],
            "runtime": "local",
            "data": {
                "name": "fleet",
                "nodes": len(fleet),
                "rows_train": sum(len(self.fleet[node]) for node in self.fleet),
                "rows_test": rows,
                "anomaly_share": anomalies / rows if rows else None,
            },
            "rows": metric_rows(scored, about),
            "kinds": kind_rows(scored, about),
            "timing": {},
            "traffic_bytes": {"federated": sum(entry.sent + entry.received for entry in self.history)},
            "privacy": [] if private is None else [{**about, "fold": "", **private}],
        }
        curve = [entry.loss for entry in self.history if entry.stage == "rounds" and entry.loss is not None]
        traces = [
            Trace("federated", "strict", part.node, fleet[part.node].time, part.score, part.label, part.threshold)
            for part in scored[:TRACES]
        ]
        write_report(Path(path), run, [Curve("federated", "strict", self.seed, curve)] if curve else [], traces)
        return Path(path)


def federate(
    fleet: Fleet,
    detector: Federable,
    strategy: Strategy,
    runtime: str = "local",
    seed: int = 0,
    topology: Topology | None = None,
    calibration: Fleet | None = None,
    trainer: Trainer | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    on_round: OnRound = lambda *_: None,
    workers: int | Workers = 1,
    chain: Sequence[AnyLink | Mapping[str, Any] | str] = (),
    privacy: Privacy | None = None,
) -> Federation:
    """Train a detector among the nodes of a fleet.

    Parameters
    ----------
    fleet
        Training rows by node. One-class detectors learn from those not labelled as anomalies.
    detector
        Settings of what each node trains.
    strategy
        How nodes learn together.
    runtime
        Where: ``"local"``, this process and, if there are to be several `workers`, others beside it; ``"cluster"``: workers alone train.
    seed
        Root of the seed tree.
    topology
        Who hears whom: peers their neighbours, such as ``Ring()``; a coordinator hears all unless it is said.
    calibration
        Rows by node that set thresholds; the training rows if absent.
    trainer
        Who trains: dense networks side by side and others with torch, unless it is said; or
        `vedette.training.lowmem.trainer.LowmemTrainer` within a stated number of bytes.
    checkpoint, resume
        File to keep the state in after every round, and whether to go on from it.
    on_round
        Called after every round with what happened, and a function that gives the nodes' memories as they were if it ended there.
    workers
        Processes that train; 1 trains in this one, 0 takes as many as there are cores. The results are the same. `Workers`
        may be given too, with all that can be said of them.
    chain
        What is done to all that nodes send in a round before it leaves them (`vedette.strategies.chain`): links, or names or settings of
        such; that of the strategy unless given.
    privacy
        What all that nodes tell may cost; the chain needs noise then.

    Raises
    ------
    VedetteError
        What a user can cause: data, settings, storage, divergence.
    """
    if runtime not in RUNTIMES:
        raise RecipeError(f"unknown runtime '{runtime}'; known: {', '.join(RUNTIMES)}")
    if not isinstance(detector, Federable):
        raise RecipeError(f"{type(detector).__name__} cannot be learned together: fit it at one place")
    fleets = [each if each is None or detector.learning != "one-class" else each.map(Table.normal) for each in (fleet, calibration)]
    if chain or privacy is not None:
        given = {"chain": tuple(chain) or strategy.chain, "privacy": privacy or strategy.privacy}
        strategy = validated(type(strategy), {**dict(strategy), **given}, "chain")
    strategy = over(strategy, detector, fleets[0] or fleet)
    if runtime == "cluster" and not isinstance(workers, Workers):
        workers = Workers(workers, "cluster")
    place = LocalRuntime(fleets[0] or fleet, fleets[1], None if checkpoint is None else Path(checkpoint), resume, workers=workers)
    plan = plan_of(detector, strategy, seed, topology, trainer=trainer)
    outcome = place.run(plan, on_round)
    return Federation({node: detector.restored(memory) for node, memory in outcome.memories.items()}, outcome.history, fleet, plan, outcome)
