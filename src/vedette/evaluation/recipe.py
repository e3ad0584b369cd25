"""Recipes: one experiment each, as TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from vedette.data.baseline import Baseline
from vedette.data.dataset import Dataset, Loader
from vedette.data.datasets import LOADERS
from vedette.data.gaps import Gaps
from vedette.data.lags import lagged
from vedette.data.partition import PARTITIONS, Natural, Partition
from vedette.detectors.base import DETECTORS, Detector
from vedette.detectors.network import NetworkDetector
from vedette.detectors.oneshot import Federable, OneShot
from vedette.errors import RecipeError, UnknownName
from vedette.evaluation.diagnostics import Diagnostic
from vedette.evaluation.protocol import Protocol
from vedette.registry import suggestion
from vedette.runtimes.base import demand_fitting
from vedette.runtimes.meetings import Attackers
from vedette.runtimes.topology import AnyTopology, Server
from vedette.settings import Settings, assign, assignments, build, describe, named, validated
from vedette.strategies.base import STRATEGIES, Strategy
from vedette.strategies.merge import Merge
from vedette.training.cohort.trainer import CohortTrainer
from vedette.training.evasion import Evasion
from vedette.training.task import Trainer
from vedette.training.trainers import TRAINERS, AnyTrainer

__all__ = ["Recipe", "Variant", "load_recipe", "recipe_names", "recipe_text"]

ProtocolName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
"""``"published"`` follows the paper, ``"strict"`` leaks nothing; others say what they ask, such as ``"left-out"``."""

METHODS = ("flag-all", "random", "untrained", "variance-distance", "pca", "local", "centralised", "federated")


def _federable(detector: Any) -> Any:
    """Refuse a detector that nodes cannot learn together."""
    if isinstance(detector, Detector) and not isinstance(detector, Federable):
        raise ValueError("nodes cannot learn it together; list it under 'methods' to have it in the table")
    return detector


AnyStrategy: TypeAlias = Annotated[Strategy, *named(STRATEGIES)]


Changes: TypeAlias = Annotated[dict[str, Any], BeforeValidator(lambda given: {"name": given} if isinstance(given, str) else given)]
"""Settings that differ from those of the recipe's part, or a part of its own, by its name alone or with settings."""


class Variant(Settings):
    """A further detector for the table, by how it is trained.

    Parameters
    ----------
    detector
        Its settings, with its name; scaling, threshold and optimiser are those of the recipe's detector unless given. Without a name
        it is the recipe's detector, with these settings changed.
    trained
        ``"local"``: by each node alone; ``"centralised"``: on all rows at one place; ``"federated"``: by the recipe's strategy;
        ``"fine-tuned"``: by each node alone after the federation.
    strategy
        How it is trained, if not by the recipe's strategy: settings, with its name; rounds, epochs and batch are those of the recipe's
        strategy unless given. Without a name it is the recipe's strategy, with these settings changed.
    topology
        Who hears whom, if not as the recipe says.
    trainer
        Who trains it, if not the recipe's trainer: settings, with its name. Without a name it is the recipe's trainer, with these settings
        changed.
    """

    detector: dict[str, Any] = {}
    strategy: Changes = {}
    topology: AnyTopology | None = None
    trainer: Changes = {}
    trained: Literal["local", "centralised", "federated", "fine-tuned"] = "centralised"


