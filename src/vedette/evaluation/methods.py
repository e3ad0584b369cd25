"""The methods of a table: what is trained how, to be compared on the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.detectors.base import DETECTORS, Detector
from vedette.detectors.network import NetworkDetector
from vedette.errors import RecipeError
from vedette.evaluation.recipe import Recipe
from vedette.evaluation.scoring import Scored, score_fleet, score_trivial
from vedette.message import Array, Memory
from vedette.registry import Registry
from vedette.runtimes.base import Outcome
from vedette.seeds import stream
from vedette.settings import build
from vedette.strategies.base import Strategy
from vedette.strategies.local import Local

__all__ = ["METHODS", "Made", "Method", "Setting", "method_named"]

POOLED = "centralised"


class Setting(NamedTuple):
    """One protocol and seed: the rows that all methods share.

    Attributes
    ----------
    recipe
        With the keys that the protocol sets.
    protocol, seed
        Where it belongs.
    train, calibration
        By node; one-class detectors get normal rows only.
    tests
        ``"validation"`` and ``"test"``: by node, or one table that all nodes share.
    """

    recipe: Recipe
    protocol: str
    seed: int
    train: Fleet
    calibration: Fleet
    tests: Mapping[str, Fleet | Table]


class Made(NamedTuple):
    """A method ready to be scored.

    Attributes
    ----------
    score
        Scores one set of test rows.
    detectors
        By node; none for the trivial methods.
    curve
        Training loss per round.
    """

    score: Callable[[Fleet | Table], list[Scored]]
    detectors: Mapping[str, Detector] = {}
    curve: Sequence[float] = ()


Carry: TypeAlias = Callable[[str, NetworkDetector, Strategy, Fleet, Fleet], Outcome]
"""Carries a run out, under a name: detector, strategy, training rows, calibration rows."""


class Bench:
    """What methods make use of: the setting, its pooled rows, and runs (each carried out once).

    Parameters
    ----------
    setting
        One protocol and seed.
    carry
        Carries out a run.
    """

    def __init__(self, setting: Setting, carry: Carry) -> None:
        self.setting, self.detector, self.strategy = setting, setting.recipe.detector, setting.recipe.strategy
        self._carry = carry
        self._outcomes: dict[str, Outcome] = {}

    def carried(self, name: str, detector: NetworkDetector, strategy: Strategy, pooled: bool = False) -> Outcome:
        """Run in rounds, on the fleet or on its pooled rows; the second time the same name gives the same outcome."""
        if name not in self._outcomes:
            fleets = (self.pooled, self.pooled_calibration) if pooled else (self.setting.train, self.setting.calibration)
            self._outcomes[name] = self._carry(name, detector, strategy, *fleets)
        return self._outcomes[name]

    @cached_property
    def pooled(self) -> Fleet:
        """All training rows at one node."""
        return Fleet.of({POOLED: self.setting.train.pooled()})

    @cached_property
    def pooled_calibration(self) -> Fleet:
        """All calibration rows at one node."""
        return self.pooled if self.setting.calibration is self.setting.train else Fleet.of({POOLED: self.setting.calibration.pooled()})

    def alone(self, batch: int | None = None) -> Local:
        """Return training without exchange that visits the rows as often as the strategy does."""
        return Local(rounds=self.strategy.rounds, epochs=getattr(self.strategy, "epochs", 1.0), batch=batch)

    def made(self, detectors: Mapping[str, Detector], outcome: Outcome | None = None) -> Made:
        """Return detectors as a method."""
        return Made(lambda tests: score_fleet(detectors, tests), detectors, _losses(outcome))

    def everywhere(self, detector: Detector, outcome: Outcome | None = None) -> Made:
        """Return one detector, used by all nodes, as a method."""
        return self.made(dict.fromkeys(self.setting.train, detector), outcome)


Method: TypeAlias = Callable[[Bench], Made]
METHODS: Registry[Method] = Registry("method")


@METHODS.register("flag-all")
def flag_all(bench: Bench) -> Made:
    """Call every row an anomaly."""
    return Made(lambda tests: score_trivial(tests, lambda _, rows: np.ones(rows), 0.5))


@METHODS.register("random")
def random(bench: Bench) -> Made:
    """Call every other row an anomaly, by the toss of a coin."""

    def scores_of(node: str, rows: int) -> Array:
        return stream(bench.setting.seed, "random method", node, rows).random(rows)

    return Made(lambda tests: score_trivial(tests, scores_of, 0.5))


@METHODS.register("untrained")
def untrained(bench: Bench) -> Made:
    """The federated detector with its first random weights: what scaling and calibration alone are worth."""
    outcome = bench.carried("untrained", bench.detector, bench.strategy.model_copy(update={"rounds": 0}))
    return bench.made(_restored(bench.detector, outcome.memories))


@METHODS.register("local")
def local(bench: Bench) -> Made:
    """Each node by itself, with steps as in the federation: own scaling, own training, own threshold, nothing shared."""
    alone = bench.detector.model_copy(
        update={
            "scaling": bench.detector.scaling.model_copy(update={"fit": "local"}),
            "threshold": bench.detector.threshold.model_copy(update={"fit": "local"}),
        }
    )
    outcome = bench.carried("local", alone, bench.alone(getattr(bench.strategy, "batch", None)))
    return bench.made(_restored(alone, outcome.memories), outcome)


@METHODS.register("centralised")
def centralised(bench: Bench) -> Made:
    """All rows of all nodes at one place: what privacy costs."""
    outcome = bench.carried("centralised", bench.detector, bench.alone(), pooled=True)
    return bench.everywhere(bench.detector.restored(outcome.memories[POOLED]), outcome)


@METHODS.register("federated")
def federated(bench: Bench) -> Made:
    """The recipe's strategy among the nodes."""
    outcome = bench.carried("federated", bench.detector, bench.strategy)
    return bench.made(_restored(bench.detector, outcome.memories), outcome)


