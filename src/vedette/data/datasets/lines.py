"""Lines of delimited files, read in blocks that are checked and parsed side by side."""

from __future__ import annotations

import gzip
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, TypeVar, cast

from vedette.data.datasets.block import BYTE_ORDER_MARK, NEWLINE, Block, count, first_line
from vedette.errors import DataBroken

__all__ = ["Header", "Lines", "find_header", "header", "whole"]

S = TypeVar("S")
T = TypeVar("T")

BLOCK = 4 << 20
"""Bytes parsed at once: twice as many took 5 % less time for N-BaIoT's columns, and twice the memory."""

AT_ONCE = 2
"""Blocks that are parsed side by side."""

LONGEST_LINE = 1 << 20
DEEPEST_HEADER = 20


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

    def parsed(self, work: Callable[[Block], T]) -> Iterator[T]:
        """Yield what a function makes of the rows, block by block, in order.

        Line ends may be mixed, and empty lines at the very end do not count.

        Parameters
        ----------
        work
            Called in other threads, for two blocks at once.

        Raises
        ------
        DataBroken
            No row, a line too long, bytes that are no UTF-8, a field too few or too many, a stray quote: file and line.
        """
        rows = 0

        def worked(lines: tuple[int, bytes]) -> tuple[int, T]:
            block = Block(self, *lines)
            return len(block), work(block)

        for found, made in _side_by_side(worked, self._rows()):
            rows += found
            yield made
        if not rows:
            raise DataBroken(f"{self.path}: {'the file has a header but no rows' if self.with_header else 'the file is empty'}")

    def _rows(self) -> Iterator[tuple[int, bytes]]:
        """Yield numbers of lines, and the rows from there on as far as they were read."""
        first = 1 + self.above + self.with_header
        for line, data in self._whole_lines():
            while data and line < first:
                line, data = line + 1, data[data.index(b"\n") + 1 :]
            if data:
                yield line, data

    def _whole_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield numbers of lines, and the lines from there on as far as they were read."""
        line, rest = 1, b""
        for piece in _pieces(self.path, BLOCK):
            if not rest and line == 1:
                piece = piece.removeprefix(BYTE_ORDER_MARK)
            quoted = self.quoted and (b'"' in piece or b'"' in rest)
            cut = 0 if quoted else 1 + piece.rstrip(b"\r\n").rfind(b"\n")
            if cut:
                # Copied once: memory that is written for the first time costs more than what is parsed from it.
                data, rest = b"".join((rest, memoryview(piece)[:cut])), piece[cut:]
            else:
                rest += piece
                cut = self._end_of_lines(rest)
                data, rest = rest[:cut], rest[cut:]
            if data:
                yield line, data
                line += count(data, NEWLINE)
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


def _side_by_side(work: Callable[[S], T], items: Iterator[S]) -> Iterator[T]:
    """Yield what a function makes of items, in order, while it is at work on the next ones; of several errors the first in order counts."""
    waiting: deque[Future[T]] = deque()
    broken: DataBroken | None = None
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            more = True
            while more or waiting:
                while more and len(waiting) <= AT_ONCE:
                    try:
                        waiting.append(pool.submit(work, next(items)))
                    except StopIteration:
                        more = False
                    except DataBroken as error:
                        more, broken = False, error
                if waiting:
                    yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
    if broken is not None:
        raise broken


def _first_lines(path: Path, count: int) -> list[bytes]:
    """Return the first lines of a file, fewer if it has no more or they are too long."""
    start = b""
    for piece in _pieces(path, LONGEST_LINE):
        start += piece
        if start.count(b"\n") >= count or len(start) > LONGEST_LINE:
            break
    return start.removeprefix(BYTE_ORDER_MARK).split(b"\n")[:count]


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    try:
        with cast("IO[bytes]", gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as stream:
            while piece := stream.read(size):
                yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataBroken(f"{path}: no whole gzip file ({first_line(error)}); get it again") from error
    except OSError as error:
        raise DataBroken(f"{path}: cannot be read ({error.strerror or first_line(error)})") from error
