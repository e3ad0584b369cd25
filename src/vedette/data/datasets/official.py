"""Official files of public data sets: every column known, nothing missing, nothing quoted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from vedette.data.datasets.columns import coded, seconds
from vedette.data.datasets.lines import Block, Lines, header, shown
from vedette.data.table import Coded
from vedette.errors import DataBroken
from vedette.message import Array
from vedette.registry import suggestion

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Column", "Content", "read"]

TOKEN = r"[A-Za-z0-9_.\-]{1,64}"


@dataclass(frozen=True)
class Column:
    """One column of an official file.

    Parameters
    ----------
    name
        Its name.
    kind
        A finite number, 0 or 1, text, or a date and time.
    pattern
        What a whole text must match (text columns only).
    """

    name: str
    kind: Literal["number", "flag", "text", "time"] = "number"
    pattern: str = TOKEN


class Content(NamedTuple):
    """What an official file holds.

    Attributes
    ----------
    numbers
        [rows, number columns] float32, all finite.
    flags
        [rows] int8 of 0 and 1, by column name.
    texts
        Text columns by name, levels sorted.
    times
        [rows] float64 seconds since 1970 UTC, by column name.
    """

    numbers: Array
    flags: Mapping[str, Array]
    texts: Mapping[str, Coded]
    times: Mapping[str, Array]


def read(path: Path, columns: Sequence[Column], separator: str = ",", with_header: bool = False) -> Content:
    """Read an official file.

    Parameters
    ----------
    path
        The file; gzip'ed if its name ends in ``.gz``.
    columns
        Every column, in order.
    separator
        One ASCII character.
    with_header
        Whether the first line must name the columns.

    Raises
    ------
    DataBroken
        The file is no such table: file, line, column and text.
    """
    names = [column.name for column in columns]
    if with_header:
        _check_header(path, header(path, separator), names, separator)
    numbers: list[Array] = []
    parts: dict[str, list[Any]] = {column.name: [] for column in columns if column.kind != "number"}
    for block in Lines(path, separator, names, with_header).blocks():
        frame = block.frame([column.kind in ("text", "time") for column in columns])
        frame.columns = names
        numbers.append(_numbers(block, frame.select([column.name for column in columns if column.kind == "number"])))
        for column in columns:
            if column.kind != "number":
                parts[column.name].append(_READERS[column.kind](block, frame[column.name], column))

    def joined(kind: str, join: Callable[[list[Any]], Any]) -> dict[str, Any]:
        return {column.name: join(parts[column.name]) for column in columns if column.kind == kind}

    return Content(_stacked(numbers), joined("flag", np.concatenate), joined("text", Coded.concat), joined("time", np.concatenate))


def _check_header(path: Path, found: Sequence[str], names: Sequence[str], separator: str) -> None:
    if list(found) == list(names):
        return
    if len(found) != len(names):
        raise DataBroken(f"{path}:1: a header of {len(found)} columns where {len(names)} belong (separated by {separator!r})")
    name, wrong = next((name, wrong) for name, wrong in zip(names, found, strict=True) if name != wrong)
    raise DataBroken(f"{path}:1: column {shown(wrong)} where '{name}' belongs; {suggestion(wrong[:80], names)}")


def _numbers(block: Block, frame: pl.DataFrame) -> Array:
    values = frame.to_numpy()
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, at = divmod(int(wrong.argmax()), frame.width)
        raise block.blame(row, frame.columns[at], "is no finite number")
    return values


def _flags(block: Block, values: pl.Series, column: Column) -> Array:
    flags = values.to_numpy()
    wrong = (flags != 0) & (flags != 1)
    if wrong.any():
        raise block.blame(int(wrong.argmax()), column.name, "is neither 0 nor 1")
    return flags.astype(np.int8)


def _tokens(block: Block, values: pl.Series, column: Column) -> Coded:
    texts = coded(values.fill_null(""))
    wrong = [code for code, level in enumerate(texts.levels) if not re.fullmatch(column.pattern, level)]
    if wrong:
        reason = f"does not look like a value of this column ({column.pattern})"
        raise block.blame(int(np.isin(texts.codes, wrong).argmax()), column.name, reason)
    return texts


def _times(block: Block, values: pl.Series, column: Column) -> Array:
    texts = values.fill_null("")
    moments = seconds(texts)
    wrong = moments.is_null() | (texts.str.len_bytes() != len("2020-01-01 00:00:00"))
    if wrong.any():
        raise block.blame(int(wrong.to_numpy().argmax()), column.name, "is no date and time such as 2020-01-31 23:59:59")
    return moments.to_numpy()


_READERS: Mapping[str, Callable[[Block, pl.Series, Column], Any]] = {"flag": _flags, "text": _tokens, "time": _times}


def _stacked(parts: list[Array]) -> Array:
    """Put the parts below each other, letting go of each as it is copied: full KDD'99 never stands in memory twice."""
    out = np.empty((sum(len(part) for part in parts), parts[0].shape[1]), dtype=np.float32)
    row = 0
    while parts:
        part = parts.pop(0)
        out[row : row + len(part)] = part
        row += len(part)
    return out
