"""Scaling: from a table of numbers and categories to the float32 rows a network sees."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import field_validator

from vedette.data.summaries import Extremes, Moments
from vedette.data.table import Coded, Feature, Table
from vedette.errors import DataUnusable, DetectorMisused
from vedette.message import Array, Memory, Message
from vedette.registry import Registry
from vedette.settings import Settings

__all__ = ["ENCODERS", "SCALERS", "Scaler", "Scaling"]

LIMIT = 1e6
"""Scaled values are cut here, so that one absurd reading gives a huge score and not an infinity."""


class NumberScaler(ABC):
    """A fitted affine step on the number columns: ``(x - shift) / scale``."""

    @abstractmethod
    def summary(self, values: Array) -> Array:
        """Return what merging needs, [statistics, columns] float64, of values [rows, columns]."""

    @abstractmethod
    def merged(self, tables: Sequence[Array]) -> Array:
        """Merge summaries of several nodes."""

    @abstractmethod
    def fitted(self, table: Array) -> tuple[Array, Array]:
        """Return shift and scale, [columns] each; a constant column gets scale 1, so that it becomes 0."""

    @abstractmethod
    def seen(self, table: Array) -> Array:
        """Tell the columns that had a value at all, [columns] bool."""

    @abstractmethod
    def constant(self, table: Array) -> Array:
        """Tell the columns that had one value only, [columns] bool."""


class MinMax(NumberScaler):
    """To [0, 1] by the smallest and largest training value."""

    def summary(self, values: Array) -> Array:
        return Extremes.of(values).table()

    def merged(self, tables: Sequence[Array]) -> Array:
        return Extremes.merged(Extremes.from_table(table) for table in tables).table()

    def fitted(self, table: Array) -> tuple[Array, Array]:
        low, high = table
        return low, np.where(high > low, high - low, 1.0)

    def seen(self, table: Array) -> Array:
        return np.asarray(np.isfinite(table[0]))

    def constant(self, table: Array) -> Array:
        return np.asarray(table[0] == table[1])


class Standard(NumberScaler):
    """To mean 0 and standard deviation 1 of the training values."""

    def summary(self, values: Array) -> Array:
        return Moments.of(values).table()

    def merged(self, tables: Sequence[Array]) -> Array:
        return Moments.merged(Moments.from_table(table) for table in tables).table()

    def fitted(self, table: Array) -> tuple[Array, Array]:
        moments = Moments.from_table(table)
        return moments.mean, np.where(self.constant(table), 1.0, np.sqrt(moments.variance))

    def seen(self, table: Array) -> Array:
        return np.asarray(table[0] > 0)

    def constant(self, table: Array) -> Array:
        moments = Moments.from_table(table)
        # Rounding leaves a trace of variance in a constant column.
        return np.asarray(np.sqrt(moments.variance) <= 1e-9 * np.maximum(np.abs(moments.mean), 1e-9))


class CategoryEncoder(ABC):
    """Turns one column of text into numbers, with a place for text never seen in training."""

    @abstractmethod
    def width(self, levels: int) -> int:
        """Columns made of a feature with so many known levels."""

    @abstractmethod
    def encode(self, places: Array, levels: int) -> Array:
        """Return [rows, width] float32 of level numbers [rows]; `levels` stands for the unseen."""

    @abstractmethod
    def names(self, feature: str, levels: Sequence[str]) -> list[str]:
        """Names of the columns made."""


class OneHot(CategoryEncoder):
    """A column for each level, and a last one for the unseen."""

    def width(self, levels: int) -> int:
        return levels + 1

    def encode(self, places: Array, levels: int) -> Array:
        encoded = np.zeros((len(places), levels + 1), dtype=np.float32)
        encoded[np.arange(len(places)), places] = 1
        return encoded

    def names(self, feature: str, levels: Sequence[str]) -> list[str]:
        return [*(f"{feature}={level}" for level in levels), f"{feature}=?"]


class Ordinal(CategoryEncoder):
    """One column in [0, 1]: the place in the sorted levels; the unseen lies one step above, so beyond 1."""

    def width(self, levels: int) -> int:
        return 1

    def encode(self, places: Array, levels: int) -> Array:
        return (places / max(levels - 1, 1)).astype(np.float32)[:, None]

    def names(self, feature: str, levels: Sequence[str]) -> list[str]:
        return [feature]


SCALERS: Registry[type[NumberScaler]] = Registry("scaler", {"min-max": f"{__name__}:MinMax", "standard": f"{__name__}:Standard"})
ENCODERS: Registry[type[CategoryEncoder]] = Registry("encoder", {"one-hot": f"{__name__}:OneHot", "ordinal": f"{__name__}:Ordinal"})


class Scaling(Settings):
    """How tables are scaled, and whether the statistics for it are one node's own or the fleet's.

    Parameters
    ----------
    log
        Whether numbers pass through sign(x)·log(1 + |x|) first; for counts and byte sums that span decades.
    numbers
        ``"min-max"`` or ``"standard"``.
    categories
        ``"one-hot"`` or ``"ordinal"``.
    fit
        ``"federated"`` merges extremes, moments and level counts of all nodes; ``"local"`` leaves each node its own.
    """

    log: bool = False
    numbers: str = "min-max"
    categories: str = "one-hot"
    fit: Literal["federated", "local"] = "federated"

    _prefix: ClassVar[str] = "scaling."

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

    def summary(self, table: Table) -> Message:
        """Summarise a node's training rows so that `merged` and `fitted` need nothing else."""
        step = SCALERS[self.numbers]()
        parts = [step.summary(self.spread(chunk.numbers)) for chunk in table.chunks()]
        levels = {}
        for feature, column in zip(table.category_features, table.categories, strict=True):
            counts = np.bincount(column.codes, minlength=len(column.levels))
            levels[feature.name] = {level: int(n) for level, n in zip(column.levels, counts, strict=True) if n}
        return Message(tables={"numbers": step.merged(parts)} if parts else {}, facts={"levels": json.dumps(levels)})

    def merged(self, summaries: Mapping[str, Message]) -> Message:
        """Merge the summaries of several nodes, by node, into one of all their rows."""
        kept = [summaries[node] for node in sorted(summaries) if summaries[node].tables]
        if not kept:
            raise DataUnusable("no node has a training row; check the partition and the labels")
        levels: dict[str, Counter[str]] = {}
        for part in kept:
            for feature, counts in json.loads(str(part.facts["levels"])).items():
                levels.setdefault(feature, Counter()).update(counts)
        numbers = SCALERS[self.numbers]().merged([part.tables["numbers"] for part in kept])
        return Message(tables={"numbers": numbers}, facts={"levels": json.dumps(levels, sort_keys=True)})

    def fitted(self, summary: Message, features: Sequence[Feature], where: str = "") -> Scaler:
        """Make a scaler from a summary.

        Parameters
        ----------
        summary
            From `summary` or `merged`.
        features
            The features of the tables to be scaled.
        where
            Whose rows they were, for messages: ``"node pump-3"``.

        Raises
        ------
        DataUnusable
            No rows, a feature without a single value, or nothing but constant features.
        """
        place = f" ({where})" if where else ""
        if not summary.tables:
            raise DataUnusable(f"no training rows{place}; check the partition and the labels")
        step, table = SCALERS[self.numbers](), summary.tables["numbers"]
        numbers = [feature.name for feature in features if feature.kind == "number"]
        empty = [name for name, seen in zip(numbers, step.seen(table), strict=True) if not seen]
        if empty:
            raise DataUnusable(
                f"feature '{empty[0]}' has no value in the training rows{place}; leave it out with data.features or data.drop"
            )
        counted = json.loads(str(summary.facts["levels"]))
        levels = {feature.name: tuple(sorted(counted[feature.name])) for feature in features if feature.kind == "category"}
        constant = tuple(name for name, same in zip(numbers, step.constant(table), strict=True) if same)
        if len(constant) == len(numbers) and all(len(known) < 2 for known in levels.values()):
            raise DataUnusable(f"every feature is constant in the training rows{place}: there is nothing to learn from")
        shift, scale = step.fitted(table)
        return Scaler(self, tuple(features), shift, scale, levels, constant)


