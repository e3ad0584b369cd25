"""SWaT: a water treatment plant of six stages, eleven days, 36 attacks on the last four."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from vedette.data.dataset import Dataset
from vedette.data.datasets.block import Block, first_line, shown
from vedette.data.datasets.columns import need_polars, seconds, twelve_hours
from vedette.data.datasets.lines import Lines, find_header, whole
from vedette.data.datasets.pieces import Piece
from vedette.data.loading import FileLoader
from vedette.data.stored import NewMatrix
from vedette.data.table import Feature, Table
from vedette.errors import DataBroken, DataMissing, MissingExtra
from vedette.message import Array
from vedette.registry import suggestion

if TYPE_CHECKING:
    import polars as pl
    from fastexcel import DTypeMap, ExcelReader

__all__ = ["Swat"]

NAMES = """
FIT101 LIT101 MV101 P101 P102 AIT201 AIT202 AIT203 FIT201 MV201 P201 P202 P203 P204 P205 P206 DPIT301 FIT301 LIT301 MV301 MV302 MV303 MV304
P301 P302 AIT401 AIT402 FIT401 LIT401 P401 P402 P403 P404 UV401 AIT501 AIT502 AIT503 AIT504 FIT501 FIT502 FIT503 FIT504 P501 P502 PIT501
PIT502 PIT503 FIT601 P601 P602 P603
"""
TAGS = tuple(NAMES.split())
# Analysers (AIT) measure conductivity, pH, redox potential or hardness: their prefix does not tell the unit.
UNITS = {"FIT": "m³/h", "LIT": "mm", "DPIT": "kPa", "PIT": "kPa"}
FEATURES = tuple(Feature(tag, unit=UNITS.get(tag.rstrip("0123456789"), "")) for tag in TAGS)
TIME, LABEL = "Timestamp", "Normal/Attack"
KNOWN = {name.lower(): name for name in (TIME, *TAGS, LABEL)} | {"attack": LABEL}
FLAGS = {"normal": 0, "attack": 1, "0": 0, "1": 1, "0.0": 0, "1.0": 1}
SINGAPORE = 8 * 3600.0
ROWS = {"v0": 496_800, "v1": 495_000}
TEST_ROWS, TEST_ATTACKS = 449_919, 54_621
ATTACK, GDN = "SWaT_Dataset_Attack_v0", ("swat_train.csv", "swat_test.csv")
REPACKED = (
    "the files of the Kaggle re-pack lie there, which are not SWaT: their 991,800 rows of normal running are v0 and v1 of the same days "
    "below each other, with seven of the 51 tags empty (MV101, AIT201, MV201, P201, P202, P204, MV303)"
)
# A cell beyond column BZ or row 999,999: calamine makes room for every cell up to there and would end the process for want of memory.
FAR_CELL = re.compile(rb"""\sr\s*=\s*["'](?:[A-Za-z]{3}|[C-Zc-z][A-Za-z]|[A-Za-z]*[0-9]{7})""")


class Swat(FileLoader):
    """SWaT.A1 & A2 (December 2015): ``train`` is the normal run, ``test`` the run under attack, one row a second.

    Times are seconds since 1970 UTC; the plant's clock is Singapore's. Pumps, valves and the UV lamp are 1 off or closed, 2 on or open,
    valves 0 while they move. Some tags never change.

    Reads the xlsx files, csv exports of them (``,`` or ``;``, decimal points or commas), or, where neither is there, ``swat_train.csv``
    and ``swat_test.csv`` with a column ``attack``, as GDN's scripts write them. A csv file reads several
    times faster than its xlsx, and in a fraction of the memory.

    Parameters
    ----------
    version
        Of the normal run: v1 is v0 without its first 30 minutes, in which the plant fills up.
    check
        Demand the published number of rows and attacks of the official files; False accepts a sample.
    """

    title: ClassVar[str] = "SWaT: water treatment plant, 51 sensors and actuators, 7 days normal and 4 under attack"
    licence: ClassVar[str] = "iTrust's terms: research, no redistribution"
    source: ClassVar[str] = "Goh, Adepu, Junejo, Mathur (CRITIS 2016), iTrust, Singapore University of Technology and Design"
    how: ClassVar[str] = (
        "ask iTrust for it (itrust.sutd.edu.sg/itrust-labs_datasets), folder 'SWaT.A1 & A2_Dec 2015/Physical': "
        f"swat/SWaT_Dataset_Normal_v1.xlsx (or _v0 with version = 'v0') and swat/{ATTACK}.xlsx, or csv exports of them"
    )
    folder: ClassVar[str] = "swat"
    official_files: ClassVar[tuple[str, ...]] = ("SWaT_Dataset_Normal_v1.xlsx", f"{ATTACK}.xlsx")

    version: Literal["v0", "v1"] = "v1"
    check: bool = True

    @classmethod
    def is_here(cls, root: Path) -> bool:
        """Tell whether files of one of the layouts and versions lie under a data root, plain or gzip'ed."""
        return any(cls(version=version)._finds(root) for version in ROWS)

    def sources(self, root: Path | None) -> dict[str, Path]:
        """Find the normal run and the one under attack; see `FileLoader.sources`."""
        names = (f"SWaT_Dataset_Normal_{self.version}", ATTACK)
        paths = [self._official(root, name) for name in names]
        made = [self.place_of(root, name) for name in GDN]
        if paths == [None, None] and None not in made:
            return {name: path for name, path in zip(GDN, made, strict=True) if path is not None}
        if paths == [None, None] and any(self.place_of(root, name) for name in ("merged.csv", "normal.csv")):
            raise DataMissing(f"{root}: {REPACKED}; {self.how}")
        found = [path or self.find(root, f"{name}.xlsx") for path, name in zip(paths, names, strict=True)]
        return dict(zip(names, found, strict=True))

    def read(self, sources: Mapping[str, Path], matrix: NewMatrix) -> Dataset:
        """Read ``train`` and ``test``; see `FileLoader.read`."""
        need_polars()
        tables = [_table(path, matrix) for path in sources.values()]
        if self.check and ATTACK in sources:
            for path, table, counts in zip(sources.values(), tables, [(ROWS[self.version], 0), (TEST_ROWS, TEST_ATTACKS)], strict=True):
                _check_published(path, table, *counts)
        return Dataset("swat", dict(zip(("train", "test"), tables, strict=True)), ordered=True)

    @classmethod
    def _official(cls, root: Path | None, stem: str) -> Path | None:
        names = (f"{folder}{stem}.{ending}" for ending in ("xlsx", "csv") for folder in ("", "Physical/"))
        return next((path for path in (cls.place_of(root, name) for name in names) if path is not None), None)


