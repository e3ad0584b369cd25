"""Settings: a data set shared out among nodes under one protocol and seed, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vedette.data.dataset import Dataset
from vedette.data.datasets import LOADERS
from vedette.data.fleet import Fleet
from vedette.data.partition import Natural
from vedette.data.table import Table
from vedette.errors import DataUnusable, RecipeError
from vedette.evaluation.plots import Holding
from vedette.evaluation.protocol import Parts
from vedette.evaluation.recipe import Recipe
from vedette.message import Array
from vedette.registry import suggestion
from vedette.runtimes.meetings import Attackers
from vedette.seeds import stream
from vedette.settings import describe

__all__ = ["Setting", "about_data", "holdings_among", "in_order", "rows_of", "shared_out", "with_shared_tests"]

EVERYBODY = -2
"""Stands for all nodes where a test row has a place."""


class Setting(NamedTuple):
    """One protocol and seed: the rows that all methods share.

    Attributes
    ----------
    recipe
        With the keys that the protocol sets.
    protocol, seed, fold
        Where it belongs; the fold is "" where there is but one split.
    ordered
        Whether test rows of each group stand in the order of time, none left out.
    train, calibration
        By node; one-class detectors get normal rows only.
    labelled
        By node, the training rows with the anomalous ones among them, for methods that learn from labels.
    tests
        ``"validation"`` and ``"test"``: by node, or one table that all nodes share.
    """

    recipe: Recipe
    protocol: str
    seed: int
    train: Fleet
    calibration: Fleet
    labelled: Fleet
    tests: Mapping[str, Fleet | Table]
    fold: str = ""
    ordered: bool = False

    @property
    def label(self) -> str:
        """What it is called in progress bars and names of files."""
        return f"{self.protocol}, seed {self.seed}{self.fold and f', {self.fold}'}"


def shared_out(recipe: Recipe, protocol: str, seed: int, fold: str, parts: Parts, ordered: bool) -> Setting:
    """Share the parts of a data set out among the nodes."""
    one_class = recipe.detector.learning == "one-class"
    if not one_class and (parts.train.label is None or not parts.train.label.any()):
        raise DataUnusable("a supervised detector needs labelled anomalies among the training rows, and there are none")
    names = recipe.partition.names(parts.train)

    def fleet(part: str, table: Table) -> Fleet:
        chosen = table.select(recipe.features) if recipe.features else table
        shared = Fleet.from_places(chosen, recipe.partition.places(parts.train, table, part, seed), names)
        return _poisoned(shared, recipe.attackers, seed) if part == "train" and recipe.attackers.nodes else shared

    def learned_from(shared: Fleet) -> Fleet:
        return shared.map(Table.normal) if one_class else shared

    strange = next((node for node in recipe.attackers.nodes if node not in names), None)
    if strange is not None:
        raise RecipeError(f"attackers.nodes: there is no node '{strange}'; {suggestion(strange, names)}")
    labelled = fleet("train", parts.train)
    train = learned_from(labelled)
    calibration = train if parts.calibration is parts.train else learned_from(fleet("calibration", parts.calibration))
    tests: dict[str, Fleet | Table] = {}
    for part, table in (("validation", parts.validation), ("test", parts.test)):
        if len(table) and recipe.test == "own":
            tests[part] = fleet(part, table).without(recipe.attackers.nodes)
        elif len(table):
            tests[part] = table.select(recipe.features) if recipe.features else table
    return Setting(recipe, protocol, seed, train, calibration, labelled, tests, fold, ordered)


def rows_of(recipe: Recipe, root: Path | None, seed: int, node: str) -> tuple[Table, Table]:
    """Return what one node trains on and what sets its threshold, as a run of the recipe would share them out.

    Raises
    ------
    DataUnusable
        The recipe's data have no such node.
    """
    protocol = recipe.chosen_protocols()[0]
    recipe = recipe.under(protocol)
    dataset = recipe.prepared(recipe.data.load(root, seed))
    fold, parts_of = next(iter(recipe.protocols[protocol].folds(dataset, seed).items()))
    parts = parts_of()
    names = recipe.partition.names(parts.train)
    if node not in names:
        raise DataUnusable(f"the recipe's data have no node '{node}'; {suggestion(node, names)} (--device says which)")
    setting = shared_out(recipe, protocol, seed, fold, parts, in_order(recipe, protocol, dataset))
    return setting.train[node], setting.calibration[node]


def with_shared_tests(recipe: Recipe, parts: Parts, seed: int) -> Parts:
    """Return the parts with the test rows that all nodes share, where the partition composes them."""
    drawn = recipe.partition.shared_tests(parts.test, seed) if recipe.test == "shared" else None
    return parts if drawn is None else replace(parts, test=parts.test.take(drawn))


def _poisoned(fleet: Fleet, attackers: Attackers, seed: int) -> Fleet:
    """Let compromised nodes spoil what they train on."""
    return Fleet(
        fleet.nodes,
        lambda node: attackers.attack.poisoned(fleet[node], stream(seed, "poisoned", node)) if node in attackers.nodes else fleet[node],
    )


def in_order(recipe: Recipe, protocol: str, dataset: Dataset) -> bool:
    """Tell whether what a node is tested on are rows that follow each other: a device's own, or all that there are."""
    return recipe.protocols[protocol].in_order(dataset) and (recipe.test == "shared" or isinstance(recipe.partition, Natural))


