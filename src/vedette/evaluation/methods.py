"""The methods of a table: what is trained how, to be compared on the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.detectors.base import DETECTORS, Detector
from vedette.detectors.network import NetworkDetector
from vedette.detectors.oneshot import Federable, OneShot
from vedette.errors import DataUnusable, UnknownName
from vedette.evaluation.effort import by_lap
from vedette.evaluation.recipe import Recipe, Variant
from vedette.evaluation.scoring import Scored, score_fleet, score_trivial
from vedette.evaluation.setting import Setting
from vedette.message import Array, Memory
from vedette.registry import Registry, suggestion
from vedette.runtimes.base import Outcome
from vedette.runtimes.topology import Server, Topology
from vedette.seeds import stream
from vedette.strategies.base import Strategy
from vedette.strategies.local import Local
from vedette.strategies.merge import Merge
from vedette.training.lowmem.trainer import LowmemTrainer, narrowed
from vedette.training.task import Trainer

__all__ = ["METHODS", "POOLED", "Made", "Method", "method_named", "over", "restored", "runs_of"]

D = TypeVar("D", bound=Detector)

POOLED = "centralised"


class Made(NamedTuple):
    """A method ready to be scored.

    Attributes
    ----------
    score
        Scores one set of test rows.
    detectors
        By node; none for the trivial methods.
    curve
        Training loss per round; per epoch where nodes are shards of one data set.
    trained
        Who trained its networks, and what returns the rows of one node that they were trained on.
    """

    score: Callable[[Fleet | Table], list[Scored]]
    detectors: Mapping[str, Detector] = {}
    curve: Sequence[float] = ()
    trained: tuple[Trainer, Callable[[], Table]] | None = None


Start: TypeAlias = Mapping[str, Memory] | None
Carry: TypeAlias = Callable[[str, Federable, Strategy, Topology, Trainer, Fleet, Fleet, Start], Outcome]
"""Carries a run out, under a name: detector, strategy, who hears whom, who trains, training and calibration rows, memories before."""


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
        self.setting, self.detector = setting, setting.recipe.detector
        self.strategy = over(setting.recipe.strategy, self.detector, setting.train)
        self.topology: Topology = setting.recipe.topology
        self.trainer: Trainer = setting.recipe.trainer
        self._carry = carry
        self._outcomes: list[tuple[tuple[Any, ...], Outcome]] = []

    def carried(self, name: str, detector: Federable, strategy: Strategy, pooled: bool = False, after: Outcome | None = None) -> Outcome:
        """Run in rounds, on the fleet or on its pooled rows, from the start or after another run; the same run again gives the same."""
        # One place has nobody to hear.
        topology = Server() if pooled else self.topology
        run = (detector, strategy, topology, self.trainer, pooled, None if after is None else id(after))
        found = next((outcome for known, outcome in self._outcomes if known == run), None)
        if found is None:
            fleets = (self.pooled, self.pooled_calibration) if pooled else (self.setting.train, self.setting.calibration)
            found = self._carry(name, detector, strategy, topology, self.trainer, *fleets, None if after is None else after.memories)
            self._outcomes.append((run, found))
        return found

    @cached_property
    def pooled(self) -> Fleet:
        """All training rows at one node."""
        return self._one(self.setting.train)

    @cached_property
    def pooled_calibration(self) -> Fleet:
        """All calibration rows at one node."""
        return self.pooled if self.setting.calibration is self.setting.train else self._one(self.setting.calibration)

    def needs_labels(self, detector: Detector) -> bool:
        """Tell whether a detector learns from labels that the recipe's own does without."""
        return detector.learning == "supervised" != self.detector.learning

    def _one(self, fleet: Fleet) -> Fleet:
        """Return all rows at one node; those of shards as they stood in the data set, with the windows that they had there."""
        table = fleet.pooled()
        places = [place for node in fleet if (place := fleet[node].place) is not None]
        if self.strategy.shards and len(places) == len(fleet):
            stood = np.concatenate(places)
            order = np.argsort(stood, kind="stable")
            table = replace(table.take(order), place=stood[order])
        return Fleet.of({POOLED: table})

    def under(self, name: str) -> Bench:
        """Return the bench of a variant, which may have a strategy, a topology and a trainer of its own; what was carried out is shared."""
        other, recipe = copy(self), self.setting.recipe
        other.strategy = over(recipe.strategy_of(name), recipe.variant(name), self.setting.train)
        other.topology = recipe.variants[name].topology or self.topology
        other.trainer = recipe.trainer_of(name)
        return other

    def fitting(self, detector: D) -> D:
        """Return a detector narrow enough for the memory that its trainer may take.

        Raises
        ------
        RecipeError
            None fits.
        """
        trainer = self.trainer
        if not isinstance(trainer, LowmemTrainer) or trainer.memory_budget is None or not isinstance(detector, NetworkDetector):
            return detector
        scaler = detector.scaling.fitted(detector.scaling.summary(self.pooled[POOLED]))
        return narrowed(detector, trainer, scaler.width * detector.window.size)

    def alone(self, batch: int | None = None) -> Local:
        """Return training without exchange that visits the rows as often as the strategy does."""
        if self.strategy.shards:
            return Local(rounds=self.strategy.laps, batch=batch)
        return Local(rounds=self.strategy.rounds, epochs=getattr(self.strategy, "epochs", 1.0), batch=batch)

    def made(self, detectors: Mapping[str, Detector], outcome: Outcome | None = None) -> Made:
        """Return detectors as a method."""
        honest = {node: detector for node, detector in detectors.items() if node not in self.setting.recipe.attackers.nodes}
        fleet = self.pooled if outcome is not None and POOLED in outcome.memories else self.setting.train
        trained = None if outcome is None else (self.trainer, lambda: fleet[fleet.nodes[0]])
        losses = _losses(outcome)
        if self.strategy.shards:
            losses = by_lap(losses, self.strategy.laps)
        return Made(lambda tests: score_fleet(honest, tests, self.setting.ordered), honest, losses, trained)

    def everywhere(self, detector: Detector, outcome: Outcome | None = None) -> Made:
        """Return one detector, used by all nodes, as a method."""
        return self.made(dict.fromkeys(self.setting.train, detector), outcome)