def _check_published(path: Path, table: Table, rows: int, attacks: int) -> None:
    found = 0 if table.label is None else int(table.label.sum())
    if (len(table), found) != (rows, attacks):
        raise DataBroken(
            f"{path}: {len(table):,} rows, {found:,} of them under attack, where {rows:,} and {attacks:,} were published; "
            "get the whole file, or set check = false if it is meant to be a sample"
        )


def _table(path: Path, matrix: NewMatrix) -> Table:
    numbers = matrix(len(TAGS), np.float32)
    labels: list[Array] = []
    times: list[Array] = []
    for piece in _sheet(path) if ".xlsx" in path.suffixes else _texts(path):
        numbers.append(_numbers(piece))
        labels.append(_labels(piece))
        times.append(_moments(piece, times[-1][-1] if times else -np.inf))
    return Table(FEATURES, numbers.whole(), label=np.concatenate(labels), time=np.concatenate(times))


def _texts(path: Path) -> Iterator[Piece]:
    """Yield the rows of a csv file; tags are numbers, and text where some of their numbers have a decimal comma."""
    found = find_header(path, TIME)
    names = _known(f"{path}:{found.line}", found.names)

    def piece(block: Block) -> Piece:
        frame = block.frame([name in (TIME, LABEL) if name else None for name in names])
        frame.columns = [name for name in names if name]
        odd = [name for name in frame.columns if frame[name].null_count()]
        if odd:
            texts = block.frame([True if name in odd else None for name in names])
            texts.columns = [name for name in names if name in odd]
            frame = frame.with_columns(texts)
        return Piece(path, frame, block.blame)

    yield from Lines(path, found.separator, names, with_header=True, quoted=True, above=found.line - 1).parsed(piece)


def _sheet(path: Path) -> Iterator[Piece]:
    """Yield the rows of the first sheet of an xlsx file, in one piece."""
    import polars as pl

    try:
        import fastexcel
    except ImportError as error:
        raise MissingExtra("reading xlsx files needs fastexcel: pip install 'vedette[train]'") from error
    data = whole(path)
    _check_archive(path, data)
    try:
        workbook = fastexcel.read_excel(data)
        row, found, frame = _below_header(path, workbook)
        names = _known(f"{path}:{row + 1}", found)
        mixed = [i for i, name in enumerate(names) if name in TAGS and frame.dtypes[i] == pl.String]
        floats: DTypeMap = dict.fromkeys(mixed, "float")
        # Where a column holds some text, its numbers became text of nine decimals: read those again.
        exact = pl.DataFrame(workbook.load_sheet(0, header_row=row, schema_sample_rows=None, dtypes=floats)) if mixed else frame
    except (fastexcel.FastExcelError, pl.exceptions.PolarsError, ValueError) as error:
        raise DataBroken(f"{path}: no xlsx workbook that can be read ({first_line(error)}); get it again") from error
    if not frame.height:
        raise DataBroken(f"{path}: the sheet has a header but no rows")

    def blame(at: int, name: str, reason: str) -> DataBroken:
        return DataBroken(f"{path}:{row + 2 + at}: column '{name}': {shown(str(frame.to_series(names.index(name))[at]))} {reason}")

    numbers = frame.clone()
    for i in mixed:
        column = exact.to_series(i)
        numbers.replace_column(i, column.zip_with(column.is_not_null(), _decimals(frame.to_series(i))))
    yield Piece(path, pl.DataFrame([numbers.to_series(i).alias(name) for i, name in enumerate(names) if name]), blame)


