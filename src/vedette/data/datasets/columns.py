"""Columns as Polars parsed them, turned into what a table holds: coded text and seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vedette.data.table import Coded
from vedette.errors import MissingExtra

if TYPE_CHECKING:
    import polars as pl

__all__ = ["coded", "need_polars", "seconds", "twelve_hours"]

MOMENT = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2})(:[0-5][0-9])?(\.[0-9]{1,9})?)? ?(Z|[+-][0-9]{2}:?[0-9]{2})?$"


TWELVE_HOURS = r"^([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}) (0?[1-9]|1[0-2]):([0-5][0-9]):([0-5][0-9])(\.[0-9]{1,9})? ([AaPp])[Mm]$"


def need_polars() -> None:
    """Stop with one line if Polars is not installed.

    Raises
    ------
    MissingExtra
        It is not.
    """
    try:
        import polars  # noqa: F401
    except ImportError as error:
        raise MissingExtra("reading data sets needs Polars: pip install 'vedette[train]'") from error


def coded(column: pl.Series) -> Coded:
    """Code a column of text without missing values; levels are sorted."""
    import polars as pl

    levels = column.unique().sort()
    codes = column.cast(pl.Enum(levels)).to_physical().to_numpy()
    return Coded(codes.astype(np.int32), tuple(levels.to_list()))


def seconds(column: pl.Series) -> pl.Series:
    """Turn ISO 8601 texts into seconds since 1970 (UTC where no offset is given); null where a text is none.

    Parameters
    ----------
    column
        [rows] text: ``2024-05-01``, ``2024-05-01 12:00``, ``2024-05-01T12:00:00.25+02:00``.
    """
    import polars as pl

    def part(group: int) -> pl.Expr:
        return pl.col("t").str.extract(MOMENT, group)

    clock = part(1) + " " + part(2).fill_null("00:00") + part(3).fill_null(":00")
    whole = clock.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us").dt.epoch("us") / 1e6
    fraction = ("0" + part(4).fill_null(".0")).cast(pl.Float64, strict=False)
    digits = part(5).str.replace("Z", "+0000").str.replace(":", "").fill_null("+0000")
    minutes = digits.str.slice(1, 2).cast(pl.Int32) * 60 + digits.str.slice(3, 2).cast(pl.Int32)
    offset = pl.when(digits.str.starts_with("-")).then(-minutes).otherwise(minutes) * 60
    return column.rename("t").to_frame().select(whole + fraction - offset).to_series()


def twelve_hours(column: pl.Series, day_first: bool = True) -> pl.Series:
    """Turn texts with a clock of twelve hours into seconds since 1970 (as if the clock were UTC); null where a text is none.

    Parameters
    ----------
    column
        [rows] text: ``28/12/2015 10:00:00 AM``, ``2/1/2016 1:41:09.5 PM``.
    day_first
        Whether the day stands before the month.
    """
    import polars as pl

    def part(group: int) -> pl.Expr:
        return fields.struct.field(str(group))

    fields = pl.col("t").str.extract_groups(TWELVE_HOURS)
    day, month = (part(1), part(2)) if day_first else (part(2), part(1))
    date = pl.concat_str(part(3), month.str.zfill(2), day.str.zfill(2)).str.to_date("%Y%m%d", strict=False)
    hour = part(4).cast(pl.Int32) % 12 + 12 * part(8).str.to_lowercase().eq("p").cast(pl.Int32)
    clock = hour * 3600 + part(5).cast(pl.Int32) * 60 + part(6).cast(pl.Int32)
    fraction = ("0" + part(7).fill_null(".0")).cast(pl.Float64, strict=False)
    return column.rename("t").to_frame().select(date.cast(pl.Int32) * 86_400.0 + clock + fraction).to_series()