@METHODS.register("federated-own-threshold")
def federated_own_threshold(bench: Bench) -> Made:
    """The federated detector, but each node sets its threshold by its own calibration rows."""
    own = bench.detector.model_copy(update={"threshold": bench.detector.threshold.model_copy(update={"fit": "local"})})
    outcome = bench.carried("federated", bench.detector, bench.strategy)
    return bench.made(_restored(own, outcome.memories, shared=False))


def method_named(name: str) -> Method:
    """Return a method; the name of a detector stands for that detector fitted on all rows at one place.

    Raises
    ------
    UnknownName
        No such method, with the nearest one.
    """
    if name in METHODS or name not in DETECTORS:
        return METHODS[name]

    def baseline(bench: Bench) -> Made:
        if DETECTORS[name].learning == "supervised" and bench.detector.learning != "supervised":
            raise RecipeError(f"method '{name}' learns from labels, but this recipe trains on normal rows only")
        settings: dict[str, Any] = {"name": name, "scaling": bench.detector.scaling}
        if DETECTORS[name].learning == bench.detector.learning:
            # A rule for one kind of score (a probability, say) means nothing for another: there the detector's own rule holds.
            settings["threshold"] = bench.detector.threshold
        detector = build(DETECTORS, settings, "method")
        fitted = detector.fit(bench.pooled[POOLED], seed=bench.setting.seed)
        return bench.everywhere(fitted.calibrated(bench.pooled_calibration[POOLED]))

    return baseline


def _restored(detector: NetworkDetector, memories: Mapping[str, Memory], shared: bool = True) -> dict[str, Detector]:
    """Return a detector for each node; nodes that hold the same get the same object, which is then scored once."""
    found: dict[str, Detector] = {}
    restored = {}
    for node in sorted(memories):
        same = hashlib.sha256()
        for name, value in sorted(memories[node].items()):
            if _counts(name, shared):
                same.update(_bytes(name, value))
        restored[node] = found.setdefault(same.hexdigest(), detector.restored(memories[node]))
    return restored


def _counts(name: str, shared: bool) -> bool:
    return not name.startswith("optimiser.") and not (shared and name.startswith("own."))


def _bytes(name: str, value: Array | float | str) -> bytes:
    return name.encode() + (value.tobytes() if isinstance(value, np.ndarray) else str(value).encode())


def _losses(outcome: Outcome | None) -> list[float]:
    return [] if outcome is None else [entry.loss for entry in outcome.history if entry.stage == "rounds" and entry.loss is not None]
