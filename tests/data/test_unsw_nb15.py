"""UNSW-NB15: partitions told apart by their length, whatever they are called."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.official_files import MILD, MUTATIONS, check_mutated, message, mutated, rows_of
from samples import put
from vedette.data.dataset import Dataset
from vedette.data.datasets import unsw_nb15
from vedette.data.datasets.unsw_nb15 import UnswNb15
from vedette.data.table import Table
from vedette.errors import DataBroken, DataMissing

HEADER = f"id,{','.join(unsw_nb15.NAMES.split())},attack_cat,label"
TRAIN, TEST = UnswNb15.official_files
KINDS = ("Normal", "Exploits", "Worms")
SYMBOLIC = (2, 3, 4)


def flows(rows: int = 3, end: str = "\r\n") -> str:
    lines = []
    for i in range(rows):
        values = [str(i + 1), f"{i / 8}", ("udp", "a/n", "tp++")[i % 3], ("-", "dns", "ftp-data")[i % 3], ("INT", "FIN", "CON")[i % 3]]
        values += [f"{i * 39 + k / 4:g}" for k in range(38)]
        lines.append(",".join([*values, KINDS[i % 3], str(int(i % 3 > 0))]))
    return "\ufeff" + end.join([HEADER, *lines, ""])


def load(folder: Path, text: str | bytes, name: str = TEST) -> Dataset:
    return UnswNb15(check=False).load(put(folder, {f"unsw-nb15/{name}": text}))


def agrees(table: Table, data: bytes) -> None:
    head, *rows = rows_of(data, ",", False)
    assert [name.strip('"') for name in head] == HEADER.split(",")
    at = [i for i in range(1, 43) if i not in SYMBOLIC]
    np.testing.assert_array_equal(table.numbers, np.array([[float(row[i]) for i in at] for row in rows]).astype(np.float32))
    for column, i in zip(table.categories, SYMBOLIC, strict=True):
        assert column.texts() == [row[i] for row in rows]
    assert table.column("kind").texts() == [row[43] for row in rows]
    assert table.label is not None
    assert table.label.tolist() == [float(row[44]) for row in rows] == [row[43] != "Normal" for row in rows]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("place", [f"unsw-nb15/{TRAIN}", f"unsw-nb15/{TEST}.gz", TEST])
def test_one_partition_alone_is_all(tmp_path: Path, place: str, end: str) -> None:
    put(tmp_path, {place: flows(end=end)})
    assert UnswNb15.is_here(tmp_path)
    data = UnswNb15(check=False).load(tmp_path)
    assert (list(data.tables), data.ordered) == (["all"], False)
    agrees(data.tables["all"], flows(end=end).encode())
    assert "id" not in [feature.name for feature in data.tables["all"].features]


@pytest.mark.parametrize("names", [(TRAIN, TEST), (TEST, TRAIN)])
def test_the_larger_file_is_the_training_set(tmp_path: Path, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {names[0]: flows(7), f"{names[1]}.gz": flows(4)})
    monkeypatch.setattr(unsw_nb15, "PUBLISHED", {7: 3, 4: 2})
    tables = UnswNb15().load(tmp_path).tables
    assert [(part, len(table)) for part, table in tables.items()] == [("train", 7), ("test", 4)]


def test_published_counts_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {TEST: flows()})
    with pytest.raises(
        DataBroken, match=r"3 rows, 1 of them normal, where 175,341 and 56,000 or 82,332 and 37,000 were published.*check = false"
    ):
        UnswNb15().load(tmp_path)
    monkeypatch.setattr(unsw_nb15, "PUBLISHED", {3: 1, 4: 2})
    put(tmp_path, {TRAIN: flows()})
    with pytest.raises(DataBroken, match=r"testing-set.csv: the same partition as '.*training-set.csv'"):
        UnswNb15().load(tmp_path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert not UnswNb15.is_here(tmp_path)
    with pytest.raises(DataMissing, match=r"training-set.csv.*or one of them"):
        UnswNb15().load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("id,dur", "id,duration", "-set.csv:1: column 'duration' where 'dur' belongs; did you mean 'dur'?"),
        ("\ufeffid,", "", "-set.csv:1: a header of 44 columns where 45 belong"),
        (",Exploits,1", ",Exploits,0", "-set.csv:3: attack_cat 'Exploits' and label 0 contradict each other"),
        (",Normal,0", ",Normal,1", "-set.csv:2: attack_cat 'Normal' and label 1 contradict each other"),
        (",Worms,1", ",Wurms,1", "-set.csv:4: column 'attack_cat': 'Wurms' does not look like"),
        (",Worms,1", ",Worms,2", "-set.csv:4: column 'label': '2' is neither 0 nor 1"),
        ("0.125,a/n", "0.125s,a/n", "-set.csv:3: column 'dur': '0.125s' is no finite number"),
        ("a/n", "a n", "-set.csv:3: column 'proto': 'a n' does not look like"),
        ("2,0.125", "2,0.125,0.125", "-set.csv:3: 46 columns where 45 belong"),
    ],
)
def test_broken_files_name_the_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = flows()
    assert text.count(old) == 1
    with pytest.raises(DataBroken) as error:
        load(tmp_path, text.replace(old, new))
    assert expected in message(error)


@settings(mutated, max_examples=30)
@given(st.data(), st.sampled_from([MILD, MUTATIONS]))
def test_mutated(draw: st.DataObject, mutations: Any) -> None:
    check_mutated(draw, flows(), b",", lambda path, data: load(path, data).tables["all"], agrees, mutations)


def test_the_real_partition(data_root: Path) -> None:
    table = UnswNb15().load(data_root).tables["all"]
    assert table.numbers.shape == (82_332, 39)
    assert [len(column.levels) for column in table.categories] == [131, 13, 7]
    kind = table.column("kind")
    assert dict(zip(kind.levels, np.bincount(kind.codes).tolist(), strict=True)) == {
        "Normal": 37_000,
        "Generic": 18_871,
        "Exploits": 11_132,
        "Fuzzers": 6_062,
        "DoS": 4_089,
        "Reconnaissance": 3_496,
        "Analysis": 677,
        "Backdoor": 583,
        "Shellcode": 378,
        "Worms": 44,
    }
    with gzip.open(data_root / f"unsw-nb15/{TEST}.gz") as file:
        start = file.read(600_000)
    lines = start[: start.rindex(b"\n")]
    agrees(table.take(slice(0, len(list(csv.reader(io.StringIO(lines.decode())))) - 1)), lines)
