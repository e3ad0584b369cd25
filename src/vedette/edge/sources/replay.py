"""Recordings played again: CSV by the standard library, Parquet where Polars is installed; at any speed."""

from __future__ import annotations

import csv
import gzip
import math
import time
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from vedette.edge.decoding import Decoder
from vedette.edge.fields import Key, dig
from vedette.edge.sources.base import Drained, Feed, Source
from vedette.edge.unread import tell_unread
from vedette.errors import DataBroken, DataMissing, MissingExtra, UnknownName
from vedette.registry import suggestion

__all__ = ["Replay"]

UNREADABLE = "\ufffd"
"""What stands where bytes were no UTF-8."""
ROWS = 16_384
"""Rows of a Parquet file read at once."""


class Replay(Source):
    """CSV (also ``.gz``) or Parquet files, one after the other.

    The columns are found by name, as the fields of an object are (`Format`); of empty cells it says that the field is missing.

    Parameters
    ----------
    files
        In order.
    speed
        How many times as fast as it was recorded; 0: as fast as it is drained.
    device
        Name of the device where no column says; empty: the name of the file, without what follows the first dot.
    period
        Seconds from row to row where no column says the time.
    separator
        Of CSV columns; empty: the comma, semicolon or tabulator that the header has most of.
    """

    files: tuple[str, ...] = Field(min_length=1)
    speed: float = Field(default=0.0, ge=0)
    device: str = ""
    period: float = Field(default=1.0, gt=0)
    separator: str = Field(default="", max_length=1)

    def open(self, decoder: Decoder, position: str = "") -> Feed:
        """Open it; see `Source.open`.

        Raises
        ------
        DataMissing, DataBroken
            A file is not there, or cannot be read.
        UnknownName
            A file lacks a feature.
        MissingExtra
            A Parquet file, and Polars is not installed.
        """
        for name in self.files:
            if not Path(name).is_file():
                raise DataMissing(f"there is no file '{name}' to replay")
        return _Player(self, decoder, position)


class _Place(NamedTuple):
    """How far files were read: which, how many of its rows, how many rows in all, and the byte where the next begins (0: not known)."""

    file: int = 0
    row: int = 0
    rows: int = 0
    byte: int = 0

    @classmethod
    def of(cls, position: str) -> _Place:
        parts = position.split(":")
        return cls(*map(int, parts)) if len(parts) == 4 and all(part.isdigit() for part in parts) else cls()

    def after(self, byte: int = 0) -> _Place:
        return _Place(self.file, self.row + 1, self.rows + 1, byte)

    def said(self) -> str:
        return ":".join(map(str, self))


