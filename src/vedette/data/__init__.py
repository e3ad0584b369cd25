"""Data: data sets, tables, fleets, partitions, scaling, simulation."""

from pathlib import Path
from typing import Any

from vedette.data.dataset import Dataset
from vedette.data.datasets import LOADERS
from vedette.settings import build

__all__ = ["load"]


def load(name: str, root: str | Path | None = None, seed: int = 0, **settings: Any) -> Dataset:
    """Load a data set by name.

    Parameters
    ----------
    name
        ``"kdd99"``, ``"skab"``, ``"table"`` …; `vedette data list` names them all.
    root
        Folder that holds the data sets' folders.
    seed
        For simulated data.
    settings
        Of the loader.

    Raises
    ------
    UnknownName, RecipeError
        No such data set or setting.
    DataMissing, DataBroken
        Its files are absent, or not what they should be.
    """
    return build(LOADERS, {"name": name, **settings}, "load").load(None if root is None else Path(root), seed)
