"""A person's file as rows for a fitted detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette.data.table import Table
    from vedette.detectors import Detector

__all__ = ["rows_for"]


def rows_for(detector: Detector, path: Path) -> Table:
    """Read a table's columns for a detector's features; others are left alone.

    Parameters
    ----------
    detector
        Whose features they are.
    path
        CSV (by comma, semicolon or tabulator) or Parquet; or .npy, numbers in the features' order.

    Raises
    ------
    UnknownName
        The file lacks a feature.
    DataMissing, DataBroken
        There is no such file, or it cannot be read.
    """
    from vedette.data.datasets.table import TableFiles

    if path.suffix == ".npy":
        return _array(detector, path)
    features = detector.scaler.features
    categories = tuple(each.name for each in features if each.kind == "category")
    units = {each.name: each.unit for each in features if each.unit}
    named = {"files": (str(path.resolve()),), "features": tuple(each.name for each in features)}
    files = TableFiles(**named, categories=categories, units=units, separator=_separator(path))
    return files.load(None).tables["all"]


def _separator(path: Path) -> str:
    """Return what a CSV file has between its columns: a comma, unless only a semicolon or tabulator makes several of its first line."""
    from vedette.data.datasets.lines import header
    from vedette.data.datasets.table import PARQUET

    if not path.is_file() or path.suffix in PARQUET:
        return ","
    return next((sign for sign in ",;\t" if len(header(path, sign)) > 1), ",")


def _array(detector: Detector, path: Path) -> Table:
    """Open an array of rows where it lies."""
    from vedette.data.stored import Stored
    from vedette.data.table import Table
    from vedette.errors import DataBroken, DataMissing

    if not path.is_file():
        raise DataMissing(f"no file '{path}'")
    try:
        numbers = Stored(path)
    except (OSError, ValueError) as error:
        raise DataBroken(f"{path}: no array of NumPy's format [rows, features], row by row ({error})") from None
    features = detector.scaler.features
    if any(feature.kind == "category" for feature in features):
        raise DataBroken(f"{path}: the detector takes categories too, which an array cannot hold; give a CSV or Parquet file")
    if numbers.dtype.kind != "f" or numbers.shape[1] != len(features):
        raise DataBroken(
            f"{path}: holds {numbers.dtype} [rows, {numbers.shape[1]}] where the detector takes {len(features)} columns of floats"
        )
    return Table(features, numbers)
