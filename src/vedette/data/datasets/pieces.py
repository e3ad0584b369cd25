"""Pieces of a person's file: some of its rows, and what its columns hold found out from their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from vedette.data.datasets.block import Block, first_line, shown
from vedette.data.datasets.columns import coded, need_polars, seconds
from vedette.data.datasets.lines import Lines
from vedette.data.table import Coded
from vedette.errors import DataBroken
from vedette.message import Array

if TYPE_CHECKING:
    import polars as pl

__all__ = ["MISSING", "Part", "Piece", "columns", "parquet", "texts"]

MISSING = ("", "na", "n/a", "nan", "null", "none")
ROWS = 131_072
"""Rows of a Parquet file read at once."""

HINT = "correct it, or name the column in 'categories' or 'drop'"

Part: TypeAlias = Array | Coded
"""Some rows of a feature: numbers, or text; where all are missing it is not known yet which, and what stands there is kept as text."""


class Piece(NamedTuple):
    """Some rows of a person's file.

    Attributes
    ----------
    path
        The file.
    frame
        The rows, columns by name.
    blame
        Makes the error for a row of `frame` and a column: ``blame(row, column, "is no number")``.
    typeless
        Whether the file does not say what its columns are.
    """

    path: Path
    frame: pl.DataFrame
    blame: Callable[[int, str, str], DataBroken]
    typeless: bool = False

    def may_hold_numbers(self, name: str) -> bool:
        """Tell whether a column may be numbers: by its type, or, in a text file, if its texts are some."""
        return self.typeless or self._plain(name).dtype.is_numeric()

    def is_plain(self, name: str) -> bool:
        """Tell whether a column was parsed as float64 throughout (NaN where a value is missing)."""
        import polars as pl

        column = self.frame[name]
        return column.dtype == pl.Float64 and not column.null_count()

    def feature(self, name: str, kinds: dict[str, str], category: bool) -> Part:
        """Return a column to learn from; a column holds either numbers or text, and its first value decides.

        Parameters
        ----------
        name
            The column.
        kinds
            What the columns were found to hold so far; kept up.
        category
            Whether it holds categories whatever its values look like.
        """
        column = self._plain(name)
        values, missing = _numbers(column)
        if missing.all():
            return _coded(column)
        first = _first(~missing)
        kind = kinds.setdefault(name, "category" if category or values[first] is None else "number")
        if kind == "category":
            number = values.is_not_null() & ~missing
            if not category and number.any():
                raise self.blame(_first(number), name, f"is a number, but other rows hold text; {HINT}")
            return _coded(column)
        text = values.is_null() & ~missing
        if category or text.any():
            raise self.blame(first if category else _first(text), name, f"is no number, but other rows hold numbers; {HINT}")
        numbers = values.set(missing, None).fill_null(np.nan)
        infinite = numbers.is_infinite()
        if infinite.any():
            raise self.blame(_first(infinite), name, f"is no finite number; {HINT}")
        return numbers.to_numpy()

    def names(self, name: str, what: str) -> Coded:
        """Return the label or node column, as text; none may be missing."""
        import polars as pl

        column = self._plain(name).cast(pl.String).fill_null("").str.strip_chars()
        empty = column.str.to_lowercase().is_in(("", "nan"))
        if empty.any():
            raise self.blame(_first(empty), name, f"is {what}; every row needs one")
        return coded(column)

    def moments(self, name: str, kinds: dict[str, str]) -> Array:
        """Return [rows] float64 seconds; a column holds either seconds or ISO 8601 text, and its first value decides."""
        import polars as pl

        column = self.frame[name]
        if column.dtype in (pl.Date, pl.Datetime):
            values = column.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
        else:
            column = self._plain(name)
            text = column.cast(pl.String).fill_null("").str.strip_chars()
            values = column.cast(pl.Float64) if column.dtype.is_numeric() else text.cast(pl.Float64, strict=False)
            if kinds.setdefault(name, "number" if values[0] is not None else "text") == "text":
                values = seconds(text)
        wrong = ~values.is_finite().fill_null(False)
        if wrong.any():
            expected = "ISO 8601 text such as 2024-05-01T12:00:00Z or a number of seconds, in all rows alike"
            raise self.blame(_first(wrong), name, f"is no time; {expected}")
        return values.to_numpy()

    def _plain(self, name: str) -> pl.Series:
        """Return a column as numbers or text."""
        import polars as pl

        column = self.frame[name]
        if column.dtype.is_numeric() or column.dtype == pl.String:
            return column
        if column.dtype == pl.Boolean:
            return column.cast(pl.Int8)
        if column.dtype in (pl.Null, pl.Categorical, pl.Enum):
            return column.cast(pl.String)
        raise DataBroken(f"{self.path}: column '{name}' holds {column.dtype}, neither numbers nor text; name it in 'drop' (or 'time')")


def texts(path: Path, separator: str, names: Sequence[str], kinds: Mapping[str, str]) -> Iterator[Piece]:
    """Yield the rows below the header of a delimited file, every field as text ("" if missing), or as a number where that was expected.

    Parameters
    ----------
    path, separator, names
        The file, what separates its fields, and its columns.
    kinds
        What the columns were found to hold so far; it may grow while the file is read. Where it says numbers, and all are, they are parsed
        as such.

    Raises
    ------
    DataBroken
        A line with a field too few or too many, a quote inside a field, bytes that are no UTF-8.
    """
    need_polars()
    import polars as pl

    def piece(block: Block) -> Piece:
        text = [kinds.get(name) != "number" for name in names]
        frame = block.frame(text, double=True)
        frame.columns = list(names)
        odd = [not is_text and bool(frame[name].null_count()) for name, is_text in zip(names, text, strict=True)]
        if any(odd):
            again = block.frame([True if is_odd else None for is_odd in odd])
            again.columns = [name for name, is_odd in zip(names, odd, strict=True) if is_odd]
            frame = frame.with_columns(again)
        return Piece(path, frame.with_columns(pl.col(pl.String).fill_null("")), block.blame, typeless=True)

    yield from Lines(path, separator, names, with_header=True, quoted=True).parsed(piece)


def columns(path: Path) -> tuple[str, ...]:
    """Return the names of the columns of a Parquet file.

    Raises
    ------
    DataBroken
        The file is no Parquet, or damaged.
    """
    import polars as pl

    return tuple(_parquet(path, lambda: pl.read_parquet(path, n_rows=0)).columns)


def parquet(path: Path, names: Sequence[str]) -> Iterator[Piece]:
    """Yield the rows of a Parquet file.

    Parameters
    ----------
    path
        The file.
    names
        The columns to read.

    Raises
    ------
    DataBroken
        The file is no Parquet, damaged, or has no rows.
    """
    import polars as pl

    rows = _parquet(path, lambda: pl.scan_parquet(path).select(pl.len()).collect()).item()
    if not rows:
        raise DataBroken(f"{path}: the file has columns but no rows")
    for start in range(0, rows, ROWS):
        frame = _parquet(path, lambda start=start: pl.scan_parquet(path).select(names).slice(start, ROWS).collect())  # type: ignore[misc]

        def blame(row: int, name: str, reason: str, frame: pl.DataFrame = frame, start: int = start) -> DataBroken:
            return DataBroken(f"{path}: row {start + row + 1}, column '{name}': {shown(str(frame[name][row]))} {reason}")

        yield Piece(path, frame, blame)


def _parquet(path: Path, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    import polars as pl

    try:
        return read()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise DataBroken(f"{path}: no Parquet file that can be read ({first_line(error)})") from error


def _numbers(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return a column as float64 (null where it is none) and where it says that a value is missing."""
    import polars as pl

    if column.dtype == pl.String:
        text = column.fill_null("").str.strip_chars()
        return text.cast(pl.Float64, strict=False), text.str.to_lowercase().is_in(MISSING)
    values = column.cast(pl.Float64)
    return values, values.is_null() | values.is_nan().fill_null(False)


def _coded(column: pl.Series) -> Coded:
    import polars as pl

    return coded(column.cast(pl.String).fill_null(""))


def _first(mask: pl.Series) -> int:
    return int(mask.arg_max() or 0)
