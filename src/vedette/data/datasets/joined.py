"""Several data sets as one fleet, each device with the features it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from vedette.data.dataset import Dataset, Loader
from vedette.data.datasets import LOADERS
from vedette.data.table import Coded, Feature, Table, concat
from vedette.errors import DataUnusable
from vedette.settings import describe, named

__all__ = ["Joined"]


class Joined(Loader):
    """Data sets put together: ``all`` has the features of every one, and rows miss those of the others.

    A group is called by its data set and its name there: ``"skab/valve1/0"``. Detectors of single nodes need
    ``scaling = { fit = "local", empty = "left-out" }``, which leaves each node the features it has.

    Parameters
    ----------
    parts
        The data sets, each with its settings. Where the authors split, their test rows are taken: only these tell anomalies.
    """

    title: ClassVar[str] = "several data sets as one fleet of different devices"
    licence: ClassVar[str] = "those of its parts"
    source: ClassVar[str] = "whoever published its parts"
    how: ClassVar[str] = "get its parts"

    parts: tuple[Annotated[Loader, *named(LOADERS)], ...] = Field(min_length=1)

    def load(self, root: Path | None, seed: int = 0) -> Dataset:
        """Read the parts and put them together; see `Loader.load`."""
        names = [str(describe(LOADERS, part)["name"]) for part in self.parts]
        if len(set(names)) < len(names):
            raise DataUnusable(f"'{max(names, key=names.count)}' is joined with itself; name each data set once")
        datasets = [part.load(root, seed) for part in self.parts]
        found = [read.tables.get("all", read.tables.get("test")) for read in datasets]
        labelled = [table for table in found if table is not None]
        features = tuple(dict.fromkeys(feature for table in labelled for feature in table.features))
        doubled = len({feature.name for feature in features}) < len(features)
        if doubled or any(feature.kind == "category" for feature in features):
            raise DataUnusable("only data sets of numbers can be joined, and a name may mean one feature only")
        tables = [_widened(name, table, features) for name, table in zip(names, labelled, strict=True)]
        return Dataset("joined", {"all": concat(tables)}, ordered=all(read.ordered for read in datasets))


def _widened(name: str, table: Table, features: tuple[Feature, ...]) -> Table:
    """Return a table with the features of all."""
    numbers = np.full((len(table), len(features)), np.nan, dtype=np.float32)
    numbers[:, [features.index(feature) for feature in table.features]] = table.numbers
    group = Coded(np.zeros(len(table), dtype=np.int32), ("",)) if table.group is None else table.group
    levels = tuple(f"{name}/{level}".rstrip("/") for level in group.levels)
    return replace(table, features=features, numbers=numbers, group=Coded(group.codes, levels))
