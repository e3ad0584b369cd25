"""The leak meter: the same detector under splits that leak more and less, and the gap between them."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any, NamedTuple

from vedette.data.dataset import Dataset
from vedette.evaluation.protocol import Protocol
from vedette.evaluation.recipe import Recipe
from vedette.settings import validated

__all__ = ["FIGURES", "SPLITS", "Leak", "leak_recipe", "leaks_of", "with_leaks"]

SPLITS = {
    "random": "rows at random: neighbours in time, and copies, stand on both sides",
    "distinct": "rows at random, equal ones on one side",
    "temporal": "the last rows of each device: what is tested is always later",
    "grouped": "a device, machine or experiment that nobody has learned from, each in turn",
}
"""What each split holds out; the first leaks most."""
FIGURES = {"f1": "F1", "auc_roc": "ROC-AUC", "auc_pr": "PR-AUC"}


def leak_recipe(recipe: Recipe, dataset: Dataset, methods: tuple[str, ...] = ("federated",)) -> Recipe:
    """Return a recipe that asks how much of a figure is owed to the split.

    Parameters
    ----------
    recipe
        What is trained.
    dataset
        Its data: without times there is no temporal split, without groups no grouped one.
    methods
        What is compared.

    Raises
    ------
    UnknownName, RecipeError
        A method that the recipe does not have.
    """
    table = dataset.tables.get("all", dataset.tables.get("train"))
    assert table is not None
    held = {"test": 0.3, "calibration": 0.1, "anew": True}
    protocols: dict[str, Protocol] = {"random": Protocol(split="rows", **held), "distinct": Protocol(split="distinct", **held)}
    if dataset.ordered:
        protocols["temporal"] = Protocol(split="time", **held)
    if table.group is not None and len(set(table.group.texts())) > 1:
        protocols["grouped"] = Protocol(leave_out="group", calibration=0.1, anew=True)
    values = recipe.model_dump(mode="json")
    changed = {
        "title": f"Leak meter: {recipe.title}",
        "protocols": {name: protocol.model_dump(mode="json") for name, protocol in protocols.items()},
        "protocol": "both",
        "methods": list(methods),
    }
    return validated(Recipe, {**values, **changed}, f"recipe '{recipe.name}', leak meter")


class Leak(NamedTuple):
    """A figure of one method under one split.

    Attributes
    ----------
    method, split, figure
        Of what.
    mean, spread
        Over the seeds; None where the figure is not defined.
    gap
        Random split less this one: what the random split makes of it for free.
    values
        Seed by seed.
    """

    method: str
    split: str
    figure: str
    mean: float | None
    spread: float | None
    gap: float | None
    values: tuple[float, ...] = ()


def leaks_of(run: Mapping[str, Any]) -> list[Leak]:
    """Return the figures of a run of `leak_recipe`, by method, split and figure."""
    rows = [row for row in run["rows"] if row["split"] == "test" and row["node"] == "*"]
    found = []
    for method in dict.fromkeys(row["method"] for row in rows):
        for figure in FIGURES:
            base: float | None = None
            for split in SPLITS:
                values = [row[figure] for row in rows if (row["method"], row["protocol"]) == (method, split) and row[figure] is not None]
                if not any(row["protocol"] == split for row in rows):
                    continue
                mean = fmean(values) if values else None
                base = mean if split == "random" else base
                gap = None if mean is None or base is None or split == "random" else base - mean
                found.append(Leak(method, split, figure, mean, stdev(values) if len(values) > 1 else None, gap, tuple(values)))
    return found


def with_leaks(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of metrics.json with the leaks under ``leak``, by which the report knows what the run is about."""
    return {**run, "leak": [each._asdict() for each in leaks_of(run)]}
