"""Files of data sets: where they lie, and their rows parsed fast, with the line and column to blame where one is broken.

A file is read in blocks of whole lines. NumPy finds where every field ends, so that a line with a field too few or too many is
known before anything is parsed; Polars then turns the fields into numbers and text. What Polars could not read is looked up by its
place, which costs nothing until a file is broken.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np

from vedette.data.dataset import Loader
from vedette.data.table import Coded
from vedette.errors import DataBroken, DataMissing, MissingExtra
from vedette.message import Array
from vedette.registry import suggestion

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Column", "Content", "Piece", "coded", "find", "header", "joined", "need_polars", "parquet", "read", "seconds", "texts"]

BLOCK = 8 << 20
LONGEST_LINE = 1 << 20
LONGEST_FIELD = 1 << 16
NEWLINE, QUOTE = 10, 34
TOKEN = r"[A-Za-z0-9_.\-]{1,64}"
MOMENT = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2})(:[0-5][0-9])?(\.[0-9]{1,9})?)? ?(Z|[+-][0-9]{2}:?[0-9]{2})?$"


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
    """

    path: Path
    frame: pl.DataFrame
    blame: Callable[[int, str, str], DataBroken]


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


def find(loader: type[Loader], root: Path | None, name: str) -> Path:
    """Return where an official file lies: plain or gzip'ed, in the loader's folder below `root` or in `root` itself.

    Raises
    ------
    DataMissing
        No root, no such folder or no such file: what was looked for, and how to get it.
    """
    if root is None:
        raise DataMissing(f"'{loader.folder}' needs a data root, the folder that holds '{loader.folder}/{name}'; {loader.how}")
    if not root.is_dir():
        raise DataMissing(f"data root '{root}' is no folder; {loader.how}")
    places = [root / loader.folder / name, root / name]
    for place in places:
        for path in (place, place.with_name(f"{place.name}.gz")):
            if path.is_file():
                return path
    raise DataMissing(f"neither '{places[0]}' nor '{places[1]}' is there, plain or with .gz; {loader.how}")


def header(path: Path, separator: str) -> tuple[str, ...]:
    """Return the column names in the first line of a delimited file.

    Raises
    ------
    DataBroken
        The file is empty, is no text, or has quotes that do not close in the first line.
    """
    start = b""
    for piece in _pieces(path, LONGEST_LINE):
        start += piece
        if b"\n" in start or len(start) > LONGEST_LINE:
            break
    line = start.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].removesuffix(b"\r")
    if not line.strip():
        raise DataBroken(f"{path}:1: {'the first line' if start.strip() else 'the file'} is empty; a line of column names belongs there")
    block = _Block(path, 1, line + b"\n", separator, None)
    return tuple(block.text(i) for i in range(block.ends.size))


