"""SMD: whichever machines are there, with their root causes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.official_files import MILD, MUTATIONS, check_mutated, message, mutated, rows_of
from samples import put
from vedette.data.datasets import LOADERS, smd
from vedette.data.datasets.smd import MACHINES, RootCause, Smd, root_causes
from vedette.data.table import Table
from vedette.errors import DataBroken, DataMissing, RecipeError, UnknownName
from vedette.message import Array
from vedette.settings import build

CAUSES = "3-4:1,38\n1-2:9\n"


def metrics(rows: int, shift: float = 0.0) -> str:
    return "".join(",".join(f"{(row + dim / 64 + shift) / 9:.6f}" for dim in range(38)) + "\n" for row in range(rows))


def machine(name: str, rows: int = 5) -> dict[str, str | bytes]:
    labels = "".join(f"{int(row in (1, 3))}\n" for row in range(rows))
    parts = {"train": metrics(rows - 1), "test": metrics(rows, 0.5), "test_label": labels, "interpretation_label": CAUSES}
    return {f"smd/{part}/{name}.txt": text for part, text in parts.items()}


def load(folder: Path, text: str | bytes, part: str = "test") -> Table:
    put(folder, machine("machine-2-9") | {f"smd/{part}/machine-2-9.txt": text})
    return Smd(check=False).load(folder).tables["test"]


def agrees(table: Table, data: bytes) -> None:
    rows = rows_of(data, ",", False)
    assert len(rows) == 5
    np.testing.assert_array_equal(table.numbers, np.array([[float(text) for text in row] for row in rows]).astype(np.float32))


def test_machines_are_groups(tmp_path: Path) -> None:
    put(tmp_path, machine("machine-1-7") | {f"{name}.gz": text for name, text in machine("machine-3-11", 7).items()})
    data = Smd(check=False).load(tmp_path)
    train, test = data.tables["train"], data.tables["test"]
    assert data.ordered
    assert [feature.name for feature in train.features] == [f"dim-{i}" for i in range(1, 39)]
    assert train.column("group").texts() == ["machine-1-7"] * 4 + ["machine-3-11"] * 6
    assert train.label is not None
    assert test.label is not None
    assert not train.label.any()
    assert test.label.tolist() == [0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0]
    assert test.time is not None
    assert test.time.tolist() == [60.0 * row for row in (*range(5), *range(7))]
    assert test.numbers[5, 37] == np.float32(f"{(37 / 64 + 0.5) / 9:.6f}")


def test_only_the_machines_asked_for_are_read(tmp_path: Path) -> None:
    put(tmp_path, machine("machine-1-7") | machine("machine-3-11") | {"smd/train/machine-1-7.txt": "broken"})
    assert len(Smd(check=False, machines=("machine-3-11",)).load(tmp_path).tables["test"]) == 5
    with pytest.raises(DataMissing, match=r"machine-2-1.txt"):
        Smd(check=False, machines=("machine-2-1",)).load(tmp_path)
    for wrong, said in ((["machine-3-12"], "'machine-3-12'; did you mean 'machine-"), (["machine-1-7"] * 2, "may be named once")):
        with pytest.raises(RecipeError, match=said):
            build(LOADERS, {"name": "smd", "machines": wrong}, "[data]")


def test_a_machine_that_lacks_a_file_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, machine("machine-1-7") | machine("machine-1-8"))
    assert Smd.is_here(tmp_path)
    (tmp_path / "smd/test_label/machine-1-8.txt").unlink()
    with pytest.raises(DataMissing, match=r"test_label/machine-1-8.txt"):
        Smd(check=False).load(tmp_path)
    (tmp_path / "smd/train/machine-1-7.txt").unlink()
    assert not Smd.is_here(tmp_path)


def test_published_counts_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, machine("machine-1-7"))
    with pytest.raises(
        DataBroken, match=r"machine-1-7 has 4 rows to train on, 5 to test on, 2 of them anomalous, where 23,697 .* 2,398 .*check = false"
    ):
        Smd().load(tmp_path)
    monkeypatch.setattr(smd, "COUNTS", {})
    Smd().load(tmp_path)
    monkeypatch.setattr(smd, "MACHINES", ("machine-1-7",))
    with pytest.raises(DataBroken, match=r"smd: 4 rows to train on.* where 708,405 .* 708,420 .* 29,444"):
        Smd().load(tmp_path)


@pytest.mark.parametrize(
    ("part", "text", "expected"),
    [
        ("train", metrics(2).replace("0.111111", "nan", 1), "train/machine-2-9.txt:2: column 'dim-1': 'nan' is no finite number"),
        ("test", metrics(5).replace(",", ";", 1), "test/machine-2-9.txt:1: 37 columns where 38 belong"),
        ("test", metrics(4), "test_label/machine-2-9.txt: 5 labels for the 4 rows of '"),
        ("test_label", "0\n1\n2\n0\n0\n", "test_label/machine-2-9.txt:3: column 'label': '2' is neither 0 nor 1"),
        ("test_label", "0\n1\n\n0\n0\n", "test_label/machine-2-9.txt:3: "),
        ("test_label", "0\n1\n0,1\n0\n0\n", "test_label/machine-2-9.txt:3: 2 columns where 1 belong"),
        ("test_label", "", "test_label/machine-2-9.txt: the file is empty"),
    ],
)
def test_broken_files_name_the_place(tmp_path: Path, part: str, text: str, expected: str) -> None:
    with pytest.raises(DataBroken) as error:
        load(tmp_path, text, part)
    assert expected in message(error)


def test_root_causes_are_in_the_order_of_time(tmp_path: Path) -> None:
    put(tmp_path, machine("machine-2-9"))
    assert root_causes(tmp_path, "machine-2-9") == [RootCause(1, 2, (9,)), RootCause(3, 4, (1, 38))]
    with pytest.raises(UnknownName, match="did you mean 'machine-2-9'"):
        root_causes(tmp_path, "machine2-9")
    with pytest.raises(DataMissing, match=r"interpretation_label/machine-1-1.txt"):
        root_causes(tmp_path, "machine-1-1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1-2:9\n3-3:1\n", ":2: rows 3-3, where the first must lie before the last and the last at most at 5"),
        ("1-6:9\n", ":1: rows 1-6"),
        ("1-2:9\n1-2:0\n", ":2: column 'dims': '0' does not look like"),
        ("1-2:39\n", ":1: column 'dims': '39'"),
        ("1-2:\n", ":1: column 'dims': ''"),
        ("1:2\n", ":1: column 'rows': '1'"),
        ("1-2;9\n", ":1: 1 columns where 2 belong"),
    ],
)
def test_broken_root_causes_name_the_place(tmp_path: Path, text: str, expected: str) -> None:
    put(tmp_path, machine("machine-2-9") | {"smd/interpretation_label/machine-2-9.txt": text})
    with pytest.raises(DataBroken) as error:
        root_causes(tmp_path, "machine-2-9")
    assert f"interpretation_label/machine-2-9.txt{expected}" in message(error)


@settings(mutated, max_examples=30)
@given(st.data(), st.sampled_from([MILD, MUTATIONS]))
def test_mutated(draw: st.DataObject, mutations: Any) -> None:
    check_mutated(draw, metrics(5), b",", load, agrees, mutations)


@settings(mutated, max_examples=30)
@given(st.data(), st.sampled_from([b":", b",", b"-"]), st.sampled_from([MILD, MUTATIONS]))
def test_mutated_root_causes(draw: st.DataObject, separator: bytes, mutations: Any) -> None:
    found: list[RootCause] = []

    def causes(folder: Path, data: bytes) -> Table:
        table = load(folder, data, "interpretation_label")
        found[:] = root_causes(folder, "machine-2-9")
        return table

    def are_those_of(table: Table, data: bytes) -> None:
        lines = [line.partition(":") for line in data.decode().removeprefix("\ufeff").splitlines()]
        spans = [(*map(int, span.split("-")), tuple(map(int, dims.split(",")))) for span, _, dims in lines]
        assert found == sorted(spans)
        assert all(start < end <= len(table) and 1 <= min(dims) <= max(dims) <= 38 for start, end, dims in found)

    check_mutated(draw, "3-4:1,38\n0-1:5\n1-2:9\n", separator, causes, are_those_of, mutations)


RUNS = (10, 12, 12, 7, 30, 13, 20)


def runs(label: Array) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(label, prepend=0, append=0)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def test_the_real_machines(data_root: Path) -> None:
    names = MACHINES[1:8]
    data = Smd().load(data_root)
    train, test = data.tables["train"], data.tables["test"]
    assert train.column("group").levels == test.column("group").levels == names
    assert (len(train), len(test)) == (165_890, 165_895)
    assert test.label is not None
    for table in (train, test):
        assert 0 <= table.numbers.min() <= table.numbers.max() <= 1
    for i, name in enumerate(names):
        label = test.label[test.column("group").codes == i]
        assert (len(label), int(label.sum())) == smd.COUNTS[name][1:]
        assert len(runs(label)) == RUNS[i]
        causes = root_causes(data_root, name)
        assert all(one.end <= other.start for one, other in pairwise(causes))
        # The publishers' two opinions differ for this machine alone: 11 incidents where the labels show 12.
        assert ([(cause.start, cause.end) for cause in causes] == runs(label)) == (name != "machine-1-3")
    assert root_causes(data_root, "machine-1-2")[1] == RootCause(5486, 5491, (18,))
    assert train.numbers[0, :4].tolist() == np.float32([0.16, 0.058339, 0.090032, 0.114586]).tolist()
