"""Kitsune: data without a header, labels in a file of their own."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.official_files import MILD, MUTATIONS, check_mutated, message, mutated, rows_of
from samples import put
from vedette.data.datasets import kitsune
from vedette.data.datasets.kitsune import Kitsune
from vedette.data.datasets.nbaiot import NAMES, TIME_LEAK
from vedette.data.table import Table
from vedette.errors import DataBroken, DataMissing

DATA, LABELS = Kitsune.official_files
KEPT = [i for i, name in enumerate(NAMES) if name not in TIME_LEAK]


def packets(rows: int = 4) -> str:
    return "".join(",".join([str(row), *(f"{row + i / 128:.18e}" for i in range(115))]) + "\n" for row in range(rows))


def load(folder: Path, data: str | bytes, labels: str | bytes = "0\n0\n0\n1\n", check: bool = False, keep: bool = False) -> Table:
    put(folder, {f"kitsune/{DATA}": data, f"kitsune/{LABELS}.gz": labels})
    return Kitsune(check=check, keep_time_leak=keep).load(folder).tables["all"]


def agrees(table: Table, data: bytes) -> None:
    rows = rows_of(data, ",", False)
    assert (len(rows), len(rows[0])) == (len(table), 116)
    # Rounding a text to float64 first, as this does, may miss the nearest float32 by one.
    np.testing.assert_array_max_ulp(table.numbers, np.array([[float(row[1 + i]) for i in KEPT] for row in rows]).astype(np.float32))


def test_rows_and_labels_belong_together(tmp_path: Path) -> None:
    table = load(tmp_path, packets())
    agrees(table, packets().encode())
    assert tuple(feature.name for feature in table.features) == tuple(NAMES[i] for i in KEPT)
    assert table.label is not None
    assert table.label.tolist() == [0, 0, 0, 1]
    assert table.column("kind").texts() == ["benign", "benign", "benign", "mirai"]
    assert load(tmp_path, packets(), keep=True).numbers.shape == (4, 115)
    assert Kitsune.is_here(tmp_path / "kitsune")
    assert not Kitsune.is_here(tmp_path / "kitsune/Mirai")


def test_published_counts_are_checked_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataBroken, match=r"4 rows, 3 of them benign, where 764,137 and 121,621 were published, benign first.*check = false"
    ):
        load(tmp_path, packets(), check=True)
    monkeypatch.setattr(kitsune, "ROWS", 4)
    monkeypatch.setattr(kitsune, "BENIGN", 3)
    assert len(load(tmp_path, packets(), check=True)) == 4
    with pytest.raises(DataBroken, match="benign first"):
        load(tmp_path, packets(), "0\n0\n1\n0\n", check=True)


@pytest.mark.parametrize(
    ("data", "labels", "expected"),
    [
        (packets(), "0\n0\n0\n", "Mirai_labels.csv.gz: 3 labels for the 4 rows of '"),
        (packets(), "0\n0\nx\n1\n", "Mirai_labels.csv.gz:3: column 'label': 'x' is neither 0 nor 1"),
        (packets(), ",x\n0,0\n1,0\n", "Mirai_labels.csv.gz:1: 2 columns where 1 belong"),
        (packets().replace("\n1,", "\n"), "0\n0\n0\n1\n", "Mirai_dataset.csv:2: 115 columns where 116 belong"),
        (packets().replace("\n1,1.0", "\n1,z.0"), "0\n0\n0\n1\n", "Mirai_dataset.csv:2: column 'MI_dir_L5_weight': 'z.0000"),
        (f"row,{','.join(NAMES)}\n{packets()}", "0\n0\n0\n1\n", "Mirai_dataset.csv:1: column 'MI_dir_L5_weight': 'MI_dir_L5_weight' is no"),
    ],
)
def test_broken_files_name_the_place(tmp_path: Path, data: str, labels: str, expected: str) -> None:
    with pytest.raises(DataBroken) as error:
        load(tmp_path, data, labels)
    assert expected in message(error)


def test_missing_labels_are_one_line(tmp_path: Path) -> None:
    put(tmp_path, {f"kitsune/{DATA}": packets()})
    assert not Kitsune.is_here(tmp_path)
    with pytest.raises(DataMissing, match=r"Mirai_labels.csv"):
        Kitsune().load(tmp_path)


@settings(mutated, max_examples=30)
@given(st.data(), st.sampled_from([MILD, MUTATIONS]))
def test_mutated(draw: st.DataObject, mutations: Any) -> None:
    check_mutated(draw, packets(), b",", load, agrees, mutations)


@settings(mutated, max_examples=30)
@given(st.data(), st.sampled_from([MILD, MUTATIONS]))
def test_mutated_labels(draw: st.DataObject, mutations: Any) -> None:
    def labelled(folder: Path, labels: bytes) -> Table:
        return load(folder, packets(), labels)

    def agree(table: Table, labels: bytes) -> None:
        assert table.label is not None
        assert table.label.tolist() == [float(text) for (text,) in rows_of(labels, ",", False)]

    check_mutated(draw, "0\n0\n1\n1\n", b"\n", labelled, agree, mutations)


def test_the_real_sample(data_root: Path) -> None:
    table = Kitsune().load(data_root).tables["all"]
    assert table.numbers.shape == (22_203, 110)
    assert table.label is not None
    assert table.label.tolist() == [0] * 13_623 + [1] * 8_580
    with gzip.open(data_root / f"kitsune/{DATA}.gz") as file:
        start = file.read(2_000_000)
    lines = start[: start.rindex(b"\n")]
    agrees(table.take(slice(0, lines.count(b"\n") + 1)), lines)


def test_the_real_labels_of_the_whole_capture(data_root: Path) -> None:
    with gzip.open(data_root / "kitsune/Mirai/Mirai_labels_full_764137.csv.gz", "rt") as file:
        labels = np.array([int(line) for line in file])
    assert (len(labels), int(labels.sum())) == (kitsune.ROWS, kitsune.ROWS - kitsune.BENIGN)
    assert not labels[: kitsune.BENIGN].any()