def read(path: Path, columns: Sequence[Column], separator: str = ",", with_header: bool = False) -> Content:
    """Read an official file: all columns known, nothing missing, no quotes.

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
    of = {kind: [i for i, column in enumerate(columns) if column.kind == kind] for kind in ("number", "flag", "text", "time")}
    numbers: list[Array] = []
    parts: dict[int, list[Any]] = {i: [] for kind in ("flag", "text", "time") for i in of[kind]}
    for block in _blocks(path, separator, names, with_header):
        frame = block.frame([column.kind in ("text", "time") for column in columns])
        numbers.append(_numbers(block, frame, names, of["number"]))
        for i in of["flag"]:
            parts[i].append(_flags(block, frame[str(i)], names[i]))
        for i in of["text"]:
            parts[i].append(_tokens(block, frame[str(i)], names[i], columns[i].pattern))
        for i in of["time"]:
            parts[i].append(_times(block, frame[str(i)], names[i]))
    return Content(
        numbers=_stacked(numbers),
        flags={names[i]: np.concatenate(parts[i]) for i in of["flag"]},
        texts={names[i]: joined(parts[i]) for i in of["text"]},
        times={names[i]: np.concatenate(parts[i]) for i in of["time"]},
    )


def texts(path: Path, separator: str, names: Sequence[str]) -> Iterator[Piece]:
    """Yield the rows below the header of a person's delimited file, every field as text ("" if missing).

    Raises
    ------
    DataBroken
        A line with a field too few or too many, a quote inside a field, bytes that are no UTF-8.
    """
    import polars as pl

    for block in _blocks(path, separator, names, True, quoted=True):
        frame = block.frame([True] * len(names)).with_columns(pl.all().fill_null(""))
        frame.columns = list(names)
        yield Piece(path, frame, block.blame)


def parquet(path: Path, names: Sequence[str] | None = None) -> Piece:
    """Read a Parquet file.

    Parameters
    ----------
    path
        The file.
    names
        The columns to read; None reads none of them but still says what they are.

    Raises
    ------
    DataBroken
        The file is no Parquet, or damaged.
    """
    import polars as pl

    def blame(row: int, name: str, reason: str) -> DataBroken:
        return DataBroken(f"{path}: row {row + 1}, column '{name}': {_shown(str(frame[name][row]))} {reason}")

    try:
        frame = pl.read_parquet(path, n_rows=0) if names is None else pl.read_parquet(path, columns=list(names))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise DataBroken(f"{path}: no Parquet file that can be read ({_first_line(error)})") from error
    return Piece(path, frame, blame)


def coded(column: pl.Series) -> Coded:
    """Code a column of text without missing values; levels are sorted."""
    import polars as pl

    levels = column.unique().sort()
    codes = column.cast(pl.Enum(levels)).to_physical().to_numpy()
    return Coded(codes.astype(np.int32), tuple(levels.to_list()))


def joined(columns: Sequence[Coded]) -> Coded:
    """Put pieces of one text column after each other; levels are sorted."""
    if len(columns) == 1:
        return columns[0]
    levels = tuple(sorted({level for column in columns for level in column.levels}))
    at = {level: code for code, level in enumerate(levels)}
    maps = [np.array([at[level] for level in column.levels], dtype=np.int32) for column in columns]
    return Coded(np.concatenate([to[column.codes] for to, column in zip(maps, columns, strict=True)]), levels)


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


class _Block:
    """Whole lines of a file, known to hold the same number of fields each.

    Parameters
    ----------
    path, line
        Where it comes from: the file and the number of its first line.
    data
        The lines, LF-ended.
    separator
        One ASCII character.
    names
        Column names; None takes a single line as it is.
    quoted
        Whether ``"`` quotes a field; else it is a character like any other.
    """

    def __init__(self, path: Path, line: int, data: bytes, separator: str, names: Sequence[str] | None, quoted: bool = True) -> None:
        self.path, self.line, self.names, self.separator = path, line, names, separator
        self.data = data.replace(b"\r\n", b"\n") if b"\r\n" in data else data
        self.quoted = quoted and b'"' in self.data
        self._check_text()
        raw = np.frombuffer(self.data, dtype=np.uint8)
        ending = (raw == ord(separator)) | (raw == NEWLINE)
        if self.quoted:
            ending &= ~self._inside_quotes(raw)
        ends = np.flatnonzero(ending)
        columns = len(names) if names is not None else ends.size
        self._check_shape(raw[ends] == NEWLINE, ends, columns)
        self.ends = ends.reshape(-1, columns)
        self._check_length(ends)

    def frame(self, text: Sequence[bool]) -> pl.DataFrame:
        """Parse the fields, as text where `text` says so, else as float32; what is no number becomes null."""
        import polars as pl

        schema = {str(i): pl.String if is_text else pl.Float32 for i, is_text in enumerate(text)}
        quote = '"' if self.quoted else None
        try:
            frame = pl.read_csv(self.data, has_header=False, schema=schema, separator=self.separator, quote_char=quote, ignore_errors=True)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise self._broken(0, f"cannot be parsed from here on ({_first_line(error)})") from error
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
        field = row * self.ends.shape[1] + list(self.names or [name]).index(name)
        return self._broken(int(self.ends.flat[field]), f"column '{name}': {_shown(self.text(field))} {reason}")

    def _broken(self, place: int, reason: str) -> DataBroken:
        return DataBroken(f"{self.path}:{self.line + self.data.count(NEWLINE, 0, place)}: {reason}")

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
        edge = quotes | (raw == ord(self.separator)) | (raw == NEWLINE)
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
        raise self._broken(int(ends[last]), f"{counts[row]} columns where {columns} belong (separated by {self.separator!r})")

    def _check_length(self, ends: Array) -> None:
        lengths = np.diff(ends, prepend=-1)
        longest = int(lengths.argmax())
        if lengths[longest] > LONGEST_FIELD:
            row, column = divmod(longest, self.ends.shape[1])
            name = self.names[column] if self.names is not None else "header"
            raise self.blame(row, name, f"is too long for a field (at most {LONGEST_FIELD:,} bytes)")


def _blocks(path: Path, separator: str, names: Sequence[str], with_header: bool, quoted: bool = False) -> Iterator[_Block]:
    """Yield a file's lines in blocks; line ends may be mixed, empty lines at the very end do not count."""
    line, rest, rows = 1, b"", 0
    for piece in _pieces(path, BLOCK):
        rest = rest + piece if rest or line > 1 else piece.removeprefix(b"\xef\xbb\xbf")
        cut = _whole_lines(rest, quoted)
        if cut:
            data = rest[:cut]
            yield from (found := _below(path, line, data, separator, names, with_header, quoted))
            rows += len(found)
            line += data.count(b"\n")
            rest = rest[cut:]
        if len(rest) > LONGEST_LINE:
            raise DataBroken(f"{path}:{line}: a line longer than {LONGEST_LINE:,} bytes{', or a quote that is never closed' * quoted}")
    last = rest.rstrip(b"\r\n")
    if last:
        yield from (found := _below(path, line, last + b"\n", separator, names, with_header, quoted))
        rows += len(found)
    if not rows:
        raise DataBroken(f"{path}: {'the file has a header but no rows' if with_header else 'the file is empty'}")


