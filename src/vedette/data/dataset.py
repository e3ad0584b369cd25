"""What a data set is: its tables, where it comes from, how to get it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vedette.data.table import Table
from vedette.settings import Settings

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
    files
        Relative paths that must be there (each may be gzip'ed, with ``.gz`` appended).
    """

    title: ClassVar[str]
    licence: ClassVar[str]
    source: ClassVar[str]
    how: ClassVar[str]
    folder: ClassVar[str] = ""
    simulated: ClassVar[bool] = False
    files: ClassVar[Sequence[str]] = ()

    @classmethod
    def is_here(cls, root: Path) -> bool:
        """Tell whether all its files lie under a data root, plain or gzip'ed."""
        places = [root / cls.folder, root]
        return any(all((place / name).exists() or (place / f"{name}.gz").exists() for name in cls.files) for place in places)

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
