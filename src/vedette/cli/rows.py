"""A person's file as rows for a fitted detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette.data.table import Table
    from vedette.detectors import Detector

__all__ = ["rows_for"]


def rows_for(detector: Detector, path: Path) -> Table:
    """Read a CSV or Parquet file with a detector's features; other columns are left alone.

    Raises
    ------
    UnknownName
        The file lacks a feature.
    DataMissing, DataBroken
        There is no such file, or it cannot be read.
    """
    from vedette.data.datasets.table import TableFiles

    features = detector.scaler.features
    categories = tuple(each.name for each in features if each.kind == "category")
    units = {each.name: each.unit for each in features if each.unit}
    files = TableFiles(files=(str(path.resolve()),), features=tuple(each.name for each in features), categories=categories, units=units)
    return files.load(None).tables["all"]
