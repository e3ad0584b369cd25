"""SWaT: xlsx and csv in the layouts that public code reads, in tiny files; anything else is one clear line."""

from __future__ import annotations

import csv
import io
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.official_files import check_mutated, message, mutated, rows_of, same
from samples import put
from vedette.data.dataset import Dataset
from vedette.data.datasets import lines
from vedette.data.datasets.swat import TAGS, Swat
from vedette.data.table import Table
from vedette.errors import DataBroken, DataMissing, MissingExtra, VedetteError

SPACED = {"MV101", "AIT201", "MV201", "P201", "P202", "P204", "MV303"}
NORMAL, ATTACK = "SWaT_Dataset_Normal_v1", "SWaT_Dataset_Attack_v0"
HEAD = [" Timestamp", *(f" {tag}" if tag in SPACED else tag for tag in TAGS), "Normal/Attack"]
STAGES = ["", "P1", "", "", "", "", "P2", *[""] * 46]
TIMES = [" 28/12/2015 9:59:59 AM", " 28/12/2015 10:00:00 AM", " 28/12/2015 12:00:01 PM", " 2/1/2016 1:41:09 PM"]
SECONDS = [datetime(2015, 12, 28, 1, 59, 59), datetime(2015, 12, 28, 2), datetime(2015, 12, 28, 4, 0, 1), datetime(2016, 1, 2, 5, 41, 9)]
LABELS = ["Normal", "Attack", "A ttack", "Normal"]
VALUES = [[i + k / 7 for k in range(51)] for i in range(4)]
ROWS: list[list[Any]] = [[TIMES[i], *VALUES[i], LABELS[i]] for i in range(4)]