def _below(path: Path, line: int, data: bytes, separator: str, names: Sequence[str], with_header: bool, quoted: bool) -> list[_Block]:
    """Return the lines as a block, without the header; nothing if only the header was there."""
    if with_header and line == 1:
        line, data = 2, data[data.index(b"\n") + 1 :]
    return [_Block(path, line, data, separator, names, quoted)] if data else []


def _whole_lines(data: bytes, quoted: bool) -> int:
    """Return how many bytes to parse now: up to the last line end outside quotes, the empty lines at the end left for later."""
    cut = data.rstrip(b"\r\n").rfind(b"\n")
    if quoted:
        quotes = data.count(b'"', 0, max(cut, 0))
        while cut >= 0 and quotes % 2:
            earlier = data.rfind(b"\n", 0, cut)
            quotes -= data.count(b'"', max(earlier, 0), cut)
            cut = earlier
    return cut + 1


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    try:
        with cast("IO[bytes]", gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as stream:
            while piece := stream.read(size):
                yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataBroken(f"{path}: no whole gzip file ({_first_line(error)}); get it again") from error
    except OSError as error:
        raise DataBroken(f"{path}: cannot be read ({error.strerror or _first_line(error)})") from error


def _check_header(path: Path, found: Sequence[str], names: Sequence[str], separator: str) -> None:
    if list(found) == list(names):
        return
    if len(found) != len(names):
        raise DataBroken(f"{path}:1: a header of {len(found)} columns where {len(names)} belong (separated by {separator!r})")
    name, wrong = next((name, wrong) for name, wrong in zip(names, found, strict=True) if name != wrong)
    raise DataBroken(f"{path}:1: column {_shown(wrong)} where '{name}' belongs; {suggestion(wrong[:80], names)}")


def _numbers(block: _Block, frame: pl.DataFrame, names: Sequence[str], columns: Sequence[int]) -> Array:
    values = frame.select([str(i) for i in columns]).to_numpy()
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, at = divmod(int(wrong.argmax()), len(columns))
        raise block.blame(row, names[columns[at]], "is no finite number")
    return values


def _flags(block: _Block, column: pl.Series, name: str) -> Array:
    values = column.to_numpy()
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        raise block.blame(int(wrong.argmax()), name, "is neither 0 nor 1")
    return values.astype(np.int8)


def _tokens(block: _Block, column: pl.Series, name: str, pattern: str) -> Coded:
    texts = coded(column.fill_null(""))
    wrong = [code for code, level in enumerate(texts.levels) if not re.fullmatch(pattern, level)]
    if wrong:
        raise block.blame(int(np.isin(texts.codes, wrong).argmax()), name, f"does not look like a value of this column ({pattern})")
    return texts


def _times(block: _Block, column: pl.Series, name: str) -> Array:
    texts = column.fill_null("")
    values = seconds(texts)
    wrong = values.is_null() | (texts.str.len_bytes() != len("2020-01-01 00:00:00"))
    if wrong.any():
        raise block.blame(int(wrong.to_numpy().argmax()), name, "is no date and time such as 2020-01-31 23:59:59")
    return values.to_numpy()


def _stacked(parts: list[Array]) -> Array:
    """Put the parts below each other, letting go of each as it is copied: full KDD'99 never stands in memory twice."""
    out = np.empty((sum(len(part) for part in parts), parts[0].shape[1]), dtype=np.float32)
    row = 0
    while parts:
        part = parts.pop(0)
        out[row : row + len(part)] = part
        row += len(part)
    return out


def _shown(text: str) -> str:
    """Quote a text for a message, shortened, on one line."""
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}… ({len(text):,} characters)"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