def _check_archive(path: Path, data: bytes) -> None:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if "xl/workbook.xml" not in archive.namelist():
                raise DataBroken(f"{path}: no xlsx workbook (it has no xl/workbook.xml); save it as xlsx or csv")
            for name in archive.namelist():
                with archive.open(name) as stream:
                    end = b""
                    while piece := stream.read(1 << 20):
                        if far := FAR_CELL.search(end + piece):
                            raise DataBroken(f"{path}: a cell as far as {shown(far[0].decode().strip())}…; SWaT has 53 columns")
                        end = piece[-64:]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise DataBroken(f"{path}: no whole xlsx file ({first_line(error)}); get it again") from error


def _below_header(path: Path, workbook: ExcelReader) -> tuple[int, list[str], pl.DataFrame]:
    """Return the number of the header's row, from 0, its cells ("" if empty), and what stands below it."""
    import polars as pl

    # In the official files the header is the second row; every further look costs as much as reading the sheet.
    for row in (1, 0, 2, 3, 4):
        sheet = workbook.load_sheet(0, header_row=row, schema_sample_rows=None)
        found = [column.name.strip() if column.column_name_from == "looked_up" else "" for column in sheet.selected_columns]
        if TIME.lower() in (name.lower() for name in found):
            return row, found, pl.DataFrame(sheet)
    raise DataBroken(f"{path}:1: none of the first five rows has a cell '{TIME}'; a row of column names belongs there")


def _known(where: str, found: Sequence[str]) -> list[str]:
    """Return the columns as they are officially spelt; unnamed ones (an index) stay unnamed and are not looked at."""
    names = [KNOWN.get(name.strip().lower(), name) if name.strip() else "" for name in found]
    for name in names:
        if name and name not in KNOWN.values():
            raise DataBroken(f"{where}: an unknown column {shown(name)}; {suggestion(name[:80], KNOWN.values())}")
        if name and names.count(name) > 1:
            raise DataBroken(f"{where}: two columns are called '{name}'")
    missing = next((name for name in (TIME, *TAGS, LABEL) if name not in names), None)
    if missing:
        raise DataBroken(f"{where}: no column '{missing}'; a file of SWaT has {TIME}, 51 tags and {LABEL} (or attack)")
    return names


def _numbers(piece: Piece) -> Array:
    import polars as pl

    values = np.empty((piece.frame.height, len(TAGS)), dtype=np.float32)
    for i, tag in enumerate(TAGS):
        column = piece.frame[tag]
        if column.dtype == pl.String:
            column = _decimals(column)
        if not column.dtype.is_numeric():
            raise piece.blame(0, tag, "is no number")
        values[:, i] = column.cast(pl.Float32).fill_null(np.nan).to_numpy()
        wrong = ~np.isfinite(values[:, i])
        if wrong.any():
            raise piece.blame(int(wrong.argmax()), tag, "is no finite number")
    return values


def _decimals(column: pl.Series) -> pl.Series:
    """Turn texts into numbers, null where they are none; a decimal comma is a point."""
    import polars as pl

    return column.str.strip_chars().str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)


def _labels(piece: Piece) -> Array:
    import polars as pl

    # Some rows of the attack run say "A ttack".
    texts = piece.frame[LABEL].cast(pl.String).fill_null("").str.replace_all(r"\s", "").str.to_lowercase()
    flags = texts.replace_strict(FLAGS, default=None, return_dtype=pl.Int8)
    if flags.null_count():
        raise piece.blame(int(flags.is_null().arg_max() or 0), LABEL, "is neither Normal nor Attack")
    return flags.to_numpy()


def _moments(piece: Piece, last: float) -> Array:
    """Return [rows] float64 seconds since 1970 UTC; none may be before the last of the rows above."""
    import polars as pl

    column = piece.frame[TIME]
    if column.dtype == pl.Datetime:
        moments = column.dt.round("1s").dt.epoch("us") / 1e6
    else:
        texts = column.cast(pl.String).fill_null("").str.strip_chars()
        iso = seconds(texts).set(texts.str.len_bytes() != len("2015-12-28 10:00:00"), None)
        moments = twelve_hours(texts).fill_null(iso)
    if moments.null_count():
        raise piece.blame(int(moments.is_null().arg_max() or 0), TIME, "is no date and time such as 28/12/2015 10:00:00 AM")
    time: Array = moments.to_numpy() - SINGAPORE
    back = np.flatnonzero(np.diff(time, prepend=last) < 0)
    if back.size:
        raise piece.blame(int(back[0]), TIME, "goes back in time; the rows are not as they were recorded")
    return time