def lines_of(rows: Sequence[Sequence[Any]], separator: str = ",", comma: bool = False) -> str:
    """Rows as a csv export; `comma` makes decimal commas, quoted where the separator is one too."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    writer.writerows([[str(cell).replace(".", ",") if comma and isinstance(cell, float) else cell for cell in row] for row in rows])
    return out.getvalue()


TEXT = lines_of([STAGES, HEAD, *ROWS])
TRAIN = lines_of([HEAD, ROWS[0]])
RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
BOOK = f'<workbook xmlns="{MAIN}" xmlns:r="{RELATED}"><sheets><sheet name="Dec2015" sheetId="1" r:id="rId1"/></sheets></workbook>'
STYLES = f'<styleSheet xmlns="{MAIN}"><cellXfs><xf numFmtId="0"/><xf numFmtId="22"/></cellXfs></styleSheet>'
RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    f'<Relationship Id="rId1" Type="{RELATED}/{{kind}}" Target="{{target}}"/></Relationships>'
)


def cell(value: Any, row: int, column: int) -> str:
    place = f"{chr(64 + column // 26) if column > 25 else ''}{chr(65 + column % 26)}{row}"
    if isinstance(value, str):
        return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>' if value else ""
    if isinstance(value, datetime):
        return f'<c r="{place}" s="1"><v>{(value - datetime(1899, 12, 30)) / timedelta(days=1)!r}</v></c>'
    return f'<c r="{place}"><v>{value!r}</v></c>'


def xlsx(rows: Sequence[Sequence[Any]], change: Callable[[str], str] = str) -> bytes:
    """Rows as the smallest workbook; `change` breaks the sheet."""
    out = io.BytesIO()
    body = "".join(f'<row r="{r}">{"".join(cell(v, r, c) for c, v in enumerate(row))}</row>' for r, row in enumerate(rows, 1))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>')
        archive.writestr("_rels/.rels", RELATIONS.format(kind="officeDocument", target="xl/workbook.xml"))
        archive.writestr("xl/workbook.xml", BOOK)
        archive.writestr("xl/styles.xml", STYLES)
        archive.writestr("xl/_rels/workbook.xml.rels", RELATIONS.format(kind="worksheet", target="worksheets/sheet1.xml"))
        archive.writestr("xl/worksheets/sheet1.xml", change(f'<worksheet xmlns="{MAIN}"><sheetData>{body}</sheetData></worksheet>'))
    return out.getvalue()


BOOK_BYTES = xlsx([STAGES, HEAD, *ROWS])


def load(folder: Path, content: str | bytes, ending: str = "csv", **values: Any) -> Table:
    files = {f"swat/{NORMAL}.csv": TRAIN, f"swat/{ATTACK}.{ending}": content}
    return Swat(check=False, **values).load(put(folder, files)).tables["test"]


def check_right(table: Table) -> None:
    assert tuple(feature.name for feature in table.features) == TAGS
    assert table.numbers.dtype == np.float32
    np.testing.assert_array_equal(table.numbers, np.array(VALUES).astype(np.float32))
    assert table.label is not None
    assert table.label.tolist() == [0, 1, 1, 0]
    assert table.time is not None
    assert table.time.tolist() == [moment.replace(tzinfo=UTC).timestamp() for moment in SECONDS]


# Right tables.


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("comma", [False, True])
@pytest.mark.parametrize("above", [[STAGES], []])
def test_csv(tmp_path: Path, separator: str, comma: bool, above: list[list[str]]) -> None:
    text = lines_of([*above, HEAD, *ROWS], separator, comma)
    check_right(load(tmp_path, text))
    check_right(load(tmp_path / "gz", text.replace("\n", "\r\n"), "csv.gz"))


@pytest.mark.parametrize("above", [[STAGES], [], [[]], [[], STAGES]])
def test_xlsx(tmp_path: Path, above: list[list[str]]) -> None:
    check_right(load(tmp_path, xlsx([*above, HEAD, *ROWS]), "xlsx"))


def test_xlsx_with_texts_among_numbers_loses_no_digits(tmp_path: Path) -> None:
    rows = [
        [row[0], *(str(v).replace(".", ",") if (i + k) % 3 else v for k, v in enumerate(row[1:-1])), row[-1]] for i, row in enumerate(ROWS)
    ]
    check_right(load(tmp_path, xlsx([STAGES, HEAD, *rows]), "xlsx.gz"))
    tiny = [[row[0], "0,5" if i else 1.23456789e-8, *row[2:]] for i, row in enumerate(ROWS)]
    assert load(tmp_path / "tiny", xlsx([STAGES, HEAD, *tiny]), "xlsx").numbers[0, 0] == np.float32(1.23456789e-8)


def test_xlsx_whose_times_became_dates(tmp_path: Path) -> None:
    local = [[moment + timedelta(hours=8), *row[1:]] for moment, row in zip(SECONDS, ROWS, strict=True)]
    check_right(load(tmp_path, xlsx([STAGES, HEAD, *local]), "xlsx"))
    check_right(load(tmp_path / "some", xlsx([STAGES, HEAD, ROWS[0], local[1], *ROWS[2:]]), "xlsx"))


def test_the_physical_folder_and_both_versions(tmp_path: Path) -> None:
    put(tmp_path, {f"swat/Physical/{ATTACK}.xlsx": BOOK_BYTES, "swat/Physical/SWaT_Dataset_Normal_v0.xlsx": BOOK_BYTES})
    assert Swat.is_here(tmp_path)
    data: Dataset = Swat(version="v0", check=False).load(tmp_path)
    assert (data.name, data.ordered, list(data.tables)) == ("swat", True, ["train", "test"])
    same(data.tables["train"], data.tables["test"])
    with pytest.raises(DataMissing, match=r"Normal_v1\.xlsx"):
        Swat(check=False).load(tmp_path)


def test_units_only_where_the_prefix_tells_them(tmp_path: Path) -> None:
    units = {feature.name: feature.unit for feature in load(tmp_path, TEXT).features}
    assert {name: units[name] for name in ("FIT101", "LIT401", "DPIT301", "PIT503")} == {
        "FIT101": "m³/h",
        "LIT401": "mm",
        "DPIT301": "kPa",
        "PIT503": "kPa",
    }
    assert {unit for name, unit in units.items() if name[:2] in ("AI", "MV", "UV") or name[1:].isdigit()} == {""}


@pytest.mark.parametrize("moments", [TIMES, ["2015-12-28 09:59:59", "2015-12-28 10:00:00", "2015-12-28 12:00:01", "2016-01-02 13:41:09"]])
def test_files_as_gdn_makes_them(tmp_path: Path, moments: list[str]) -> None:
    head = ["", "Timestamp", *TAGS, "attack"]
    rows = [[i, moments[i].strip(), *VALUES[i], int(label != "Normal")] for i, label in enumerate(LABELS)]
    put(tmp_path, {"swat/swat_train.csv": lines_of([head, rows[0]]), "swat/swat_test.csv.gz": lines_of([head, *rows])})
    assert Swat.is_here(tmp_path)
    tables = Swat().load(tmp_path).tables
    assert len(tables["train"]) == 1
    check_right(tables["test"])


def test_every_hour_of_the_clock(tmp_path: Path) -> None:
    start = datetime(2015, 12, 31, 0, 30)
    moments = [start + timedelta(hours=i) for i in range(50)]
    texts = [f"{t.day}/{t.month}/{t.year} {t.hour % 12 or 12}:{t:%M:%S} {'AM' if t.hour < 12 else 'PM'}" for t in moments]
    table = load(tmp_path, lines_of([HEAD, *([text, *VALUES[0], "Normal"] for text in texts)]))
    assert table.time is not None
    assert table.time.tolist() == [t.replace(tzinfo=UTC).timestamp() - 8 * 3600 for t in moments]


def test_blocks_give_the_same_table_as_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = lines_of([STAGES, HEAD, *ROWS], ",", comma=True)
    for size in (1, 700):
        monkeypatch.setattr(lines, "BLOCK", size)
        check_right(load(tmp_path, text))
        with pytest.raises(DataBroken, match=r"v0.csv:4: column 'Timestamp': ' 27/12/2015 10:00:00 AM' goes back in time"):
            load(tmp_path, text.replace("28/12/2015 10", "27/12/2015 10"))


# Broken and missing files.


def test_published_counts_are_checked(tmp_path: Path) -> None:
    load(tmp_path, TEXT)
    with pytest.raises(
        DataBroken, match=r"Normal_v1.csv: 1 rows, 0 of them under attack, where 495,000 and 0 were published.*check = false"
    ):
        Swat().load(tmp_path)


@pytest.mark.parametrize("names", [("merged.csv",), ("normal.csv", "attack.csv")])
def test_the_kaggle_re_pack_is_refused_and_says_why(tmp_path: Path, names: tuple[str, ...]) -> None:
    put(tmp_path, {f"swat/{name}": TEXT for name in names})
    assert not Swat.is_here(tmp_path)
    with pytest.raises(DataMissing, match=r"Kaggle re-pack.*v0 and v1.*seven of the 51 tags empty.*itrust\.sutd\.edu\.sg"):
        Swat(check=False).load(tmp_path)


def test_missing_reader_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    with pytest.raises(MissingExtra, match=r"fastexcel: pip install 'vedette\[train\]'"):
        load(tmp_path, BOOK_BYTES, "xlsx")


EDITS = [
    ("Timestamp", "Time", "has a c", ":1"),
    ("LIT301", "LIT3O1", "an unknown column 'LIT3O1'; did you mean 'LIT301'?", ":2"),
    ("LIT301", "LIT401", "LIT401", ":2"),
    ("LIT301", "", "no column 'LIT301'; a file of SWaT has Timestamp, 51 tags and Normal/Attack", ":2"),
    ("A ttack", "Atack", "column 'Normal/Attack': 'Atack' is neither Normal nor Attack", ":5"),
    ("28/12/2015 10:00:00 AM", "28/12/2015 13:00:00 AM", "column 'Timestamp': ' 28/12/2015 13:00:00 AM' is no date and time", ":4"),
    ("28/12/2015 10:00:00 AM", "30/2/2016 10:00:00 AM", "is no date and time", ":4"),
    ("28/12/2015 10:00:00 AM", "27/12/2015 10:00:00 AM", "goes back in time", ":4"),
]


@pytest.mark.parametrize(("old", "new", "expected", "line"), EDITS)
@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_broken_tables_name_the_place(tmp_path: Path, ending: str, old: str, new: str, expected: str, line: str) -> None:
    rows = [[v.replace(old, new) if isinstance(v, str) else v for v in row] for row in [STAGES, HEAD, *ROWS]]
    with pytest.raises(DataBroken) as error:
        load(tmp_path, xlsx(rows) if ending == "xlsx" else lines_of(rows), ending)
    assert expected in message(error)
    assert f"{ATTACK}.{ending}{line}:" in message(error)


@pytest.mark.parametrize("value", ["", "x", "nan", "1,2,3", "1e39", "-inf"])
@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_broken_numbers_name_the_place(tmp_path: Path, ending: str, value: str) -> None:
    rows = [STAGES, HEAD, *([*row[:3], value, *row[4:]] if row is ROWS[2] else row for row in ROWS)]
    with pytest.raises(DataBroken, match=rf"v0\.{ending}:5: column 'MV101': .* is no finite number"):
        load(tmp_path, xlsx(rows) if ending == "xlsx" else lines_of(rows, ";"), ending)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "no whole xlsx file"),
        (TEXT.encode(), "no whole xlsx file"),
        (BOOK_BYTES[:-30], "no whole xlsx file"),
        (BOOK_BYTES[: len(BOOK_BYTES) // 2], "no whole xlsx file"),
        (BOOK_BYTES[:900] + bytes(9) + BOOK_BYTES[909:], "no whole xlsx file"),
        (BOOK_BYTES.replace(b"workbook.xml", b"workbook.bin"), "no xlsx workbook"),
        (xlsx([]), "none of the first five rows has a cell 'Timestamp'"),
        (xlsx([STAGES, HEAD]), "the sheet has a header but no rows"),
        (xlsx([HEAD]), "the sheet has a header but no rows"),
        (xlsx([HEAD, *ROWS], lambda sheet: sheet[: len(sheet) // 2]), "no xlsx workbook that can be read"),
        (xlsx([HEAD, *ROWS], lambda sheet: sheet.replace('r="A2"', 'r="XFD1048576"')), "a cell as far as 'r=\"XFD'…"),
        (xlsx([HEAD, *ROWS], lambda sheet: sheet.replace('r="A2"', "r = 'A4000000000'")), "a cell as far as "),
    ],
)
def test_broken_workbooks(tmp_path: Path, data: bytes, expected: str) -> None:
    with pytest.raises(DataBroken) as error:
        load(tmp_path, data, "xlsx")
    assert expected in message(error)
    assert f"{ATTACK}.xlsx" in message(error)


# Mutated files: the table an independent parse gives, or a VedetteError.


def number(text: str) -> float:
    return float(text.strip().replace(",", ".", 1))


def moment(text: str) -> float:
    text = text.strip()
    found = datetime.strptime(text, "%Y-%m-%d %H:%M:%S" if text[4:5] == "-" else "%d/%m/%Y %I:%M:%S %p")
    return found.replace(tzinfo=UTC).timestamp() - 8 * 3600


def agrees(table: Table, data: bytes) -> None:
    text = data.decode().removeprefix("\ufeff").split("\n")
    cells = [
        (i, mark) for i, line in enumerate(text) for mark in ",;" if "timestamp" in [c.strip(' "\r').lower() for c in line.split(mark)]
    ]
    head, *rows = rows_of("\n".join(text[cells[0][0] :]).encode(), cells[0][1], True)
    at = {name.strip().lower(): i for i, name in enumerate(head)}
    assert len(table) == len(rows)
    expected = np.array([[number(row[at[tag.lower()]]) for tag in TAGS] for row in rows])
    np.testing.assert_array_equal(table.numbers, expected.astype(np.float32))
    np.testing.assert_array_equal(table.time, [moment(row[at["timestamp"]]) for row in rows])
    flags = {"normal": 0, "attack": 1, "0": 0, "1": 1, "0.0": 0, "1.0": 1}
    label = at["normal/attack"] if "normal/attack" in at else at["attack"]
    np.testing.assert_array_equal(table.label, [flags["".join(row[label].split()).lower()] for row in rows])


@settings(mutated, max_examples=30)
@given(st.data())
def test_mutated_csv(draw: st.DataObject) -> None:
    separator, comma = draw.draw(st.sampled_from([(",", False), (";", True), (",", True)]))
    check_mutated(draw, lines_of([HEAD, *ROWS], separator, comma), separator.encode(), load, agrees)


@settings(mutated, max_examples=30)
@given(st.data())
def test_mutated_workbook(draw: st.DataObject) -> None:
    """Bytes of the archive or characters of the sheet are changed: the very table, or a `VedetteError`."""

    def change(sheet: str) -> str:
        at = draw.draw(st.integers(0, len(sheet) - 1))
        return (
            sheet[:at]
            + draw.draw(st.sampled_from(["", "<", ">", '"', "/", "&", "A", "r", "c", " "]))
            + sheet[at + draw.draw(st.integers(1, 4)) :]
        )

    inside = draw.draw(st.booleans())
    data = xlsx([STAGES, HEAD, *ROWS], change) if inside else bytearray(BOOK_BYTES)
    if not inside:
        for _ in range(draw.draw(st.integers(1, 3))):
            data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        try:
            table = load(Path(folder), bytes(data), "xlsx")
        except VedetteError as error:
            said = str(error)
        else:
            said = ""
    assert "\n" not in said
    if said:
        return
    if not inside:
        check_right(table)
    assert table.numbers.shape == (4, 51)
    assert np.isfinite(table.numbers).all()
