"""Lags: rows that hold those before them too, made before rows are split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vedette.data.table import Feature, Table
from vedette.data.windows import Window, segment_starts
from vedette.errors import DataUnusable

__all__ = ["lagged"]


def lagged(table: Table, lags: int) -> Table:
    """Return a table whose rows hold the last `lags` rows of their recording, the oldest first.

    Detectors then see windows even where rows are dealt out at random, as published protocols do that cut windows first and split
    them afterwards. Windows of training and test rows overlap there: that is a leak, and such figures are worth little.

    Parameters
    ----------
    table
        [rows, features], those of a group in time order.
    lags
        How many rows; 1 leaves the table as it is. Where fewer stand before a row the first of them is repeated.

    Raises
    ------
    DataUnusable
        There are categories among the features.
    """
    if lags == 1:
        return table
    if table.category_features:
        raise DataUnusable(f"rows with categories ('{table.category_features[0].name}') cannot be lagged; select number features")
    starts = segment_starts(table, Window().pause)
    at = np.arange(len(table))
    numbers = np.asarray(table.numbers)
    parts, features = [], []
    for back in range(lags - 1, -1, -1):
        parts.append(numbers[np.maximum(at - back, starts)])
        features += [Feature(f"{each.name} (-{back})" if back else each.name, unit=each.unit) for each in table.features]
    return replace(table, features=tuple(features), numbers=np.concatenate(parts, axis=1))
