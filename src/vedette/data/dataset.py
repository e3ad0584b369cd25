"""What a data set is: its tables, where it comes from, how to get it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vedette.data.fleet import Fleet
from vedette.data.partition import PARTITIONS
from vedette.data.table import Table
from vedette.errors import UnknownName
from vedette.registry import suggestion
from vedette.settings import Settings, build

__all__ = ["Dataset", "Loader"]


@dataclass(frozen=True)
class Dataset:
    """A loaded data set.

    Parameters
    ----------
    name
        The registered name of its loader.
    tables
        The parts as they were published: ``{"train": …, "test": …}`` where the authors split it, else ``{"all": …}``.
        All parts have the same features.
    ordered
        Whether rows of a group follow each other in time.
    """

    name: str
    tables: Mapping[str, Table]
    ordered: bool = False

    def partition(self, by: str, part: str = "", seed: int = 0, **settings: Any) -> Fleet:
        """Share one part out among nodes.

        Parameters
        ----------
        by
            A partition by name: ``"natural"``, ``"iid"``, ``"dirichlet"``, ``"quantity"``.
        part
            Which table; the training table (or all rows) if absent. Others follow the training table's shares.
        seed
            Of the draw.
        settings
            Of the partition.

        Raises
        ------
        UnknownName, RecipeError
            No such partition, part or setting.
        DataUnusable
            A node would stay without training rows.
        """
        train = "train" if "train" in self.tables else "all"
        part = part or train
        if part not in self.tables:
            raise UnknownName(f"'{self.name}' has no part '{part}'; {suggestion(part, self.tables)}")
        chosen = build(PARTITIONS, {"name": by, **settings}, "partition")
        rows, table = self.tables[train], self.tables[part]
        return Fleet.from_places(table, chosen.places(rows, table, part, seed), chosen.names(rows))


class Loader(Settings, ABC):
    """Base of all data set loaders: settings as fields, `load` does the work.

    Attributes
    ----------
    title, licence, source, how
        One line each, for ``vedette data list``: what it is, its licence (or "not stated"), who published it,
        and how a person gets it.
    folder
        The folder below the data root where it is looked for; "" if it needs none.
    simulated
        Whether `load` makes the data up from the seed.
    official_files
        Relative paths as published (each may be gzip'ed, with ``.gz`` appended).
    """

    title: ClassVar[str]
    licence: ClassVar[str]
    source: ClassVar[str]
    how: ClassVar[str]
    folder: ClassVar[str] = ""
    simulated: ClassVar[bool] = False
    official_files: ClassVar[Sequence[str]] = ()

    @classmethod
    def is_here(cls, root: Path) -> bool:
        """Tell whether what it reads lies under a data root; what reads nothing is always here."""
        del root
        return True

    @abstractmethod
    def load(self, root: Path | None, seed: int = 0) -> Dataset:
        """Read the data set.

        Parameters
        ----------
        root
            The data root (or the folder of the data set itself); None if no root was given.
        seed
            Used by simulated data only.

        Raises
        ------
        DataMissing
            The root, the folder or a file is absent: which, and how to get it.
        DataBroken
            A file cannot be read as its official layout says: file and line.
        """
