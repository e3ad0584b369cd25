"""Official files of public data sets: every column known, nothing missing, nothing quoted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import AfterValidator

from vedette.data.datasets.block import Block, shown
from vedette.data.datasets.columns import coded, need_polars, seconds
from vedette.data.datasets.lines import Header, Lines, header
from vedette.data.stored import Matrix, NewMatrix, in_memory
from vedette.data.table import Coded
from vedette.errors import DataBroken
from vedette.message import Array
from vedette.registry import suggestion

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Column", "Content", "distinct", "read", "read_files"]

TOKEN = r"[A-Za-z0-9_.\-]{1,64}"


@dataclass(frozen=True)
class Column:
    """One column of an official file.

    Parameters
    ----------
    name
        Its name.
    kind
        A finite number, one that is checked but left out, 0 or 1, text, a date and time, or something that is not looked at.
    pattern
        What a whole text must match (text columns only).
    """

    name: str
    kind: Literal["number", "checked", "flag", "text", "time", "skip"] = "number"
    pattern: str = TOKEN


class Content(NamedTuple):
    """What an official file holds.

    Attributes
    ----------
    numbers
        [rows, number columns] float32, all finite, in memory or on disk.
    flags
        [rows] int8 of 0 and 1, by column name.
    texts
        Text columns by name, levels sorted.
    times
        [rows] float64 seconds since 1970 UTC, by column name.
    """

    numbers: Matrix
    flags: Mapping[str, Array]
    texts: Mapping[str, Coded]
    times: Mapping[str, Array]


def read(
    path: Path, columns: Sequence[Column], separator: str = ",", with_header: bool | Header = False, matrix: NewMatrix = in_memory
) -> Content:
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
        Whether the first line must name the columns; or the header that `find_header` found, whose columns may stand in another
        order and letter case and which knows its separator.
    matrix
        Starts the matrix of the numbers.

    Raises
    ------
    DataBroken
        The file is no such table: file, line, column and text.
    """
    return read_files([path], columns, separator, with_header, matrix)[0]


def read_files(
    paths: Sequence[Path],
    columns: Sequence[Column],
    separator: str = ",",
    with_header: bool | Header = False,
    matrix: NewMatrix = in_memory,
) -> tuple[Content, list[int]]:
    """Read official files of the same columns as one, below each other, and count the rows of each.

    The numbers never stand in memory twice, as they would if each file became a table first.

    Parameters
    ----------
    paths
        The files, in order; at least one.
    columns, separator, with_header, matrix
        As for `read`; a header found is that of all files.

    Raises
    ------
    DataBroken
        A file is no such table: file, line, column and text.
    """
    need_polars()
    wanted = [column.name for column in columns if column.kind == "number"]
    checked = [column.name for column in columns if column.kind == "checked"]
    numbers = matrix(len(wanted), np.float32)
    rows: list[int] = []
    parts: dict[str, list[Any]] = {column.name: [] for column in columns if column.kind in _READERS}
    for path in paths:
        found, lines = _lines(path, columns, separator, with_header)

        def content(block: Block, found: Sequence[Column] = found) -> tuple[Array, dict[str, Any]]:
            frame = block.frame([None if column.kind == "skip" else column.kind in ("text", "time") for column in found])
            frame.columns = [column.name for column in found if column.kind != "skip"]
            values = _numbers(block, frame, [*wanted, *checked])[:, : len(wanted)]
            others = {column.name: _READERS[column.kind](block, frame[column.name], column) for column in found if column.name in parts}
            return values, others

        before = len(numbers)
        for values, others in lines.parsed(content):
            numbers.append(values)
            for name, part in others.items():
                parts[name].append(part)
        rows.append(len(numbers) - before)

    def joined(kind: str, join: Callable[[list[Any]], Any]) -> dict[str, Any]:
        return {column.name: join(parts[column.name]) for column in columns if column.kind == kind}

    return Content(numbers.whole(), joined("flag", np.concatenate), joined("text", Coded.concat), joined("time", np.concatenate)), rows


def distinct(noun: str, known: Sequence[str]) -> AfterValidator:
    """Return what makes a settings field hold names out of some official ones, each at most once.

    Parameters
    ----------
    noun
        What they name, for messages.
    known
        The official names.
    """

    def check(names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in known:
                raise ValueError(f"no {noun} is called {shown(name)}; {suggestion(name[:80], known)}")
        if len(set(names)) < len(names):
            raise ValueError(f"each {noun} may be named once")
        return names

    return AfterValidator(check)


def _lines(path: Path, columns: Sequence[Column], separator: str, with_header: bool | Header) -> tuple[Sequence[Column], Lines]:
    """Return the columns in the order in which the file has them, and its lines."""
    above = 0
    if isinstance(with_header, Header):
        above, separator = with_header.line - 1, with_header.separator
        columns = _as_found(path, columns, with_header)
    elif with_header:
        _check_header(path, header(path, separator), [column.name for column in columns], separator)
    return columns, Lines(path, separator, [column.name for column in columns], bool(with_header), above=above)


def _check_header(path: Path, found: Sequence[str], names: Sequence[str], separator: str) -> None:
    if list(found) == list(names):
        return
    if len(found) != len(names):
        raise DataBroken(f"{path}:1: a header of {len(found)} columns where {len(names)} belong (separated by {separator!r})")
    name, wrong = next((name, wrong) for name, wrong in zip(names, found, strict=True) if name != wrong)
    raise DataBroken(f"{path}:1: column {shown(wrong)} where '{name}' belongs; {suggestion(wrong[:80], names)}")


def _as_found(path: Path, columns: Sequence[Column], found: Header) -> list[Column]:
    """Return the columns in the order in which a header names them."""
    where = f"{path}:{found.line}"
    if len(found.names) != len(columns):
        raise DataBroken(f"{where}: a header of {len(found.names)} columns where {len(columns)} belong (separated by {found.separator!r})")
    known = {column.name.lower(): column for column in columns}
    names = [name.lower() for name in found.names]
    for name, wrong in zip(names, found.names, strict=True):
        if name not in known:
            raise DataBroken(f"{where}: an unknown column {shown(wrong)}; {suggestion(wrong[:80], [column.name for column in columns])}")
        if names.count(name) > 1:
            raise DataBroken(f"{where}: two columns are called {shown(wrong)}")
    return [known[name] for name in names]


def _numbers(block: Block, frame: pl.DataFrame, names: Sequence[str]) -> Array:
    if not names:
        return np.empty((frame.height, 0), dtype=np.float32)
    values = (frame if frame.columns == list(names) else frame.select(names)).to_numpy(order="c")
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, at = divmod(int(wrong.argmax()), len(names))
        raise block.blame(row, names[at], "is no finite number")
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
