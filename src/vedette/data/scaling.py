"""Scaling: from a table of numbers and categories to the float32 rows a network sees."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import field_validator

from vedette.data.encoders import ENCODERS
from vedette.data.scalers import SCALERS
from vedette.data.table import Feature, Table
from vedette.errors import DataUnusable, DetectorMisused
from vedette.message import Array, Memory, Message
from vedette.settings import Settings

__all__ = ["ENCODERS", "LIMIT", "SCALERS", "Scaler", "Scaling"]

LIMIT = 1e6
"""Scaled values are cut here, so that one absurd reading gives a huge score and not an infinity."""

CACHED = 2**17
"""Numbers scaled at once, so that what lies between the steps stays in the cache: 3.4 times faster (benchmarks/training.py)."""


class Scaling(Settings):
    """How tables are scaled, and whether the statistics for it are one node's own or the fleet's.

    Parameters
    ----------
    features
        Names of the features to look at; all if empty.
    log
        Whether numbers pass through sign(x)·log(1 + |x|) first; for counts and byte sums that span decades.
    numbers
        ``"min-max"``, ``"standard"`` or ``"quantile"``, which maps ranks among the training values to a normal distribution: for
        heavy tails and many ties, where a rare combination of small values must stand out; ``"none"``: as they are.
    missing
        What a missing number becomes: the ``"middle"`` of the training values; with ``"mask"`` there is also a column for each feature
        of which a training value was missing, 1 where it is.
    empty
        What becomes of a feature without a single value in the training rows: an ``"error"``, or ``"left-out"``, so that the nodes of
        one fleet may have different features (each with a scaling of its own).
    categories
        ``"one-hot"`` or ``"ordinal"``.
    order
        Of a category's levels: by ``"name"``, or as they are ``"first-seen"`` from the first training row on (as pandas' factorize does;
        among nodes, by the earliest row of any, where it stood in the data set they share). What is ordinal depends on it.
    levels
        Levels of categories that are known beforehand, by feature: from documentation, say. Nodes tell none of these features then, and
        what is not among them counts as unseen.
    fit
        ``"federated"`` merges extremes, moments and levels of all nodes; ``"local"`` leaves each node its own.
    """

    features: tuple[str, ...] = ()
    log: bool = False
    numbers: str = "min-max"
    missing: Literal["middle", "mask"] = "middle"
    empty: Literal["error", "left-out"] = "error"
    categories: str = "one-hot"
    order: Literal["name", "first-seen"] = "name"
    levels: dict[str, tuple[str, ...]] = {}
    fit: Literal["federated", "local"] = "federated"

    @field_validator("numbers")
    @classmethod
    def _known_scaler(cls, name: str) -> str:
        SCALERS[name]
        return name

    @field_validator("categories")
    @classmethod
    def _known_encoder(cls, name: str) -> str:
        ENCODERS[name]
        return name

    def spread(self, numbers: Array) -> Array:
        """Apply the stateless first step to [rows, columns]; float64 comes out."""
        numbers = np.asarray(numbers, dtype=np.float64)
        return np.sign(numbers) * np.log1p(np.abs(numbers)) if self.log else numbers

    def chosen(self, table: Table) -> Table:
        """Return the table with the features to look at.

        Raises
        ------
        UnknownName
            It lacks one of them.
        """
        return table.select(self.features) if self.features else table

    @property
    def facts(self) -> tuple[str, ...]:
        """Names of the facts in a summary."""
        return ("features", "levels", "missing") if self.missing == "mask" else ("features", "levels")

    def summary(self, table: Table) -> Message:
        """Summarise a node's training rows so that `merged` and `fitted` need nothing else."""
        step, table = SCALERS[self.numbers](), self.chosen(table)
        parts = [step.summary(self.spread(chunk.numbers)) for chunk in table.chunks()]
        levels = {}
        for feature, column in zip(table.category_features, table.categories, strict=True):
            if feature.name in self.levels:
                continue
            codes, first = np.unique(column.codes, return_index=True)
            first = first if table.place is None else table.place[first]
            levels[feature.name] = {column.levels[code]: row for code, row in zip(codes.tolist(), first.tolist(), strict=True)}
        features = [[feature.name, feature.kind, feature.unit] for feature in table.features]
        facts = {"levels": json.dumps(levels), "features": json.dumps(features)}
        if self.missing == "mask":
            missing = np.zeros(len(table.number_features), dtype=bool)
            for chunk in table.chunks():
                missing |= np.isnan(chunk.numbers).any(axis=0)
            facts["missing"] = json.dumps([feature.name for feature, some in zip(table.number_features, missing, strict=True) if some])
        return Message(tables={"numbers": step.merged(parts)} if parts else {}, facts=facts)

    def merged(self, summaries: Mapping[str, Message]) -> Message:
        """Merge the summaries of several nodes, by node, into one of all their rows."""
        kept = [summaries[node] for node in sorted(summaries) if summaries[node].tables]
        if not kept:
            raise DataUnusable("no node has a training row; check the partition and the labels")
        if len({part.facts["features"] for part in kept}) > 1:
            raise DataUnusable("the nodes have different features: select those they share, or let each scale its own (fit = 'local')")
        levels: dict[str, dict[str, int]] = {}
        for part in kept:
            for feature, found in json.loads(str(part.facts["levels"])).items():
                known = levels.setdefault(feature, {})
                for level, row in found.items():
                    known[level] = min(known.get(level, row), row)
        numbers = SCALERS[self.numbers]().merged([part.tables["numbers"] for part in kept])
        facts = {**kept[0].facts, "levels": json.dumps(levels, sort_keys=True)}
        if self.missing == "mask":
            facts["missing"] = json.dumps(sorted({name for part in kept for name in json.loads(str(part.facts["missing"]))}))
        return Message(tables={"numbers": numbers}, facts=facts)

    def _ordered(self, found: Mapping[str, int]) -> tuple[str, ...]:
        """Order levels, each with its first row; ties by name."""
        return tuple(sorted(found, key=lambda level: (found[level] if self.order == "first-seen" else 0, level)))

    def fitted(self, summary: Message) -> Scaler:
        """Make a scaler from a summary.

        Parameters
        ----------
        summary
            From `summary` or `merged`.

        Raises
        ------
        DataUnusable
            No rows, a feature without a single value, or nothing but constant features.
        """
        if not summary.tables:
            raise DataUnusable("no training rows; check the partition and the labels")
        features = [Feature(name, kind, unit) for name, kind, unit in json.loads(str(summary.facts["features"]))]
        step, table = SCALERS[self.numbers](), summary.tables["numbers"]
        numbers = [feature.name for feature in features if feature.kind == "number"]
        empty = [name for name, seen in zip(numbers, step.seen(table), strict=True) if not seen]
        if empty and self.empty == "error":
            raise DataUnusable(
                f"feature '{empty[0]}' has no value in the training rows; leave it out "
                "(recipe key 'features', or scaling.empty = 'left-out')"
            )
        counted = json.loads(str(summary.facts["levels"]))
        categories = [feature.name for feature in features if feature.kind == "category"]
        levels = {name: self.levels[name] if name in self.levels else self._ordered(counted[name]) for name in categories}
        constant = tuple(name for name, same in zip(numbers, step.constant(table), strict=True) if same and name not in empty)
        if len(constant) + len(empty) == len(numbers) and all(len(known) < 2 for known in levels.values()):
            raise DataUnusable("every feature is constant in the training rows: there is nothing to learn from")
        gappy = set(json.loads(str(summary.facts["missing"]))) if self.missing == "mask" else set()
        masked = tuple(name for name in numbers if name in gappy and name not in empty)
        return Scaler(self, tuple(features), step.fitted(table), levels, constant, masked, tuple(empty))


