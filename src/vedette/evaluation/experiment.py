"""Experiments: a recipe carried out, every method on the same rows, every number with how it was made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias
from urllib.parse import quote

from vedette.data.dataset import Dataset
from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.detectors.bundle import save_bundle
from vedette.detectors.oneshot import Federable
from vedette.errors import DataUnusable
from vedette.evaluation.accounts import groupings, matched, network, sharing, trust
from vedette.evaluation.diagnostics import demand_libraries
from vedette.evaluation.effort import Watch, accuracies, scoring
from vedette.evaluation.evasion import evasions_among
from vedette.evaluation.followed import Followed
from vedette.evaluation.footprint import footprint
from vedette.evaluation.latency import latency
from vedette.evaluation.membership import controls_of, memberships_of
from vedette.evaluation.methods import POOLED, Bench, method_named, restored, runs_of
from vedette.evaluation.order import order
from vedette.evaluation.plots import MOST_PEERS, Tradeoff
from vedette.evaluation.privacy import privacy_of
from vedette.evaluation.recipe import ProtocolName, Recipe
from vedette.evaluation.report import Curve, Holding, Trace
from vedette.evaluation.report.results import REFERENCES, focus_of
from vedette.evaluation.scoring import Figures, folded, kind_rows, metric_rows, tradeoff_of
from vedette.evaluation.setting import Setting, about_data, holdings_among, in_order, shared_out, with_shared_tests
from vedette.evaluation.shown import explained, some_rows, traces
from vedette.message import Memory
from vedette.runtimes.base import Outcome, Round, plan_of
from vedette.runtimes.cluster.scoring import score_blocks
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.meetings import Attackers
from vedette.runtimes.topology import Topology
from vedette.runtimes.workers import Workers
from vedette.strategies.base import Strategy
from vedette.training.task import Trainer
from vedette.version import __version__

__all__ = ["Experiment", "OnPhase", "OnProgress", "Result"]

OnProgress: TypeAlias = Callable[[str, Round], None]
"""Called with a line such as ``"strict, seed 3, federated"`` and the round just finished."""

OnPhase: TypeAlias = Callable[[str, int, int], None]
"""Called with such a line, and how many nodes are done in the current phase, of how many: 0 when it begins, then after each."""


@dataclass
class Result:
    """What an experiment found.

    Attributes
    ----------
    run
        The content of metrics.json.
    curves, traces, holdings, tradeoffs
        For the report.
    detectors
        Method -> node -> detector, of the first protocol and seed.
    """

    run: dict[str, Any]
    curves: list[Curve] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)
    holdings: list[Holding] = field(default_factory=list)
    tradeoffs: list[Tradeoff] = field(default_factory=list)
    detectors: dict[str, Mapping[str, Detector]] = field(default_factory=dict)


class Experiment:
    """Carries a recipe out.

    Parameters
    ----------
    recipe
        What to do.
    root
        Data root, or None.
    seed
        Base seed; run i uses seed + i.
    protocols
        Names of those to run; the recipe's own choice if empty.
    checkpoints
        Folder for the state after every round; None keeps none.
    resume
        Go on from the states in that folder.
    on_progress
        Told of every round.
    on_start
        Called once, after the first round: from then on there is something to go on from.
    dataset
        What the recipe's data are at the base seed, if they were read already.
    workers
        Processes that train; 1 trains in this one, 0 takes as many as there are cores. The results are the same. `Workers`
        may be given too, with all that can be said of them.
    on_phase
        Told how far each phase is.
    """

    def __init__(
        self,
        recipe: Recipe,
        root: Path | None = None,
        seed: int = 0,
        protocols: Sequence[ProtocolName] = (),
        checkpoints: Path | None = None,
        resume: bool = False,
        on_progress: OnProgress = lambda *_: None,
        on_start: Callable[[], None] = lambda: None,
        dataset: Dataset | None = None,
        workers: int | Workers = 1,
        on_phase: OnPhase = lambda *_: None,
    ) -> None:
        self.recipe, self.root, self.seed = recipe, root, seed
        self.protocols = list(protocols) or recipe.chosen_protocols()
        self.checkpoints, self.resume, self.on_progress, self.on_start = checkpoints, resume, on_progress, on_start
        self.workers = workers if isinstance(workers, Workers) else Workers(workers)
        self.on_phase = on_phase
        self._started = False
        self.methods = {name: method_named(name, recipe) for name in recipe.methods}
        self.folds = 1
        self._timing: dict[str, float] = {}
        self._traffic: dict[str, int] = {}
        accounts = ("peers", "trust", "sharing", "topologies", "privacy", "clusters")
        self._accounts: dict[str, list[dict[str, Any]]] = {name: [] for name in accounts}
        self._evasions: list[dict[str, Any]] = []
        self._memberships: list[dict[str, Any]] = []
        self._footprints: list[dict[str, Any]] = []
        self._latencies: list[dict[str, Any]] = []
        self._orders: list[dict[str, Any]] = []
        self._paces: list[dict[str, Any]] = []
        self._efforts: dict[str, list[dict[str, Any]]] = {"training": [], "scoring": []}
        self._followed = Followed(checkpoints, resume)
        self._reasons: list[dict[str, Any]] = []
        self._incidents: list[dict[str, Any]] = []
        self._loaded: dict[str, Dataset] = {}
        if dataset is not None:
            self._loaded[recipe.dataset_key(seed)] = recipe.prepared(dataset)

    @property
    def steps(self) -> int:
        """How many runs in rounds there will be, for a progress bar; more are known of once the data are read."""
        in_rounds = sum(runs_of(name, self.recipe) for name in self.methods)
        return len(self.protocols) * self.recipe.seeds * self.folds * in_rounds

    def run(self) -> Result:
        """Run all protocols, seeds and methods.

        Raises
        ------
        VedetteError
            What a user can cause.
        """
        result = Result(run={})
        seeds = [self.seed + i for i in range(self.recipe.seeds)]
        rows: list[dict[str, Any]] = []
        kinds: list[dict[str, Any]] = []
        about: dict[str, dict[str, Any]] = {}
        self._demand_diagnostics()
        for protocol in self.protocols:
            recipe = self.recipe.under(protocol)
            for seed in seeds:
                with self._timed("data"):
                    dataset = self._dataset(recipe, seed)
                    folds = recipe.protocols[protocol].folds(dataset, seed)
                self.folds = max(self.folds, len(folds))
                tables: dict[str, Figures] = {}
                for fold, parts_of in folds.items():
                    with self._timed("data"):
                        parts = with_shared_tests(recipe, parts_of(), seed)
                        setting = shared_out(recipe, protocol, seed, fold, parts, in_order(recipe, protocol, dataset))
                    first = protocol == self.protocols[0] and seed == seeds[0] and not tables
                    if seed == seeds[0]:
                        about[protocol] = about_data(recipe, setting, parts, about.get(protocol) if tables else None)
                        held = [] if tables else holdings_among(recipe, seed, parts)
                        if 0 < len(held) <= MOST_PEERS:
                            about[protocol]["holdings"] = {each.node: [each.normal, each.anomalous, each.test] for each in held}
                        result.holdings = held if first else result.holdings
                    tables[fold] = self._table(setting, result, first)
                found = tables[""] if "" in tables else folded(tables)
                rows, kinds = rows + found.rows, kinds + found.kinds
        result.run = {
            "schema": "vedette.run/1",
            "recipe": self.recipe.name,
            "title": self.recipe.title,
            "description": self.recipe.description,
            "source": self.recipe.source,
            "version": __version__,
            "seed": self.seed,
            "seeds": seeds,
            "runtime": "cluster" if self.workers.away else "local",
            "data": {**about[self.protocols[0]], "protocols": about},
            "rows": rows,
            "kinds": kinds,
            "timing": {name: round(seconds, 3) for name, seconds in self._timing.items()},
            "traffic_bytes": self._traffic,
            **self._accounts,
            "followed": self._followed.told(),
            "evasions": self._evasions,
            "membership": self._memberships,
            "footprints": self._footprints,
            "paces": self._paces,
            "latencies": self._latencies,
            "orders": self._orders,
            "efforts": self._told_efforts(rows),
            "reasons": self._reasons,
            "incidents": self._incidents,
            "settings": self.recipe.model_dump(mode="json"),
        }
        return result

    def _demand_diagnostics(self) -> None:
        """Refuse diagnostics that cannot be worked out, before anything is trained."""
        for protocol, recipe in ((protocol, self.recipe.under(protocol)) for protocol in self.protocols):
            demand_libraries(recipe.diagnostics)
            if recipe.diagnostics and not in_order(recipe, protocol, self._dataset(recipe, self.seed)):
                raise DataUnusable(
                    f"diagnostics look at rows that follow each other in time, and the test rows of '{self.recipe.name}' under "
                    f"'{protocol}' do not: leave 'diagnostics' empty or take another protocol"
                )

    def _table(self, setting: Setting, result: Result, first: bool) -> Figures:
        """Train and score every method on one setting."""
        figures = Figures([], [])
        bench = Bench(setting, lambda *run: self._carried(setting, *run))
        for name, method in self.methods.items():
            with self._timed(f"train {name}"):
                made = method(bench)
            if made.curve and (first or not setting.fold):
                result.curves.append(Curve(name, setting.protocol, setting.seed, made.curve))
            if first and made.detectors:
                result.detectors[name] = made.detectors
            if setting.recipe.footprint and setting.seed == self.seed:
                with self._timed("footprint"):
                    self._footprints += [found] if (found := footprint(name, setting, made)) else []
            if setting.recipe.strategy.shards and setting.seed == self.seed and made.detectors:
                with self._timed("effort"):
                    self._efforts["scoring"] += self._scoring(name, setting, next(iter(made.detectors.values())))
            if first and setting.recipe.latency and (bundled := next((each for each in made.detectors.values() if each.bundled), None)):
                with self._timed("latency"):
                    found = {"method": name, "protocol": setting.protocol, "seed": setting.seed}
                    self._latencies.append({**found, **latency(bundled, some_rows(setting))})
            for split, tests in setting.tests.items():
                with self._timed(f"score {name}"):
                    scored = made.score(tests)
                about = {"method": name, "protocol": setting.protocol, "split": split, "seed": setting.seed}
                figures.rows.extend(metric_rows(scored, about, setting.recipe.diagnostics))
                figures.kinds.extend(kind_rows(scored, about))
                for evasion in setting.recipe.evasions if split == "test" else ():
                    with self._timed(f"evade {name}"):
                        self._evasions += evasions_among(name, setting, made.detectors, evasion)
                if setting.recipe.order and split == "test" and name == focus_of(self.methods) and made.detectors:
                    with self._timed("order"):
                        told = order(made.detectors, tests, scored, setting.seed)
                        self._orders.append({**about, "fold": setting.fold, **told})
                if first and split == "test" and name not in REFERENCES and (tradeoff := tradeoff_of(name, scored)):
                    result.tradeoffs.append(tradeoff)
                if first and split == "test" and name == focus_of(self.methods):
                    result.traces = traces(name, setting, scored, tests)
                    self._reasons = explained(name, setting, made.detectors, scored, tests, [trace.node for trace in result.traces])
        return figures

    def _carried(
        self,
        setting: Setting,
        name: str,
        detector: Federable,
        strategy: Strategy,
        topology: Topology,
        trainer: Trainer,
        train: Fleet,
        calibration: Fleet,
        start: Mapping[str, Memory] | None,
    ) -> Outcome:
        label = f"{setting.label}, {name}"
        file = None if self.checkpoints is None else self.checkpoints / f"{quote(label.replace(', ', '-'), safe=' ')}.safetensors"
        among = POOLED not in train and start is None
        # What shards are compared with is one machine: this process.
        workers = self.workers if among or not setting.recipe.strategy.shards else Workers(1)
        runtime = LocalRuntime(train, calibration, file, self.resume, start, workers, partial(self.on_phase, label))
        attackers = setting.recipe.attackers if among else Attackers()
        plan = plan_of(detector, strategy, setting.seed, topology, attackers, trainer)
        watch = Watch()

        def on_round(entry: Round, ended: Callable[[], Mapping[str, Memory]]) -> None:
            watch.round_done(entry)
            self._round_done(label, entry)
            every = setting.recipe.follow
            if every and entry.stage == "rounds" and (entry.number % every == 0 or entry.number == entry.of):
                begun = time.perf_counter()
                with self._timed("follow"):
                    self._followed.add(setting, name, entry.number, restored(detector, ended()))
                watch.skip(time.perf_counter() - begun)

        outcome = runtime.run(plan, on_round)
        about = {"method": name, "protocol": setting.protocol, "seed": setting.seed, "fold": setting.fold}
        self._incidents += [{**about, **incident._asdict()} for incident in outcome.incidents]
        if pace := watch.pace(outcome, len(train)):
            self._paces.append({**about, **pace})
        if setting.recipe.strategy.shards and strategy.rounds:
            told = watch.told(outcome, strategy) | ({} if among else {"bytes": 0})
            self._efforts["training"].append({**about, "workers": workers.count, **told})
        if among:
            self._traffic.setdefault(name, sum(entry.sent + entry.received for entry in outcome.history))
            self._tell(setting, name, topology, strategy, outcome, privacy_of(plan, outcome, len(train)))
            if setting.recipe.membership and setting.seed == self.seed and any(entry.sent for entry in outcome.history):
                with self._timed("membership"):
                    self._attack(name, setting, lambda: memberships_of(detector, strategy, train, setting.seed, topology, trainer))
                    self._attack("control", setting, lambda: controls_of(train, setting.seed))
        return outcome

    def _attack(self, name: str, setting: Setting, attacks: Callable[[], list[dict[str, Any]]]) -> None:
        """Try to tell what a method was trained on, in the first fold of each protocol."""
        if not any((each["method"], each["protocol"]) == (name, setting.protocol) for each in self._memberships):
            about = {"method": name, "protocol": setting.protocol, "seed": setting.seed, "fold": setting.fold}
            self._memberships += [{**about, **each} for each in attacks()]

    def _scoring(self, name: str, setting: Setting, detector: Detector) -> list[dict[str, Any]]:
        """Measure scoring, on the cluster too if there is one."""
        found = []
        with TemporaryDirectory(prefix="vedette-") as folder:
            if clustered := self.workers.away and detector.bundled:
                save_bundle(detector, Path(folder) / "bundle", {})
            for split, tests in setting.tests.items():
                table = tests if isinstance(tests, Table) else tests.pooled()
                blocks = partial(score_blocks, Path(folder) / "bundle", table, self.workers) if clustered else None
                about = {"method": name, "protocol": setting.protocol, "seed": setting.seed, "fold": setting.fold, "split": split}
                found += [{**about, **each} for each in scoring(detector, table, blocks)]
        return found

    def _told_efforts(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        methods = {each["method"] for each in self._efforts["training"]}
        return {"accuracy": accuracies(rows, sorted(methods)), **self._efforts} if methods else {}

    def _tell(
        self, setting: Setting, name: str, topology: Topology, strategy: Strategy, outcome: Outcome, private: dict[str, Any] | None
    ) -> None:
        """Keep what came of learning together, of the first seed and fold of each protocol; who was trusted of all."""
        about = {"method": name, "protocol": setting.protocol, "seed": setting.seed, "fold": setting.fold}
        shared = sharing(outcome)
        found = {
            "peers": matched(outcome),
            "trust": trust(outcome, setting.recipe.attackers),
            "sharing": {"nodes": shared} if shared else None,
            "topologies": network(topology, setting.train.nodes, strategy.rounds, setting.seed, outcome),
            "privacy": private,
            "clusters": groupings(outcome),
        }
        for kind, account in found.items():
            told = any((each["method"], each["protocol"]) == (name, setting.protocol) for each in self._accounts[kind])
            if account and (kind == "trust" or not told):
                self._accounts[kind].append({**about, **account})

    def _round_done(self, label: str, entry: Round) -> None:
        if not self._started:
            self._started = True
            self.on_start()
        self.on_progress(label, entry)

    def _dataset(self, recipe: Recipe, seed: int) -> Dataset:
        """Read what a recipe is about; the last is kept, because seeds share it unless it is simulated."""
        wanted = recipe.dataset_key(seed)
        if wanted not in self._loaded:
            self._loaded = {wanted: recipe.prepared(recipe.data.load(self.root, seed))}
        return self._loaded[wanted]

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self._timing[what] = self._timing.get(what, 0.0) + time.perf_counter() - begin
