"""Loaders: right tables from official files, one clear error from broken ones, never a wrong table."""

from __future__ import annotations

import gzip
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.official_files import check_mutated, message, mutated, rows_of, same
from samples import OWN, SENSORS, SKAB_HEADER, kdd_lines, put, skab_lines
from vedette.data.dataset import Dataset
from vedette.data.datasets import LOADERS, lines, pieces
from vedette.data.datasets.kdd99 import FEATURES, Kdd99
from vedette.data.datasets.nsl_kdd import NslKdd
from vedette.data.datasets.pieces import MISSING
from vedette.data.datasets.skab import FREE, Skab
from vedette.data.datasets.table import TableFiles
from vedette.data.table import Table
from vedette.errors import DataBroken, DataMissing, MissingExtra, RecipeError, UnknownName, VedetteError
from vedette.settings import build, describe


def kdd99(folder: Path, train: str | bytes, name: str = "kddcup.data_10_percent") -> Dataset:
    return Kdd99(check=False).load(put(folder, {f"kdd99/{name}": train, "kdd99/corrected.gz": kdd_lines()}))


def nsl_kdd(folder: Path, train: str | bytes) -> Dataset:
    return NslKdd(check=False).load(put(folder, {"nsl-kdd/KDDTrain+.txt": train, "nsl-kdd/KDDTest+.txt": kdd_lines("", ",21")}))


def skab(folder: Path, text: str | bytes) -> Dataset:
    put(folder, {"skab/valve1/0.csv": text, f"skab/{FREE}/{FREE}.csv.gz": skab_lines(False, "\r\n")})
    return Skab(check=False, folders=("valve1",)).load(folder)


def own(folder: Path, text: str | bytes, **changes: Any) -> Dataset:
    values = {"files": ["*.csv"], "node": "device", "time": "time", "label": "label", "categories": ["port"]} | changes
    return TableFiles(**values).load(put(folder, {"own.csv": text}))


# What the loaders say.


def test_an_unknown_data_set_is_answered_with_the_nearest() -> None:
    assert len(Skab.official_files) == 35
    with pytest.raises(UnknownName, match="did you mean 'kdd99'"):
        build(LOADERS, "kdd9", "[data]")


def test_settings_survive_a_round_trip() -> None:
    for said in (
        {"name": "table", "files": ["a.csv"], "normal": "ok"},
        {"name": "skab", "folders": ["other"]},
        {"name": "kdd99", "full": True},
    ):
        part = build(LOADERS, said, "[data]")
        assert build(LOADERS, describe(LOADERS, part), "[data]") == part
        assert {key: describe(LOADERS, part)[key] for key in said} == said


def test_importing_vedette_does_not_import_polars() -> None:
    modules = "vedette, vedette.data.datasets, vedette.data.datasets.kdd99, vedette.data.datasets.skab, vedette.data.datasets.table"
    subprocess.run([sys.executable, "-c", f"import sys, {modules}; assert 'polars' not in sys.modules"], check=True)


def test_missing_polars_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    names = [*Kdd99.official_files, *NslKdd.official_files, *Skab.official_files, "a.csv"]
    put(tmp_path, dict.fromkeys(names, "a,b\n1,2\n"))
    for loader in (Kdd99(), NslKdd(), Skab(), TableFiles(files=("a.csv",))):
        with pytest.raises(MissingExtra, match=r"pip install 'vedette\[train\]'"):
            loader.load(tmp_path)


# Right tables.


