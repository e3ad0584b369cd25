"""Lines of delimited files, read in blocks and checked before anything is parsed.

NumPy finds where every field ends, so that a line with a field too few or too many is known first; Polars then turns the fields into
numbers and text. What Polars could not read is looked up by its place, which costs nothing until a file is broken.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

import numpy as np

from vedette.errors import DataBroken
from vedette.message import Array

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Block", "Header", "Lines", "find_header", "first_line", "header", "shown", "whole"]

# Seven million rows of WUSTL-SCADA-2018 peak at 1.5 times their float32 matrix with 2 MB, at 2.4 times with 8 MB, at the same speed.
BLOCK = 2 << 20
LONGEST_LINE = 1 << 20
LONGEST_FIELD = 1 << 16
DEEPEST_HEADER = 20
NEWLINE, QUOTE = 10, 34
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Header(NamedTuple):
    """The line that names the columns.

    Attributes
    ----------
    line
        Its number; what stands above it is passed over.
    separator
        What separates the names.
    names
        The names, without spaces around them.
    """

    line: int
    separator: str
    names: tuple[str, ...]


def header(path: Path, separator: str, line: int = 1) -> tuple[str, ...]:
    """Return the column names in the first (or another) line of a delimited file.

    Raises
    ------
    DataBroken
        The line is empty, is no text, or has quotes that do not close.
    """
    lines = _first_lines(path, max(line, DEEPEST_HEADER))
    found = lines[line - 1] if len(lines) >= line else b""
    if not found.strip():
        what = "the file" if not any(each.strip() for each in lines) else "the first line" if line == 1 else "the line"
        raise DataBroken(f"{path}:{line}: {what} is empty; a line of column names belongs there")
    block = Block(Lines(path, separator, None, quoted=True), line, found + b"\n")
    return tuple(block.text(field) for field in range(block.ends.size))


def find_header(path: Path, name: str, separators: str = ",;") -> Header:
    """Find the first line that has a certain column name (in any letter case), and what separates the names there.

    Raises
    ------
    DataBroken
        None of the first lines has it.
    """
    for i, line in enumerate(_first_lines(path, DEEPEST_HEADER), start=1):
        for separator in separators:
            cells = [cell.strip(b' "\r') for cell in line.split(separator.encode())]
            if name.lower().encode() in (cell.lower() for cell in cells):
                return Header(i, separator, tuple(found.strip() for found in header(path, separator, i)))
    raise DataBroken(
        f"{path}:1: none of the first {DEEPEST_HEADER} lines has a column '{name}' (separated by {' or '.join(separators)}); "
        "a line of column names belongs there"
    )


def whole(path: Path) -> bytes:
    """Return all bytes of a file; unpacked if its name ends in ``.gz``.

    Raises
    ------
    DataBroken
        It cannot be read or is no whole gzip file.
    """
    return b"".join(_pieces(path, BLOCK))


@dataclass(frozen=True)
class Lines:
    """The lines of a delimited file.

    Parameters
    ----------
    path
        The file; gzip'ed if its name ends in ``.gz``.
    separator
        One ASCII character.
    names
        Column names; None takes a single line as it is.
    with_header
        Whether the first line names the columns and so is no row.
    quoted
        Whether ``"`` quotes a field; else it is a character like any other.
    above
        Lines above the header (or, without one, above the rows) that are passed over.
    """

    path: Path
    separator: str
    names: Sequence[str] | None
    with_header: bool = False
    quoted: bool = False
    above: int = 0

    def blocks(self) -> Iterator[Block]:
        """Yield the rows in blocks; line ends may be mixed, empty lines at the very end do not count.

        Raises
        ------
        DataBroken
            No row, a line too long, bytes that are no UTF-8, a field too few or too many, a stray quote: file and line.
        """
        rows, first = 0, 1 + self.above + self.with_header
        for line, data in self._whole_lines():
            while data and line < first:
                line, data = line + 1, data[data.index(b"\n") + 1 :]
            if data:
                block = Block(self, line, data)
                rows += len(block.ends)
                yield block
        if not rows:
            raise DataBroken(f"{self.path}: {'the file has a header but no rows' if self.with_header else 'the file is empty'}")

    def _whole_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield numbers of lines, and the lines from there on as far as they were read."""
        line, rest = 1, b""
        for piece in _pieces(self.path, BLOCK):
            rest = rest + piece if rest or line > 1 else piece.removeprefix(BYTE_ORDER_MARK)
            if cut := self._end_of_lines(rest):
                yield line, rest[:cut]
                line += rest.count(b"\n", 0, cut)
                rest = rest[cut:]
            if len(rest) > LONGEST_LINE:
                unclosed = ", or a quote that is never closed" if self.quoted else ""
                raise DataBroken(f"{self.path}:{line}: a line longer than {LONGEST_LINE:,} bytes{unclosed}")
        if last := rest.rstrip(b"\r\n"):
            yield line, last + b"\n"

    def _end_of_lines(self, data: bytes) -> int:
        """Return how many bytes to parse now: up to the last line end outside quotes, the empty lines at the end left for later."""
        cut = data.rstrip(b"\r\n").rfind(b"\n")
        if self.quoted:
            quotes = data.count(b'"', 0, max(cut, 0))
            while cut >= 0 and quotes % 2:
                earlier = data.rfind(b"\n", 0, cut)
                quotes -= data.count(b'"', max(earlier, 0), cut)
                cut = earlier
        return cut + 1


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

    Attributes
    ----------
    ends
        [rows, columns] int, where in `data` each field ends.
    """

    def __init__(self, lines: Lines, line: int, data: bytes) -> None:
        self.lines, self.line = lines, line
        self.data = data.replace(b"\r\n", b"\n") if b"\r\n" in data else data
        self.quoted = lines.quoted and b'"' in self.data
        self._check_text()
        raw = np.frombuffer(self.data, dtype=np.uint8)
        ending = (raw == ord(lines.separator)) | (raw == NEWLINE)
        if self.quoted:
            ending &= ~self._inside_quotes(raw)
        ends = np.flatnonzero(ending)
        columns = len(lines.names) if lines.names is not None else ends.size
        self._check_shape(raw[ends] == NEWLINE, ends, columns)
        self.ends = ends.reshape(-1, columns)
        self._check_length(ends)

    def frame(self, text: Sequence[bool | None]) -> pl.DataFrame:
        """Parse the fields, as text where `text` says so, else as float32 (null if no number); columns of None are left out."""
        import polars as pl

        schema = {str(i): pl.String if is_text else pl.Float32 for i, is_text in enumerate(text)}
        chosen = [i for i, is_text in enumerate(text) if is_text is not None]
        quote, separator = '"' if self.quoted else None, self.lines.separator
        try:
            frame = pl.read_csv(
                self.data, columns=chosen, has_header=False, schema=schema, separator=separator, quote_char=quote, ignore_errors=True
            )
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise self._broken(0, f"cannot be parsed from here on ({first_line(error)})") from error
        if frame.height != len(self.ends):
            raise self._broken(0, f"{frame.height} rows were parsed from {len(self.ends)} lines; the file is no plain table")
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
            self.data.decode()
        except UnicodeDecodeError as error:
            raise self._broken(error.start, "bytes that are no UTF-8 text; the file is damaged or in another encoding") from None
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


def _first_lines(path: Path, count: int) -> list[bytes]:
    """Return the first lines of a file, fewer if it has no more or they are too long."""
    start = b""
    for piece in _pieces(path, LONGEST_LINE):
        start += piece
        if start.count(b"\n") >= count or len(start) > LONGEST_LINE:
            break
    return [line.removesuffix(b"\r") for line in start.removeprefix(BYTE_ORDER_MARK).split(b"\n")[:count]]


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    try:
        with cast("IO[bytes]", gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as stream:
            while piece := stream.read(size):
                yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataBroken(f"{path}: no whole gzip file ({first_line(error)}); get it again") from error
    except OSError as error:
        raise DataBroken(f"{path}: cannot be read ({error.strerror or first_line(error)})") from error


def shown(text: str) -> str:
    """Quote a text for a message, shortened, on one line."""
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}… ({len(text):,} characters)"


def first_line(error: BaseException) -> str:
    """Say another library's error on one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