class Scaler:
    """A fitted scaling.

    Parameters
    ----------
    scaling
        The settings it was fitted under.
    features
        The features it takes.
    shift, scale
        [number features] float64.
    levels
        Known levels of each category feature.
    constant
        Names of number features that did not vary in training; they become 0 (and scream when they move).
    """

    def __init__(
        self,
        scaling: Scaling,
        features: tuple[Feature, ...],
        shift: Array,
        scale: Array,
        levels: Mapping[str, tuple[str, ...]],
        constant: tuple[str, ...] = (),
    ) -> None:
        self.scaling, self.features, self.shift, self.scale = scaling, features, shift, scale
        self.levels, self.constant = dict(levels), constant
        self._encoder = ENCODERS[scaling.categories]()

    @property
    def width(self) -> int:
        """Number of columns that come out."""
        return len(self.shift) + sum(self._encoder.width(len(known)) for known in self.levels.values())

    @property
    def names(self) -> list[str]:
        """Names of the columns that come out: numbers first, then what became of each category."""
        numbers = [feature.name for feature in self.features if feature.kind == "number"]
        return numbers + [name for feature, known in self.levels.items() for name in self._encoder.names(feature, known)]

    def transform(self, table: Table) -> Array:
        """Scale rows.

        Parameters
        ----------
        table
            Rows with the same features; missing numbers take the middle of the training values.

        Returns
        -------
        Array
            [rows, width] float32, finite.

        Raises
        ------
        DetectorMisused
            The table has other features.
        """
        if table.features != self.features:
            raise DetectorMisused(_difference(self.features, table.features))
        with np.errstate(over="ignore"):
            numbers = (self.scaling.spread(table.numbers) - self.shift) / self.scale
        middle = 0.5 if self.scaling.numbers == "min-max" else 0.0
        scaled = np.empty((len(table), self.width), dtype=np.float32)
        scaled[:, : len(self.shift)] = np.clip(np.nan_to_num(numbers, nan=middle, posinf=LIMIT, neginf=-LIMIT), -LIMIT, LIMIT)
        start = len(self.shift)
        for known, column in zip(self.levels.values(), table.categories, strict=True):
            encoded = self._encoder.encode(_places(column, known), len(known))
            scaled[:, start : start + encoded.shape[1]] = encoded
            start += encoded.shape[1]
        return scaled

    def memory(self) -> Memory:
        """Return the scaler as a state, to keep or send."""
        about = {
            "settings": self.scaling.model_dump(mode="json"),
            "features": [[feature.name, feature.kind, feature.unit] for feature in self.features],
            "levels": self.levels,
            "constant": self.constant,
        }
        return {"scaling.shift": self.shift, "scaling.scale": self.scale, "scaling.about": json.dumps(about)}

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
        shift, scale = np.asarray(memory["scaling.shift"]), np.asarray(memory["scaling.scale"])
        return cls(Scaling(**about["settings"]), features, shift, scale, levels, tuple(about["constant"]))


def _places(column: Coded, known: Sequence[str]) -> Array:
    """Place of each row's text among the known levels; ``len(known)`` if it is none of them."""
    at = {level: i for i, level in enumerate(known)}
    return np.array([at.get(level, len(known)) for level in column.levels], dtype=np.int64)[column.codes]


def _difference(wanted: Sequence[Feature], got: Sequence[Feature]) -> str:
    lacking = [feature.name for feature in wanted if feature.name not in {other.name for other in got}]
    if lacking:
        return f"the rows lack feature '{lacking[0]}' ({len(wanted)} features were trained on, {len(got)} given)"
    return f"the rows have {len(got)} features in another order or of another kind than the {len(wanted)} trained on"