@pytest.mark.parametrize("place", ["kdd99/kddcup.data_10_percent", "kdd99/kddcup.data_10_percent.gz", "kddcup.data_10_percent"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_kdd99(tmp_path: Path, place: str, end: str) -> None:
    put(tmp_path, {place: kdd_lines().replace("\n", end), "kdd99/corrected.gz": kdd_lines().splitlines()[0]})
    data = Kdd99(check=False).load(tmp_path)
    train = data.tables["train"]
    assert (data.name, data.ordered, len(train), len(data.tables["test"])) == ("kdd99", False, 3, 1)
    assert train.numbers.dtype == np.float32
    assert train.numbers[:, :3].tolist() == [[0, 0, 1], [2, 0, 1], [9.5, 0, 1]]
    assert train.column("service").texts() == ["http", "domain_u", "eco_i"]
    assert train.label is not None
    assert train.label.tolist() == [0, 0, 1]
    assert train.column("kind").texts() == ["normal", "normal", "back"]
    assert [feature.name for feature in train.category_features] == ["protocol_type", "service", "flag"]


def test_kdd99_full_reads_the_whole_file(tmp_path: Path) -> None:
    put(tmp_path, {"kdd99/kddcup.data.gz": kdd_lines() * 2, "kdd99/corrected": kdd_lines()})
    assert len(Kdd99(check=False, full=True).load(tmp_path).tables["train"]) == 6
    with pytest.raises(DataMissing, match=r"kddcup\.data_10_percent"):
        Kdd99(check=False).load(tmp_path)


def test_the_data_sets_own_folder_is_a_root_too(tmp_path: Path) -> None:
    kdd99(tmp_path, kdd_lines())
    assert len(Kdd99(check=False).load(tmp_path / "kdd99").tables["train"]) == 3


def test_a_data_set_is_here_when_it_could_be_loaded(tmp_path: Path) -> None:
    assert not Kdd99.is_here(tmp_path / "nowhere")
    put(tmp_path, {"kdd99/kddcup.data_10_percent.gz": kdd_lines()})
    assert not Kdd99.is_here(tmp_path)
    put(tmp_path, {"corrected": kdd_lines()})
    assert Kdd99.is_here(tmp_path)
    assert len(Kdd99(check=False).load(tmp_path).tables) == 2


def test_difficulty_of_nsl_kdd_is_no_feature(tmp_path: Path) -> None:
    train = nsl_kdd(tmp_path, kdd_lines("", ",15")).tables["train"]
    assert train.features == FEATURES
    assert train.numbers.shape == (3, 38)
    assert train.column("kind").levels == ("back", "normal")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_skab(tmp_path: Path, end: str) -> None:
    data = skab(tmp_path, skab_lines(end=end))
    table, free = data.tables["all"], data.tables[FREE]
    assert data.ordered
    assert [feature.name for feature in table.features] == SENSORS.split(";")
    assert table.label is not None
    assert free.label is not None
    assert table.label.tolist() == [0, 0, 1, 0]
    assert free.label.tolist() == [0, 0, 0, 0]
    assert table.change is not None
    assert free.change is not None
    assert table.change.tolist() == [0, 1, 0, 0]
    assert free.change.tolist() == [0, 0, 0, 0]
    assert table.column("group").texts() == ["valve1/0"] * 4
    assert table.time is not None
    assert table.time[0] == datetime(2020, 3, 9, 10, 14, 30, tzinfo=UTC).timestamp()
    assert np.diff(table.time).tolist() == [1, 1, 1]
    assert table.numbers[1].tolist() == [k + 1 / 8 for k in range(8)]


def test_blocks_give_the_same_table_as_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_kdd, whole_own = kdd99(tmp_path / "a", kdd_lines() * 5).tables["train"], own(tmp_path / "b", OWN).tables["all"]
    for size in (1, 70, 333):
        monkeypatch.setattr(lines, "BLOCK", size)
        same(kdd99(tmp_path / "a", kdd_lines() * 5).tables["train"], whole_kdd)
        same(own(tmp_path / "b", OWN + "\n\r\n").tables["all"], whole_own)
        with pytest.raises(DataBroken, match=r"kddcup.data_10_percent:14: 43 columns where 42 belong"):
            kdd99(tmp_path / "a", kdd_lines() * 4 + kdd_lines().replace("icmp", "icmp,1").replace("udp", "udp,1"))


def test_own_table_is_grouped_and_in_time_order(tmp_path: Path) -> None:
    data = own(tmp_path, OWN, units={"flow": "l/s"})
    table = data.tables["all"]
    assert data.ordered
    assert [(f.name, f.kind, f.unit) for f in table.features] == [
        ("flow", "number", "l/s"),
        ("state", "category", ""),
        ("port", "category", ""),
    ]
    assert table.column("group").texts() == ["a", "a", "b", "b"]
    start = datetime(2024, 5, 1, tzinfo=UTC).timestamp()
    assert table.time is not None
    assert (table.time - start).tolist() == [0, 1, 0.5, 2]
    assert table.numbers.dtype == np.float64
    np.testing.assert_array_equal(table.numbers[:, 0], [np.nan, np.nan, -2000, 1.5])
    assert table.column("state").texts() == ["off", "off", "on", 'on, "hot"']
    assert table.column("port").texts() == ["22", "443", "80", "80"]
    assert table.label is not None
    assert table.label.tolist() == [0, 1, 0, 0]
    assert table.column("kind").texts() == ["0.0", "leak", "0", "0"]


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_parquet_gives_the_same_table_as_csv(tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "ROWS", rows)
    flow, state = [1.5, None, float("nan"), 4], ["on", "off", None, "on"]
    when = [datetime(2024, 5, 1, second=i) for i in range(4)]
    frame = pl.DataFrame({"when": when, "flow": flow, "state": state, "pump": [True, False, None, True], "label": [0, 1, 0, 0]})
    frame.write_parquet(tmp_path / "own.parquet")
    frame.write_csv(tmp_path / "own.csv", null_value="")
    (tmp_path / "own.csv").write_text((tmp_path / "own.csv").read_text().replace("true", "1").replace("false", "0"))
    loaded = [TableFiles(files=(name,), time="when", label="label").load(tmp_path).tables["all"] for name in ("own.parquet", "own.csv")]
    same(*loaded)
    assert loaded[0].column("state").texts() == ["on", "off", "", "on"]
    np.testing.assert_array_equal(loaded[0].numbers[:, 1], [1, 0, np.nan, 1])


def test_missing_categories_stay_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK", 1)
    put(tmp_path, {"a.csv": "x,y,z\n1,NA,\n2,,NA\n3,on,\n4,NA,7\n"})
    table = TableFiles(files=("a.csv",)).load(tmp_path).tables["all"]
    assert table.column("y").texts() == ["NA", "", "on", "NA"]
    np.testing.assert_array_equal(table.numbers, [[1, np.nan], [2, np.nan], [3, np.nan], [4, 7]])


def test_rows_of_devices_that_take_turns_in_a_file_stood_next_to_each_other(tmp_path: Path) -> None:
    put(tmp_path, {"a.csv": "when,who,x\n" + "".join(f"{i},{'ab'[i % 2]},{i}\n" for i in range(6))})
    table = TableFiles(files=("a.csv",), node="who", time="when").load(tmp_path).tables["all"]
    assert table.numbers[:, 0].tolist() == [0, 2, 4, 1, 3, 5]
    assert table.place is None


def test_a_number_with_spaces_is_one_in_later_blocks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second block on, columns of numbers are parsed as such."""
    monkeypatch.setattr(lines, "BLOCK", 1)
    put(tmp_path, {"a.csv": "when,x\n1,1\n2 , 2\n3,NA\n4,nan\n5,\n 6,-.5\n7,1e3\n"})
    table = TableFiles(files=("a.csv",), time="when").load(tmp_path).tables["all"]
    np.testing.assert_array_equal(table.numbers[:, 0], [1, 2, np.nan, np.nan, np.nan, -0.5, 1000])
    assert table.time is not None
    assert table.time.tolist() == [1, 2, 3, 4, 5, 6, 7]
    for text, said in (("inf", "'inf' is no finite number"), ("1,5", "3 columns where 2"), ("x", "'x' is no number, but other rows hold")):
        put(tmp_path, {"a.csv": f"when,x\n1,1\n2,2\n3,{text}\n4,4\n"})
        with pytest.raises(DataBroken, match=rf"a\.csv:4: .*{said}"):
            TableFiles(files=("a.csv",), time="when").load(tmp_path)


def test_each_file_can_be_a_node_and_some_can_be_the_test(tmp_path: Path) -> None:
    put(tmp_path, {"plant/a.csv": "x;y\n1;\n2;\n", "plant/deep/b.csv.gz": "y;x\nhi;3\n", "last.csv": "x;y\n4;ho\n"})
    data = TableFiles(files=("plant/**/*.csv*", "last.csv"), test_files=("last.csv",), node="file", separator=";").load(tmp_path)
    train, test = data.tables["train"], data.tables["test"]
    assert train.features == test.features
    assert train.column("group").texts() == ["plant/a", "plant/a", "plant/deep/b"]
    assert train.column("y").texts() == ["", "", "hi"]
    assert train.numbers.tolist() == [[1], [2], [3]]
    assert test.column("group").texts() == ["last"]
    assert not data.ordered
    assert TableFiles(files=(str(tmp_path / "la*.csv"),), separator=";").load(None).tables["all"].numbers.tolist() == [[4]]


# Broken and missing files: one line that says what, where, what to do.


def test_published_counts_are_checked(tmp_path: Path) -> None:
    kdd99(tmp_path, kdd_lines())
    with pytest.raises(DataBroken, match=r"10_percent: 3 rows, 2 of them normal, where 494,021 and 97,278 were published.*check = false"):
        Kdd99().load(tmp_path)
    rows = {f"skab/valve2/{i}.csv": skab_lines() for i in range(4)} | {"skab/anomaly-free/anomaly-free.csv": skab_lines(labelled=False)}
    with pytest.raises(DataBroken, match=r"0.csv: 4 rows where the published file has 1,125"):
        Skab(folders=("valve2",)).load(put(tmp_path, rows))
    with pytest.raises(DataMissing, match=r"other.14.csv"):
        Skab(folders=("other",)).load(put(tmp_path, {f"skab/other/{i}.csv": big(i) for i in range(1, 14)}))


def big(i: int) -> str:
    rows = (745, 780, 1137, 1191, 1155, 1147, 1090, 1147, 1144, 1327, 1190, 1048, 923, 905)[i - 1]
    return skab_lines().splitlines()[0] + f"\n2020-03-09 10:14:30{';1' * 8};0;0" * rows


FIRST = kdd_lines().splitlines()[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "10_percent: the file is empty"),
        ("\n\r\n", "10_percent: the file is empty"),
        (f"{FIRST}\n{FIRST.replace(',tcp', '')}\n", "10_percent:2: 41 columns where 42 belong"),
        (f"{FIRST}\n\n{FIRST}\n", "10_percent:2: an empty line"),
        (f"{FIRST}\n0,{FIRST}\n{FIRST[2:]}\n{FIRST}\n", "10_percent:2: 43 columns where 42 belong"),
        (f"{FIRST}\n{FIRST.replace(',', ';')}\n", "10_percent:2: 1 columns where 42 belong (separated by ',')"),
        (f"{FIRST}\n{FIRST.replace('0,tcp', 'tcp,0')}\n", "10_percent:2: column 'duration': 'tcp' is no finite number"),
        (
            f"{FIRST}\n{FIRST.replace(',36', ',3')}\n{FIRST.replace(',0.36,', ',,')}",
            ":3: column 'dst_host_srv_rerror_rate': '' is no finite number",
        ),
        (f"{FIRST}\nnan{FIRST[1:]}\n", "10_percent:2: column 'duration': 'nan' is no finite number"),
        (f"{FIRST}\ninf{FIRST[1:]}\n", "10_percent:2: column 'duration': 'inf' is no finite number"),
        (f"{FIRST}\n{FIRST.replace('http', 'h' * 5000)}\n", "10_percent:2: column 'service': '" + "h" * 40 + "'… (5,000 characters)"),
        (
            f"{FIRST}\n{FIRST.replace('http', 'h' * 70_000)}\n",
            "10_percent:2: column 'service': '" + "h" * 40 + "'… (70,000 characters) is too long",
        ),
        (f"{FIRST}\n{FIRST.replace('http', '')}\n", "10_percent:2: column 'service': ''"),
        (f"{FIRST}\n{FIRST[:-1]}\n", "10_percent:2: column 'label': 'normal'"),
        (f"{FIRST}\n{FIRST}".encode() + b"\xff\n", "10_percent:2: bytes that are no UTF-8"),
        (f"{FIRST}\r{FIRST}\n", "10_percent:1: a carriage return inside a line"),
        (f"{FIRST}\n{'x' * 2_000_000}", "10_percent:2: a line longer than 1,048,576 bytes"),
    ],
)
def test_broken_kdd99_names_the_place(tmp_path: Path, text: str | bytes, expected: str) -> None:
    with pytest.raises(DataBroken) as error:
        kdd99(tmp_path, text)
    assert expected in message(error)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("Current", "Curent", "0.csv:1: column 'Curent' where 'Current' belongs; did you mean 'Current'?"),
        (";changepoint", "", "0.csv:1: a header of 10 columns where 11 belong"),
        (";", ",", "0.csv:1: a header of 1 columns where 11 belong"),
        ("10:14:31", "10:14", "0.csv:3: column 'datetime': '2020-03-09 10:14' is no date and time"),
        ("10:14:31", "10:14:61", "0.csv:3: column 'datetime': '2020-03-09 10:14:61' is no date"),
        ("03-09 10:14:31", "02-30 10:14:31", "is no date"),
        ("10:14:32", "10:14:12", "0.csv:4: column 'datetime' goes back in time"),
        ("1.0;0.0\n", "2.0;0.0\n", "0.csv:4: column 'anomaly': '2.0' is neither 0 nor 1"),
        ("1.0;0.0\n", ";0.0\n", "0.csv:4: column 'anomaly': '' is neither 0 nor 1"),
    ],
)
def test_broken_skab_names_the_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    with pytest.raises(DataBroken) as error:
        skab(tmp_path, skab_lines().replace(old, new))
    assert expected in message(error)


def test_header_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataBroken, match="a header but no rows"):
        skab(tmp_path, SKAB_HEADER + "\n")
    with pytest.raises(DataBroken, match=r"own.csv:1: the file is empty"):
        own(tmp_path, "")


def test_broken_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(kdd_lines().encode() * 100)
    middle = len(whole) // 2
    for data in (whole[:-9], whole[:middle], whole[:middle] + bytes(20) + whole[middle + 20 :], kdd_lines().encode()):
        kdd99(tmp_path, kdd_lines())
        (tmp_path / "kdd99/corrected.gz").write_bytes(data)
        with pytest.raises(DataBroken, match=r"corrected.gz: no whole gzip file"):
            Kdd99(check=False).load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "kind", "expected"),
    [
        ("flow", "label", DataBroken, "own.csv:1: two columns are called 'label'"),
        ("flow", "f" * 300, DataBroken, "own.csv:1: 'ffff"),
        ("flow", "f" * 70_000, DataBroken, "own.csv:1: column 'header': '" + "f" * 40 + "'… (70,000 characters) is too long"),
        ("flow", "fl\x1bow", DataBroken, "own.csv:1: 'fl\\x1bow' is no name for column 3"),
        ("time,", ",", DataBroken, "own.csv:1: column 1 has no name"),
        ("device", "devise", UnknownName, "no column 'device' (named in 'node'); did you mean 'devise'?"),
        ("-2e3", "low", DataBroken, "own.csv:4: column 'flow': 'low' is no number, but other rows hold numbers"),
        ("-2e3", "inf", DataBroken, "own.csv:4: column 'flow': 'inf' is no finite number"),
        (",off,", ",7,", DataBroken, "own.csv:3: column 'state': '7' is a number, but other rows hold text"),
        (",leak", ",", DataBroken, "own.csv:3: column 'label': '' is no label"),
        ("Z,a", "Z, ", DataBroken, "own.csv:3: column 'device': ' ' is no device"),
        ("00:00:01Z", "00:00:0Z", DataBroken, "own.csv:3: column 'time': '2024-05-01T00:00:0Z' is no time"),
        ("00:02Z", "00:02Z,1", DataBroken, "own.csv:2: 7 columns where 6 belong"),
        (',"off"', ',"off" ', DataBroken, 'own.csv:5: a quote (") inside a field'),
        (',"off"', ',"off', DataBroken, 'own.csv:5: a quote (") that is never closed'),
    ],
)
def test_broken_own_table_names_the_place(tmp_path: Path, old: str, new: str, kind: type[VedetteError], expected: str) -> None:
    with pytest.raises(kind) as error:
        own(tmp_path, OWN.replace(old, new, 1))
    assert expected in message(error)


def test_files_with_different_columns(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "a.csv": "flow,heat\n1,2\n",
            "b.csv": "flow,heet\n1,2\n",
            "c.csv": "flow\n1\n",
            "d.csv": "heat,x,flow\n1,2,3\n",
            "e.csv": "1,2\n3,4\n",
        },
    )
    for name, expected in {
        "b": "no column 'heat'.*did you mean 'heet'",
        "c": "no column 'heat'",
        "d": "column 'x', which the other",
    }.items():
        with pytest.raises(DataBroken, match=rf"{name}.csv: {expected}"):
            TableFiles(files=("a.csv", f"{name}.csv")).load(tmp_path)
    with pytest.raises(DataBroken, match="first line holds numbers"):
        TableFiles(files=("e.csv",)).load(tmp_path)


def test_a_normal_that_never_occurs(tmp_path: Path) -> None:
    with pytest.raises(DataBroken, match=r"column 'label' never says 'benign' but '0', '0.0', 'leak'"):
        own(tmp_path, OWN, normal="benign")


def test_impossible_settings() -> None:
    for wrong in ({"separator": "ab"}, {"separator": '"'}, {"files": []}, {"node": "x", "time": "x"}, {"label": "x", "features": ["x"]}):
        with pytest.raises(RecipeError):
            build(LOADERS, {"name": "table", "files": ["a.csv"]} | wrong, "[data]")
    with pytest.raises(RecipeError):
        build(LOADERS, {"name": "skab", "folders": ["other", "other"]}, "[data]")


def test_parquet_that_is_none_or_holds_something_else(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1.0, 2.0], "b": [[1], [2]]})
    frame.write_parquet(tmp_path / "own.parquet")
    load = TableFiles(files=("own.parquet",)).load
    with pytest.raises(DataBroken, match=r"own.parquet: column 'b' holds List"):
        load(tmp_path)
    assert len(TableFiles(files=("own.parquet",), drop=("b",)).load(tmp_path).tables["all"]) == 2
    data = (tmp_path / "own.parquet").read_bytes()
    for broken in (b"", b"a,b\n1,2\n", data[:50], data[:-30], data[:20] + bytes(40) + data[60:]):
        (tmp_path / "own.parquet").write_bytes(broken)
        with pytest.raises(DataBroken, match=r"own.parquet: "):
            load(tmp_path)


# Mutated files: the table an independent parse gives, or a VedetteError.


def agrees_with_kdd(table: Table, data: bytes, width: int) -> None:
    rows = rows_of(data, ",", False)
    assert len(rows[0]) == width
    assert len(table) == len(rows)
    symbolic = (1, 2, 3)
    numbers = np.array([[float(row[i]) for i in range(41) if i not in symbolic] for row in rows])
    np.testing.assert_array_equal(table.numbers, numbers.astype(np.float32))
    for i in symbolic:
        assert table.column(FEATURES[i].name).texts() == [row[i] for row in rows]
    kinds = [row[41] if width == 43 else row[41][: row[41].index(".")] for row in rows]
    assert table.column("kind").texts() == kinds
    assert table.label is not None
    assert table.label.tolist() == [int(kind != "normal") for kind in kinds]


def agrees_with_skab(table: Table, data: bytes) -> None:
    head, *rows = rows_of(data, ";", False)
    assert ";".join(head) == SKAB_HEADER
    np.testing.assert_array_equal(table.numbers, np.array([[float(text) for text in row[1:9]] for row in rows]).astype(np.float32))
    times = [datetime.strptime(row[0], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp() for row in rows]
    np.testing.assert_array_equal(table.time, times)
    np.testing.assert_array_equal(table.label, [float(row[9]) for row in rows])
    np.testing.assert_array_equal(table.change, [float(row[10]) for row in rows])
    assert all(earlier <= later for earlier, later in pairwise(times))


def moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def agrees_with_own(table: Table, data: bytes) -> None:
    head, *rows = rows_of(data, ",", True)
    at = {name: i for i, name in enumerate(head)}
    moments = [moment(row[at["time"]].strip()) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (rows[i][at["device"]].strip(), moments[i]))
    rows = [rows[i] for i in order]
    np.testing.assert_array_equal(table.time, [moments[i] for i in order])
    assert table.column("group").texts() == [row[at["device"]].strip() for row in rows]
    kinds = [row[at["label"]].strip() for row in rows]
    assert table.column("kind").texts() == kinds
    assert {feature.name for feature in table.features} == set(head) - {"time", "device", "label"}
    for i, feature in enumerate(table.number_features):
        expected = [np.nan if (text := row[at[feature.name]].strip()).lower() in MISSING else float(text) for row in rows]
        np.testing.assert_array_equal(table.numbers[:, i], expected)
    for feature in table.category_features:
        assert table.column(feature.name).texts() == [row[at[feature.name]] for row in rows]


@mutated
@given(st.data())
def test_mutated_kdd99(draw: st.DataObject) -> None:
    check_mutated(draw, kdd_lines(), b",", lambda path, data: kdd99(path, data).tables["train"], lambda t, d: agrees_with_kdd(t, d, 42))


@mutated
@given(st.data())
def test_mutated_nsl_kdd(draw: st.DataObject) -> None:
    load = lambda path, data: nsl_kdd(path, data).tables["train"]  # noqa: E731
    check_mutated(draw, kdd_lines("", ",20"), b",", load, lambda t, d: agrees_with_kdd(t, d, 43))


@mutated
@given(st.data())
def test_mutated_skab(draw: st.DataObject) -> None:
    check_mutated(draw, skab_lines(end="\r\n"), b";", lambda path, data: skab(path, data).tables["all"], agrees_with_skab)


@mutated
@given(st.data())
def test_mutated_own_table(draw: st.DataObject) -> None:
    check_mutated(draw, OWN, b",", lambda path, data: own(path, data).tables["all"], agrees_with_own)


# The real files, read where they lie.


def test_real_rows_are_those_of_the_csv_module(data_root: Path) -> None:
    with gzip.open(data_root / "nsl-kdd/KDDTest+.txt.gz") as file:
        agrees_with_kdd(NslKdd().load(data_root).tables["test"], file.read(), 43)