class Scaler:
    """A fitted scaling.

    Parameters
    ----------
    scaling
        The settings it was fitted under.
    features
        The features it takes.
    fitted
        [k, number features] float64, from the number scaler's `fitted`.
    levels
        Known levels of each category feature.
    constant
        Names of number features that did not vary in training; they become 0, and 1 when they double.
    masked
        Names of number features that have a column of their own for where they are missing.
    empty
        Names of number features of which nothing is known; they have no column.
    """

    def __init__(
        self,
        scaling: Scaling,
        features: tuple[Feature, ...],
        fitted: Array,
        levels: Mapping[str, tuple[str, ...]],
        constant: tuple[str, ...] = (),
        masked: tuple[str, ...] = (),
        empty: tuple[str, ...] = (),
    ) -> None:
        self.scaling, self.features, self.fitted = scaling, features, fitted
        self.levels, self.constant, self.masked, self.empty = dict(levels), constant, masked, empty
        self._seen = features
        self._encoder = ENCODERS[scaling.categories]()
        numbers = [feature.name for feature in features if feature.kind == "number"]
        self._numbers = [name for name in numbers if name not in empty]
        self._columns: Array | slice = np.array([numbers.index(name) for name in self._numbers]) if empty else slice(None)
        self._step = SCALERS[scaling.numbers]()
        self._middle = self._step.middles(self.fitted[:, self._columns], np.array([name in constant for name in self._numbers], dtype=bool))

    @cached_property
    def width(self) -> int:
        """Number of columns that come out."""
        return len(self._numbers) + sum(self._encoder.width(len(known)) for known in self.levels.values()) + len(self.masked)

    @property
    def names(self) -> list[str]:
        """Names of the columns that come out: numbers first, then what became of each category, then what tells of missing numbers."""
        encoded = [name for feature, known in self.levels.items() for name in self._encoder.names(feature, known)]
        return [*self._numbers, *encoded, *(f"{name} missing" for name in self.masked)]

    def transform(self, table: Table) -> Array:
        """Scale rows.

        Parameters
        ----------
        table
            Rows with the same features; missing numbers take the middle of the training values (a constant feature its one value).

        Returns
        -------
        Array
            [rows, width] float32, finite.

        Raises
        ------
        DetectorMisused
            The table has other features.
        """
        table = self.scaling.chosen(table)
        if table.features is not self._seen:
            if table.features != self.features:
                raise DetectorMisused(_difference(self.features, table.features))
            self._seen = table.features
        scaled = np.empty((len(table), self.width), dtype=np.float32)
        start = len(self._numbers)
        block = max(1, CACHED // max(start, 1))
        for rows, values in table.blocks(block):
            with np.errstate(over="ignore"):
                numbers = self._step.apply(self.scaling.spread(values[:, self._columns]), self.fitted[:, self._columns])
            missing = np.isnan(numbers)
            numbers = np.where(missing, self._middle, numbers) if missing.any() else numbers
            np.clip(numbers, -LIMIT, LIMIT, out=scaled[rows, :start])
        for known, column in zip(self.levels.values(), table.categories, strict=True):
            encoded = self._encoder.encode(column.places(known), len(known))
            scaled[:, start : start + encoded.shape[1]] = encoded
            start += encoded.shape[1]
        if self.masked:
            at = [place for place, feature in enumerate(table.number_features) if feature.name in self.masked]
            scaled[:, start:] = np.isnan(np.asarray(table.numbers)[:, at])
        return scaled

    @property
    def line(self) -> tuple[Array, Array, Array] | None:
        """Shift, scale and what stands for a missing value, [width] float64 each; None unless every column is a number on a line.

        Rows are then ``clip((x - shift) / scale, -LIMIT, LIMIT)`` of numbers that `Scaling.spread` was applied to.
        """
        line = self._step.line(self.fitted[:, self._columns])
        if line is None or self.levels or self.masked or self.empty:
            return None
        return (*line, self._middle)

    @cached_property
    def number_places(self) -> Array:
        """[number features] int, the places among the features of those that have a column."""
        known = {feature.name: place for place, feature in enumerate(self.features)}
        return np.array([known[name] for name in self._numbers], dtype=np.int64)

    @cached_property
    def owners(self) -> Array:
        """[width] int, the place of the feature that each column that comes out tells of."""
        places = {feature.name: place for place, feature in enumerate(self.features)}
        encoded = [places[name] for name, known in self.levels.items() for _ in range(self._encoder.width(len(known)))]
        return np.array([*self.number_places, *encoded, *(places[name] for name in self.masked)], dtype=np.int64)

    def undo(self, scaled: Array) -> Array:
        """Return [rows, features] float64 in the features' own units, of scaled rows [rows, width]; NaN for categories."""
        found = np.full((len(scaled), len(self.features)), np.nan)
        numbers = self._step.undo(np.asarray(scaled[:, : len(self._numbers)], dtype=np.float64), self.fitted[:, self._columns])
        with np.errstate(over="ignore"):
            found[:, self.number_places] = np.sign(numbers) * np.expm1(np.abs(numbers)) if self.scaling.log else numbers
        return found

    def memory(self) -> Memory:
        """Return the scaler as a state, to keep or send."""
        about = {
            "settings": self.scaling.model_dump(mode="json"),
            "features": [[feature.name, feature.kind, feature.unit] for feature in self.features],
            "levels": self.levels,
            "constant": self.constant,
            "masked": self.masked,
            "empty": self.empty,
        }
        return {"scaling.numbers": self.fitted, "scaling.about": json.dumps(about)}

    @classmethod
    def from_memory(cls, memory: Memory) -> Scaler:
        """Inverse of `memory`.

        Raises
        ------
        DetectorMisused
            The state holds no scaler.
        """
        if "scaling.about" not in memory:
            raise DetectorMisused("there is no scaler yet: fit the detector first")
        about = json.loads(str(memory["scaling.about"]))
        features = tuple(Feature(name, kind, unit) for name, kind, unit in about["features"])
        levels = {feature: tuple(known) for feature, known in about["levels"].items()}
        return cls(
            Scaling(**about["settings"]),
            features,
            np.asarray(memory["scaling.numbers"]),
            levels,
            tuple(about["constant"]),
            tuple(about["masked"]),
            tuple(about["empty"]),
        )


def _difference(wanted: Sequence[Feature], got: Sequence[Feature]) -> str:
    lacking = [feature.name for feature in wanted if feature.name not in {other.name for other in got}]
    if lacking:
        return f"the rows lack feature '{lacking[0]}' ({len(wanted)} features were trained on, {len(got)} given)"
    return f"the rows have {len(got)} features in another order or of another kind than the {len(wanted)} trained on"