class Recipe(Settings):
    """One experiment: data, detector, strategy and protocol.

    Parameters
    ----------
    name
        As `vedette run` takes it.
    title, description, source
        What it is, in a line; what it does; which paper it follows.
    data
        The data set, by name.
    gaps
        What is done about missing readings and irregular sampling, before rows are shared out.
    baseline
        Whether numbers are told as deviations from the beginning of their recording.
    lags
        How many rows of its recording each row holds, itself included, before rows are split; windows (``detector.window``) are cut
        after it and never reach across the split.
    features
        Names of the features to use; all if empty.
    partition
        Which node holds which row.
    detector
        What each node trains, with its scaling and threshold.
    strategy
        How nodes learn together.
    topology
        Who hears whom: a coordinator (``"server"``) all nodes, or peers their neighbours.
    trainer
        Who trains: ``"cohort"``, dense networks of many nodes side by side and others with torch; ``"torch"``, one node after the other; or
        ``"lowmem"`` within a stated number of bytes.
    attackers
        Nodes that do not play by the rules, for drills; they train and send, but the table is about the others.
    protocols
        How data are split, by name.
    protocol
        The one that is run unless told otherwise; ``"both"``: all of them.
    test
        ``"own"``: each node is tested on its own share of the test rows; ``"shared"``: every node on all of them, because what comes there
        can come anywhere.
    methods
        What stands in the table: names of methods, of variants, or of detectors (fitted on all rows at one place).
    variants
        Further detectors, by the name they have in the table.
    diagnostics
        Figures to show besides, which no method should be compared by: ``"affiliation"`` (needs ``vedette[diagnostics]``),
        ``"point-adjusted"``.
    evasions
        How, and how far, an attacker changes anomalous test rows so that classifiers call them normal; how many are missed then is told
        besides.
    follow
        After every so many rounds, detectors learned in rounds are scored on the test rows as they were if training ended there, and
        after the last; 0: only in the end. Nothing is chosen by it.
    latency
        Whether to measure how soon a reading is judged by the bundle of each method, one by one and under load, on the first seed of the
        first protocol.
    order
        Whether to tell what the order of test rows is worth to the method the recipe is about, and that it looks at no later row.
    membership
        Whether to attack what nodes learn together, on the first seed: can it be told which rows, and which nodes, it was trained on? It
        takes three trainings on half of the rows and three on half of the nodes, of each method, and a control that is known by heart.
    footprint
        Whether to measure what training takes in memory, time and energy: of every method that trains a network, on the first seed, in
        processes that do nothing else.
    fine_tuning
        Epochs that each node trains on alone after the federation, in the method ``"fine-tuned"``.
    seeds
        How many runs, each with its own seed.
    quick, full
        Keys that differ under ``--quick`` (to see that it works) and under ``--full`` (as long as the paper trained).
    """

    name: str
    title: str
    description: str = ""
    source: str = ""
    data: Annotated[Loader, *named(LOADERS)]
    gaps: Gaps = Gaps()
    baseline: Baseline = Baseline()
    lags: int = Field(default=1, ge=1, le=1000)
    features: tuple[str, ...] = ()
    partition: Annotated[Partition, *named(PARTITIONS)] = Natural()
    detector: Annotated[Federable, BeforeValidator(_federable), *named(DETECTORS)]
    strategy: AnyStrategy
    topology: AnyTopology = Server()
    trainer: AnyTrainer = Field(default_factory=CohortTrainer)
    attackers: Attackers = Attackers()
    protocols: dict[ProtocolName, Protocol] = Field(default={"strict": Protocol()}, min_length=1)
    protocol: ProtocolName = "strict"
    test: Literal["own", "shared"] = "own"
    methods: tuple[str, ...] = METHODS
    variants: dict[str, Variant] = {}
    diagnostics: tuple[Diagnostic, ...] = ()
    evasions: tuple[Evasion, ...] = ()
    follow: int = Field(default=0, ge=0)
    latency: bool = False
    order: bool = False
    membership: bool = False
    footprint: bool = False
    fine_tuning: float = Field(default=1.0, gt=0)
    seeds: int = Field(default=5, ge=1)
    quick: dict[str, Any] = {}
    full: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _keeps_a_budget(cls, values: Any) -> Any:
        return _budgeted(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.protocol != "both" and self.protocol not in self.protocols:
            raise ValueError(f"protocol '{self.protocol}' is not among 'protocols'; {suggestion(self.protocol, self.protocols)}")
        if isinstance(self.detector, OneShot) != isinstance(self.strategy, Merge):
            if isinstance(self.detector, OneShot):
                raise ValueError("the detector learns in one step: its strategy must be 'merge'")
            raise ValueError("the detector is trained in rounds, and the strategy 'merge' has none")
        rounds = [name for name in self.methods if name in ("untrained", "fine-tuned")] if isinstance(self.detector, OneShot) else []
        if rounds:
            raise ValueError(f"the detector learns in one step, so there is no '{rounds[0]}'; take it out of 'methods'")
        if self.membership and self.detector.learning != "one-class":
            raise ValueError("a membership attack asks how well normal rows are known: it is for detectors that learn from these alone")
        demand_fitting(self.detector, self.strategy)
        for name in self.variants:
            self.variant(name)
            self.trainer_of(name)
        if self.diagnostics and not {"flag-all", "random"} <= set(self.methods):
            raise ValueError("diagnostics can only be read beside 'flag-all' and 'random': list both under 'methods'")
        return self

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return a data set as it is split and learned from: gaps closed, numbers told from their baseline, rows lagged."""
        tables = {part: lagged(self.baseline.applied(self.gaps.closed(table)), self.lags) for part, table in dataset.tables.items()}
        return replace(dataset, tables=tables)

    def dataset_key(self, seed: int) -> str:
        """Return what tells the data sets of recipes (and of simulated data, seeds) apart once they are `prepared`."""
        said = self.model_dump(mode="json", include={"data", "gaps", "baseline", "lags"})
        return json.dumps([said, seed if self.data.simulated else None], sort_keys=True)

    def variant(self, name: str) -> Detector:
        """Return the detector of a variant.

        Raises
        ------
        UnknownName, RecipeError
            No such detector or setting, or one without rounds that shall be trained in them.
        """
        chosen = self.variants[name]
        if "name" not in chosen.detector:
            chosen = chosen.model_copy(update={"detector": {**describe(DETECTORS, self.detector), **chosen.detector}})
        kind, strategy = DETECTORS[str(chosen.detector["name"])], self.strategy_of(name)
        shared = ["scaling", *(["threshold"] if kind.learning == self.detector.learning else [])]
        shared += ["optimiser"] if issubclass(kind, NetworkDetector) else []
        inherited = {key: getattr(self.detector, key) for key in shared}
        detector = build(DETECTORS, {**inherited, **chosen.detector}, f"variants.{name}.detector")
        alone = chosen.trained in ("local", "centralised") and not issubclass(kind, NetworkDetector)
        if kind.learning == "supervised" != self.detector.learning and not alone:
            raise RecipeError(f"variant '{name}' learns from labels in rounds, but this recipe's rounds are about normal rows only")
        if chosen.trained == "fine-tuned" and not isinstance(detector, NetworkDetector):
            raise RecipeError(f"variant '{name}' learns in one step: there is nothing to tune; it may be local, centralised or federated")
        if chosen.trained == "federated" and not isinstance(detector, Federable):
            raise RecipeError(f"variant '{name}' cannot be learned together; it may be local or centralised")
        if isinstance(detector, NetworkDetector) and chosen.trained == "federated":
            demand_fitting(detector, strategy)
        if isinstance(detector, NetworkDetector) and chosen.trained != "centralised" and isinstance(strategy, Merge):
            raise RecipeError(f"variant '{name}' is trained in rounds, and the strategy 'merge' has none")
        return detector

    def strategy_of(self, variant: str) -> Strategy:
        """Return how a variant is trained.

        Raises
        ------
        UnknownName, RecipeError
            No such strategy or setting.
        """
        given = self.variants[variant].strategy
        if not given:
            return self.strategy
        named = describe(STRATEGIES, self.strategy)
        inherited = named if "name" not in given else {key: named[key] for key in ("rounds", "epochs", "batch") if key in named}
        fields = STRATEGIES[str(given.get("name", named["name"]))].model_fields
        kept = {key: value for key, value in inherited.items() if key in fields or key == "name"}
        if "chain" in given and not any(link == "noise" or link.get("name") == "noise" for link in given["chain"]):
            # Without noise there is no budget to keep.
            kept.pop("privacy", None)
        return build(STRATEGIES, {**kept, **given}, f"variants.{variant}.strategy")

    def trainer_of(self, variant: str) -> Trainer:
        """Return who trains a variant.

        Raises
        ------
        UnknownName, RecipeError
            No such trainer or setting.
        """
        given = self.variants[variant].trainer
        own = given if "name" in given else {**describe(TRAINERS, self.trainer), **given}
        return build(TRAINERS, own, f"variants.{variant}.trainer") if given else self.trainer

    def chosen_protocols(self, wanted: ProtocolName | None = None) -> list[ProtocolName]:
        """Return the protocols to run: the wanted one, else the recipe's choice; ``"both"`` means all there are.

        Raises
        ------
        RecipeError
            The recipe does not have the wanted one.
        """
        choice = wanted or self.protocol
        if choice == "both":
            return list(self.protocols)
        if choice not in self.protocols:
            raise RecipeError(f"recipe '{self.name}' has no protocol '{choice}'; it has: {', '.join(self.protocols)}")
        return [choice]

    def under(self, protocol: ProtocolName) -> Recipe:
        """Return the recipe with the keys that a protocol sets; a device left out is no node, so all nodes' detectors are tried on it."""
        values = self.model_dump(mode="json")
        if self.protocols[protocol].leave_out == "group":
            values["test"] = "shared"
        for key, value in self.protocols[protocol].set.items():
            assign(Recipe, values, key, value, f"recipe '{self.name}', protocols.{protocol}.set")
        return validated(Recipe, values, f"recipe '{self.name}' under '{protocol}'")


def _budgeted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe in which ``[privacy]`` is what it is short for: the strategy's."""
    rest = {key: value for key, value in values.items() if key != "privacy"}
    if "privacy" not in values:
        return rest
    strategy = values.get("strategy", {})
    return {**rest, "strategy": {**({"name": strategy} if isinstance(strategy, str) else dict(strategy)), "privacy": values["privacy"]}}


def _long(key: str) -> str:
    """Return a key that is to be set, not shortened."""
    return f"strategy.{key}" if key.partition(".")[0] == "privacy" else key


def recipe_names() -> list[str]:
    """List the recipes that are shipped."""
    folder = resources.files("vedette.recipes")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str, quick: bool = False, changes: Sequence[str] = (), full: bool = False) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    name
        Of a shipped recipe, or the path of a TOML file.
    quick
        Apply the recipe's ``[quick]`` keys, and one seed.
    changes
        ``"strategy.rounds=5"``: keys to set, last.
    full
        Apply the recipe's ``[full]`` keys.

    Raises
    ------
    UnknownName
        No such recipe or key, with the nearest one.
    RecipeError
        The file is no TOML, or says something impossible; both `quick` and `full`.
    """
    if quick and full:
        raise RecipeError("a run is either quick or full, not both")
    text, label = _text(name)
    try:
        values: dict[str, Any] = _budgeted({"name": Path(name).stem, **tomllib.loads(text)})
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{label}: {error}") from None
    for part, wanted, given in (("quick", quick, {"seeds": 1}), ("full", full, {})):
        settings = values.get(part, {})
        for key, value in {**given, **(settings if isinstance(settings, Mapping) else {})}.items() if wanted else ():
            assign(Recipe, values, _long(key), value, f"{label}, [{part}]")
    for key, value in assignments(changes, "strategy.rounds=5"):
        assign(Recipe, values, _long(key), value, "--set")
    return validated(Recipe, values, label)


def recipe_text(name: str) -> str:
    """Return a shipped recipe as it is written, comments and all.

    Raises
    ------
    UnknownName
        No such recipe, with the nearest one.
    """
    known = recipe_names()
    if name not in known:
        raise UnknownName(f"unknown recipe '{name}'; {suggestion(name, known)} ('vedette recipes' lists them; a path ends in .toml)")
    return (resources.files("vedette.recipes") / f"{name}.toml").read_text(encoding="utf-8")


def _text(name: str) -> tuple[str, str]:
    path = Path(name)
    if path.suffix != ".toml":
        return recipe_text(name), f"recipe '{name}'"
    try:
        return path.read_text(encoding="utf-8"), f"recipe {name}"
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read recipe {name}: {getattr(error, 'strerror', None) or error}") from None