def about_data(recipe: Recipe, setting: Setting, parts: Parts, before: dict[str, Any] | None) -> dict[str, Any]:
    """Describe the data of a split, or of a fold together with those before it."""
    assert parts.test.label is not None
    # Some rows may belong to nobody, and those of compromised nodes are not scored.
    scored = [place for place, name in enumerate(recipe.partition.names(parts.train)) if name not in recipe.attackers.nodes]
    tested = np.isin(_tested_by(recipe, parts, setting.seed), [EVERYBODY, *scored])
    rows, anomalies = int(tested.sum()), int((parts.test.label[tested] != 0).sum())
    if before is not None:
        rows, anomalies = rows + before["rows_test"], anomalies + before["anomalies_test"]
        return {**before, "folds": before["folds"] + 1, "rows_test": rows, "anomalies_test": anomalies, "anomaly_share": anomalies / rows}
    return {
        "name": describe(LOADERS, recipe.data)["name"],
        "nodes": len(setting.train),
        "folds": 1,
        "rows_train": len(parts.train.normal()) if recipe.detector.learning == "one-class" else len(parts.train),
        "rows_test": rows,
        "anomalies_test": anomalies,
        "anomaly_share": anomalies / rows,
    }


def _tested_by(recipe: Recipe, parts: Parts, seed: int) -> Array:
    """Return [rows] int, the place of the node that each test row is scored by: `EVERYBODY`, or -1 for nobody."""
    if recipe.test == "shared":
        return np.full(len(parts.test), EVERYBODY)
    return recipe.partition.places(parts.train, parts.test, "test", seed)


def holdings_among(recipe: Recipe, seed: int, parts: Parts) -> list[Holding]:
    """Say who holds how much, anomalous training rows included."""
    names = recipe.partition.names(parts.train)
    places = recipe.partition.places(parts.train, parts.train, "train", seed)
    held = places >= 0
    anomalous = np.zeros(len(parts.train), dtype=bool) if parts.train.label is None else parts.train.label != 0
    normal = np.bincount(places[~anomalous & held], minlength=len(names))
    attacked = np.bincount(places[anomalous & held], minlength=len(names))
    at = _tested_by(recipe, parts, seed)
    tested = np.bincount(at[at >= 0], minlength=len(names)) + (at == EVERYBODY).sum()
    classes: list[dict[str, int]] = [{} for _ in names]
    column = recipe.partition.classes(parts.train, seed)
    if column is not None:
        cells, counts = np.unique(places[held] * len(column.levels) + column.codes[held], return_counts=True)
        for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
            classes[cell // len(column.levels)][column.levels[cell % len(column.levels)]] = count
    return [Holding(*entry) for entry in zip(names, normal.tolist(), attacked.tolist(), tested.tolist(), classes, strict=True)]