Method: TypeAlias = Callable[[Bench], Made]
METHODS: Registry[Method] = Registry("method")


@METHODS.register("flag-all")
def flag_all(bench: Bench) -> Made:
    """Call every row an anomaly."""
    return Made(lambda tests: score_trivial(tests, lambda _, table: np.ones(len(table)), 0.5, bench.setting.ordered))


@METHODS.register("random")
def random(bench: Bench) -> Made:
    """Call every other row an anomaly, by the toss of a coin."""

    def scores_of(node: str, table: Table) -> Array:
        return stream(bench.setting.seed, "random method", node, len(table)).random(len(table))

    return Made(lambda tests: score_trivial(tests, scores_of, 0.5, bench.setting.ordered))


@METHODS.register("majority")
def majority(bench: Bench) -> Made:
    """Call every row what most training rows are: the accuracy that comes for free."""
    label = bench.pooled[POOLED].label
    flagged = float(label is not None and label.mean() > 0.5)
    return Made(lambda tests: score_trivial(tests, lambda _, table: np.full(len(table), flagged), 0.5, bench.setting.ordered))


@METHODS.register("timetable")
def timetable(bench: Bench) -> Made:
    """Call a row an anomaly where most training rows were ones at the same place of their recording: what a timetable gives away.

    It looks at no reading. Where it does well all recordings follow one script, and no detector may be told the time or the place.
    """
    train = bench.pooled[POOLED]
    if train.label is None:
        raise DataUnusable("the timetable needs labelled training rows")
    places = _since_the_start(train)
    held = np.bincount(places)
    share = np.divide(np.bincount(places, weights=train.label != 0), held, out=np.zeros(len(held)), where=held > 0)

    def scores_of(node: str, table: Table) -> Array:
        at = _since_the_start(table)
        return np.where(at < len(share), share[np.minimum(at, len(share) - 1)], 0.0)

    return Made(lambda tests: score_trivial(tests, scores_of, 0.5, bench.setting.ordered))