class _Player(Feed):
    def __init__(self, source: Replay, decoder: Decoder, position: str) -> None:
        self.counts = decoder.counts
        self._source, self._decoder = source, decoder
        self._place = _Place.of(position)
        self._rows = self._played()
        self._first: tuple[float, float] | None = None
        self._looked = False
        self._ahead = next(self._rows, None)  # a file that cannot be read is told now
        self._over = self._ahead is None

    def drain(self, wait: float, most: int = 65_536) -> Drained | None:
        deadline = time.monotonic() + wait
        while not self._over:
            while self._decoder.pending < most and self._ahead is not None and self._due(self._ahead[1]) <= 0:
                values, moment, device, self._place = self._ahead
                self._decoder.add(values, device, math.nan, moment)
                self._ahead = next(self._rows, None)
            self._over = self._ahead is None
            readings = self._decoder.drained()
            if readings is not None:
                return Drained(readings, self._place.said())
            left = deadline - time.monotonic()
            if self._ahead is None or left <= 0:
                break
            time.sleep(max(0.0, min(left, self._due(self._ahead[1]))))
        return None

    @property
    def ended(self) -> bool:
        return self._over

    def close(self) -> None:
        self._rows.close()

    def _due(self, moment: float) -> float:
        """Return in how many seconds a row that was recorded then is played."""
        if not self._source.speed:
            return 0.0
        if self._first is None:
            self._first = moment, time.monotonic()
        return self._first[1] + (moment - self._first[0]) / self._source.speed - time.monotonic()

    def _played(self) -> Generator[tuple[dict[str, Any], float, Any, _Place]]:
        """Yield the rows from the place on: values, time, device, and the place behind."""
        form, moment = self._decoder.format, 0.0
        named, timed = Key(form.device), Key(form.time)
        place = self._place
        for number, name in enumerate(self._source.files):
            if number < place.file:
                continue
            path = Path(name)
            if number > place.file:
                place = _Place(number, rows=place.rows)
            rows = self._parquet(path, place) if path.suffix == ".parquet" else self._csv(path, place)
            usual = self._source.device or path.name.split(".")[0]
            for values, place in rows:
                # Where a row does not say its time, though there is a column for it, that of the row before holds.
                said = self._decoder.seconds(dig(values, timed)) if timed else (place.rows - 1) * self._source.period
                moment = moment if said is None else said
                yield values, moment, dig(values, named) if named else usual, place

    def _csv(self, path: Path, begin: _Place) -> Iterator[tuple[dict[str, Any], _Place]]:
        numbers = {feature.name for feature in self._decoder.features if feature.kind == "number"}
        numbers = {self._decoder.format.fields.get(name, name) for name in numbers}
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            offset = 0

            def text(start: int) -> Iterator[str]:
                nonlocal offset
                offset = start
                file.seek(start)
                for line in file:
                    offset += len(line)
                    yield line.decode("utf-8", errors="replace")

            try:
                first = next(text(0), "").lstrip("\ufeff")
            except (OSError, EOFError, zlib.error) as error:
                raise DataBroken(f"{path}: cannot be read ({error})") from None
            separator = self._source.separator or max(",;\t", key=first.count)
            header = next(csv.reader([first], delimiter=separator), [])
            self._check(path, header)
            places = [(i, column, column in numbers) for i, column in enumerate(header)]
            place = begin
            reader = csv.reader(text(begin.byte or offset), delimiter=separator)
            while True:
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except (OSError, EOFError, zlib.error) as error:
                    raise DataBroken(f"{path}: cannot be read behind row {place.row} ({error})") from None
                except csv.Error as error:  # a cell longer than the csv module takes, or a bare carriage return
                    self.counts.add("garbage", error)
                    continue
                if not cells:
                    continue
                place = place.after(offset)
                if len(cells) == len(header):
                    yield {column: _cell(cells[i]) if number else _text(cells[i]) for i, column, number in places}, place
                else:
                    self.counts.add("wrong-length", len(cells))

    def _parquet(self, path: Path, begin: _Place) -> Iterator[tuple[dict[str, Any], _Place]]:
        try:
            import polars
        except ImportError:
            raise MissingExtra("replaying Parquet needs Polars: pip install 'vedette[train]'") from None
        place = begin
        try:
            table = polars.scan_parquet(path)
            self._check(path, table.collect_schema().names())
            while len(part := table.slice(place.row, ROWS).collect()):
                for values in part.iter_rows(named=True):
                    place = place.after()
                    yield values, place
        except (polars.exceptions.PolarsError, OSError) as error:
            raise DataBroken(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]:.120})") from None

    def _check(self, path: Path, columns: Sequence[str]) -> None:
        for feature in self._decoder.features:
            wanted = self._decoder.format.fields.get(feature.name, feature.name)
            if wanted not in columns:
                raise UnknownName(f"{path}: no column '{wanted}'; {suggestion(wanted, columns)}")
            if columns.count(wanted) > 1:
                raise DataBroken(f"{path}: two columns are called '{wanted}'; rename one")
        if not self._looked:
            self._looked = True
            tell_unread(columns, self._decoder, self._source.device or path.name.split(".")[0])


def _cell(text: str) -> float | str | None:
    """Return a cell of numbers: None where it is empty, the text where it is no number."""
    try:
        return float(text)
    except ValueError:
        return text or None


def _text(text: str) -> str | bytes | None:
    """Return a cell of text: None where it is empty, bytes, which are neither a category nor a name, where it was no UTF-8."""
    return text.encode() if UNREADABLE in text else text or None
