"""Whole lines of a delimited file, checked and parsed.

Fields are counted before Polars turns them into numbers and text. As long as their number fits and Polars finds a last field in every line,
no line has one too few or too many; else NumPy finds where every field ends, which tells the line and costs nothing until a file is broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vedette.errors import DataBroken
from vedette.message import Array

if TYPE_CHECKING:
    import polars as pl

    from vedette.data.datasets.lines import Lines

__all__ = ["BYTE_ORDER_MARK", "NEWLINE", "Block", "count", "first_line", "shown"]

COUNTED = 1 << 18
"""Bytes looked through at once, so that what lies between the steps stays in the cache."""

LONGEST_FIELD = 1 << 16
NEWLINE, QUOTE = 10, 34
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Block:
    """Whole lines of a file, known to hold the same number of fields each.

    Parameters
    ----------
    lines
        What they are lines of.
    line
        Number of the first one.
    data
        The lines, LF-ended.

    Raises
    ------
    DataBroken
        Bytes that are no UTF-8, a stray quote, a field too few or too many.
    """

    def __init__(self, lines: Lines, line: int, data: bytes) -> None:
        self.lines, self.line = lines, line
        self.data = data.replace(b"\r\n", b"\n") if b"\r" in data else data
        self.quoted = lines.quoted and b'"' in self.data
        self._check_text()
        if self.quoted or not self._fits_on_average():
            self._check_lines()
            self._rows = len(self.ends)

    def __len__(self) -> int:
        return self._rows

    @cached_property
    def ends(self) -> Array:
        """[rows, columns] int, where in `data` each field ends."""
        raw = np.frombuffer(self.data, dtype=np.uint8)
        ending = (raw == ord(self.lines.separator)) | (raw == NEWLINE)
        if self.quoted:
            ending &= ~self._inside_quotes(raw)
        ends = np.flatnonzero(ending)
        columns = len(self.lines.names) if self.lines.names is not None else ends.size
        self._check_shape(raw[ends] == NEWLINE, ends, columns)
        return ends.reshape(-1, columns)

    def _check_lines(self) -> None:
        self._check_length(self.ends.ravel())

    def _fits_on_average(self) -> bool:
        """Tell cheaply whether there are as many fields as the lines need, and no line longer than a field may be."""
        self._rows = count(self.data, NEWLINE)
        fields = self._rows + count(self.data, ord(self.lines.separator))
        # A line that long has no end in one of these pieces, whatever the place of the line.
        pieces = range(0, len(self.data) - LONGEST_FIELD // 2, LONGEST_FIELD // 2)
        short = all(self.data.find(b"\n", at, at + LONGEST_FIELD // 2) >= 0 for at in pieces)
        return short and fields == self._rows * len(self.lines.names or ())

    def frame(self, text: Sequence[bool | None], double: bool = False) -> pl.DataFrame:
        """Parse the fields, as text where `text` says so, else as numbers (null if none); columns of None are left out."""
        import polars as pl

        number = pl.Float64 if double else pl.Float32
        schema = {str(i): pl.String if is_text else number for i, is_text in enumerate(text)}
        chosen = [i for i, is_text in enumerate(text) if is_text is not None]
        columns = chosen if len(chosen) < len(text) else None
        # Only of a last column that is parsed is it known whether every line has it.
        if chosen[-1:] != [len(text) - 1]:
            self._check_lines()
        quote, separator = '"' if self.quoted else None, self.lines.separator
        try:
            frame = pl.read_csv(
                self.data, columns=columns, has_header=False, schema=schema, separator=separator, quote_char=quote, ignore_errors=True
            )
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            self._check_lines()
            raise self._broken(0, f"cannot be parsed from here on ({first_line(error)})") from error
        if frame.height != len(self) or (chosen and frame.to_series(-1).null_count()):
            self._check_lines()
        if frame.height != len(self):
            raise self._broken(0, f"{frame.height} rows were parsed from {len(self)} lines; the file is no plain table")
        return frame

    def text(self, field: int) -> str:
        """Return a field by its number in the block."""
        start = int(self.ends.flat[field - 1]) + 1 if field else 0
        text = self.data[start : int(self.ends.flat[field])].decode()
        return text[1:-1].replace('""', '"') if self.quoted and text.startswith('"') else text

    def blame(self, row: int, name: str, reason: str) -> DataBroken:
        """Make the error for one field."""
        return self._blame(row * self.ends.shape[1] + list(self.lines.names or ()).index(name), name, reason)

    def _blame(self, field: int, name: str, reason: str) -> DataBroken:
        return self._broken(int(self.ends.flat[field]), f"column '{name}': {shown(self.text(field))} {reason}")

    def _broken(self, place: int, reason: str) -> DataBroken:
        return DataBroken(f"{self.lines.path}:{self.line + self.data.count(NEWLINE, 0, place)}: {reason}")

    def _check_text(self) -> None:
        try:
            if not self.data.isascii():
                self.data.decode()
        except UnicodeDecodeError as error:
            raise self._broken(
                error.start, "bytes that are no UTF-8 text; the file is damaged or in another encoding (save it as UTF-8)"
            ) from None
        if self.data.startswith(BYTE_ORDER_MARK):
            raise self._broken(0, "a byte order mark inside the file; only at its very beginning it means nothing")
        if b"\r" in self.data:
            raise self._broken(self.data.index(b"\r"), "a carriage return inside a line; lines end in LF or CRLF")

    def _inside_quotes(self, raw: Array) -> Array:
        """Return [bytes] bool: what stands between quotes. A quote must open or close a field, or be doubled inside one."""
        quotes = raw == QUOTE
        inside = np.bitwise_xor.accumulate(quotes.view(np.uint8)).astype(bool)
        edge = quotes | (raw == ord(self.lines.separator)) | (raw == NEWLINE)
        before, after = np.concatenate(([True], edge[:-1])), np.concatenate((edge[1:], [True]))
        stray = quotes & ~np.where(inside, before, after)
        if stray.any():
            raise self._broken(int(stray.argmax()), 'a quote (") inside a field; quote the whole field and double the quotes in it')
        if inside[-1]:
            raise self._broken(int(np.flatnonzero(quotes)[-1]), 'a quote (") that is never closed')
        return inside

    def _check_shape(self, is_last: Array, ends: Array, columns: int) -> None:
        if is_last.size % columns == 0:
            lines = is_last.reshape(-1, columns)
            if lines[:, -1].all() and not lines[:, :-1].any():
                return
        counts = np.diff(np.flatnonzero(is_last), prepend=-1)
        row = int((counts != columns).argmax())
        last = int(counts[: row + 1].sum()) - 1
        if counts[row] == 1 and self.data[ends[last] - 1 : ends[last]] in (b"\n", b""):
            raise self._broken(int(ends[last]), f"an empty line where {columns} columns belong")
        raise self._broken(int(ends[last]), f"{counts[row]} columns where {columns} belong (separated by {self.lines.separator!r})")

    def _check_length(self, ends: Array) -> None:
        lengths = np.diff(ends, prepend=-1)
        longest = int(lengths.argmax())
        if lengths[longest] > LONGEST_FIELD:
            names = self.lines.names
            name = "header" if names is None else names[longest % len(names)]
            raise self._blame(longest, name, f"is too long for a field (at most {LONGEST_FIELD:,} bytes)")


def count(data: bytes, byte: int) -> int:
    """Return how often a byte occurs."""
    raw = np.frombuffer(data, dtype=np.uint8)
    return sum(int(np.count_nonzero(raw[at : at + COUNTED] == byte)) for at in range(0, len(raw), COUNTED))


def shown(text: str) -> str:
    """Quote a text for a message, shortened, on one line."""
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}… ({len(text):,} characters)"


def first_line(error: BaseException) -> str:
    """Say another library's error on one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