def _since_the_start(table: Table) -> Array:
    """Return [rows] int, how many rows of its recording were before each row."""
    at = np.arange(len(table)) if table.place is None else np.asarray(table.place, dtype=np.int64)
    codes = np.zeros(len(table), dtype=np.int64) if table.group is None else table.group.codes
    first = np.full(int(codes.max(initial=0)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, codes, at)
    return np.asarray(at - first[codes])


@METHODS.register("untrained")
def untrained(bench: Bench) -> Made:
    """The federated detector with its first random weights: what scaling and calibration alone are worth."""
    outcome = bench.carried("untrained", bench.detector, bench.strategy.model_copy(update={"rounds": 0}))
    return bench.made(restored(bench.detector, outcome.memories))


@METHODS.register("local")
def local(bench: Bench) -> Made:
    """Each node by itself, with steps as in the federation: own scaling, own training, own threshold, nothing shared."""
    return _local(bench, "local", bench.detector)


@METHODS.register("centralised")
def centralised(bench: Bench) -> Made:
    """All rows of all nodes at one place: what privacy costs."""
    return _centralised(bench, "centralised", bench.detector)


@METHODS.register("federated")
def federated(bench: Bench) -> Made:
    """The recipe's strategy among the nodes."""
    return _federated(bench, "federated", bench.detector)


@METHODS.register("federated-own-threshold")
def federated_own_threshold(bench: Bench) -> Made:
    """The federated detector, but each node sets its threshold by its own calibration rows."""
    outcome = bench.carried("federated", bench.detector, bench.strategy)
    return bench.made(restored(_own_threshold(bench.detector), outcome.memories, shared=False))


@METHODS.register("fine-tuned")
def fine_tuned(bench: Bench) -> Made:
    """The federated detector, trained on by each node alone, with a threshold of its own."""
    return _fine_tuned(bench, "fine-tuned", bench.detector)


def method_named(name: str, recipe: Recipe) -> Method:
    """Return a method of a recipe: a variant, one of `METHODS`, or a detector fitted on all rows at one place.

    Raises
    ------
    UnknownName
        No such method, with the nearest one.
    RecipeError
        A detector that learns from labels where training rows are normal ones only.
    """
    if name in recipe.variants:
        trained = _TRAININGS[recipe.variants[name].trained]
        return lambda bench: trained(bench.under(name), name, bench.setting.recipe.variant(name))
    if name in METHODS:
        return METHODS[name]
    if name not in DETECTORS:
        known = [*METHODS, *DETECTORS, *recipe.variants]
        raise UnknownName(f"unknown method '{name}'; {suggestion(name, known)}")
    variants = {**recipe.variants, name: Variant(detector={"name": name})}
    named = recipe.model_copy(update={"variants": variants})
    named.variant(name)
    return lambda bench: _centralised(bench, name, bench.setting.recipe.model_copy(update={"variants": variants}).variant(name))


def runs_of(name: str, recipe: Recipe) -> int:
    """Return in how many runs in rounds a method trains."""
    if name in recipe.variants:
        in_rounds = isinstance(recipe.variant(name), NetworkDetector)
        return in_rounds * (2 if recipe.variants[name].trained == "fine-tuned" else 1)
    return int(name in ("untrained", "local", "centralised", "federated", "fine-tuned"))


def _local(bench: Bench, name: str, detector: Detector) -> Made:
    detector = bench.fitting(detector)
    scaling = detector.scaling.model_copy(update={"fit": "local"})
    alone = _own_threshold(detector).model_copy(update={"scaling": scaling})
    if isinstance(alone, NetworkDetector):
        outcome = bench.carried(name, alone, bench.alone(getattr(bench.strategy, "batch", None)))
        return bench.made(restored(alone, outcome.memories), outcome)
    train, calibration = bench.setting.labelled if bench.needs_labels(alone) else bench.setting.train, bench.setting.calibration
    return bench.made({node: _fitted(bench, alone, train[node], calibration[node]) for node in train})


def _centralised(bench: Bench, name: str, detector: Detector) -> Made:
    detector = bench.fitting(detector)
    if isinstance(detector, NetworkDetector):
        outcome = bench.carried(name, detector, bench.alone(), pooled=True)
        return bench.everywhere(detector.restored(outcome.memories[POOLED]), outcome)
    rows = bench.setting.labelled.pooled() if bench.needs_labels(detector) else bench.pooled[POOLED]
    return bench.everywhere(_fitted(bench, detector, rows, bench.pooled_calibration[POOLED]))


def _federated(bench: Bench, name: str, detector: Detector) -> Made:
    assert isinstance(detector, Federable)
    detector = bench.fitting(detector)
    outcome = bench.carried(name, detector, Merge() if isinstance(detector, OneShot) else bench.strategy)
    return bench.made(restored(detector, outcome.memories), outcome)


def _fine_tuned(bench: Bench, name: str, detector: Detector) -> Made:
    assert isinstance(detector, NetworkDetector)
    # The recipe's own federation is carried out once, under one name.
    recipe = bench.setting.recipe
    same = (detector, bench.strategy, bench.topology, bench.trainer) == (bench.detector, recipe.strategy, recipe.topology, recipe.trainer)
    detector = bench.fitting(detector)
    common = bench.carried("federated" if same else f"{name}, federated", detector, bench.strategy)
    alone = Local(rounds=1, epochs=bench.setting.recipe.fine_tuning, batch=getattr(bench.strategy, "batch", None))
    own = _own_threshold(detector)
    return bench.made(restored(own, bench.carried(name, own, alone, after=common).memories))


_TRAININGS: Mapping[str, Callable[[Bench, str, Detector], Made]] = {
    "local": _local,
    "centralised": _centralised,
    "federated": _federated,
    "fine-tuned": _fine_tuned,
}


def _own_threshold(detector: D) -> D:
    return detector.model_copy(update={"threshold": detector.threshold.model_copy(update={"fit": "local"})})


def _fitted(bench: Bench, detector: Detector, train: Table, calibration: Table) -> Detector:
    fitted = detector.model_copy().fit(train, seed=bench.setting.seed)
    return fitted if calibration is train else fitted.calibrated(calibration)


def over(strategy: Strategy, detector: Detector, fleet: Fleet) -> Strategy:
    """Return a strategy with what depends on the data worked out; of nodes whose rows are not looked at for it, none are made."""
    if not strategy.shards or not isinstance(detector, NetworkDetector):
        return strategy
    return strategy.over([len(detector.window.ends(fleet[node])) for node in fleet], detector.optimiser.batch)


def restored(detector: Federable, memories: Mapping[str, Memory], shared: bool = True) -> dict[str, Detector]:
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
