"""Matrices on disk behave as those in memory do, and read nothing before they are asked to."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.data import stored
from vedette.data.scaling import Scaling
from vedette.data.stored import Growing, Stored, in_memory, stacked
from vedette.data.table import Coded, Feature, Table, concat
from vedette.errors import StorageError
from vedette.message import Array

NUMBERS = np.arange(60 * 5, dtype=np.float32).reshape(60, 5)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "numbers.npy"
    np.save(path, NUMBERS)
    return path


@st.composite
def choices(draw: st.DrawFn, count: int) -> Array | slice:
    kind = draw(st.sampled_from(["slice", "step", "index", "mask", "shuffled"]))
    if kind in ("slice", "step"):
        ends = st.one_of(st.none(), st.integers(-count - 2, count + 2))
        return slice(draw(ends), draw(ends), draw(st.sampled_from([None, 1] if kind == "slice" else [2, -1, 3])))
    if kind == "mask":
        return np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=bool)
    if kind == "shuffled":
        return np.random.default_rng(draw(st.integers(0, 99))).permutation(count)
    return np.array(draw(st.lists(st.integers(-count, count - 1), max_size=8)) if count else [], dtype=np.int64)


@settings(max_examples=150, derandomize=True)
@given(draw=st.data())
def test_any_choice_of_a_choice_is_that_of_an_array(path: Path, draw: st.DataObject) -> None:
    matrix, array = Stored(path), NUMBERS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "WINDOW", draw.draw(st.sampled_from([1, 60, 1 << 20])))
        patch.setattr(stored, "READ", draw.draw(st.sampled_from([0, 50, 1 << 20])))
        patch.setattr(stored, "SPARSE", draw.draw(st.sampled_from([0, 2, 16])))
        for _ in range(draw.draw(st.integers(1, 4))):
            if draw.draw(st.booleans()):
                rows = draw.draw(choices(len(array)))
                matrix, array = matrix.take(rows), array[rows]
            else:
                columns = draw.draw(st.lists(st.integers(0, array.shape[1] - 1), max_size=6)) if array.shape[1] else []
                matrix, array = matrix.select(columns), array[:, columns]
            assert matrix.shape == array.shape
        np.testing.assert_array_equal(matrix.array(), array)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(matrix)).array(), array)  # noqa: S301


def table(matrix: Array | Stored) -> Table:
    rows = len(matrix)
    lamp = Coded(np.arange(rows, dtype=np.int32) % 2, ("off", "on"))
    features = (*(Feature(f"x{i}") for i in range(5)), Feature("lamp", "category"))
    return Table(features, matrix, (lamp,), label=(np.arange(rows) % 3 == 0).astype(np.int8), group=lamp, time=np.arange(rows) * 1.0)  # type: ignore[arg-type]


def test_a_table_on_disk_is_one_in_memory(path: Path) -> None:
    lying, held = table(Stored(path)), table(NUMBERS)
    order = np.random.default_rng(0).permutation(60)
    for change in (
        lambda t: t,
        lambda t: t.take(order),
        lambda t: t.take(order).take(slice(5, 30)).select(["lamp", "x3", "x1"]),
        lambda t: t.normal().take(order[:10] // 2),
        lambda t: concat([t.take(slice(0, 7)), t.take(order), t.normal()]),
        lambda t: concat(list(t.chunks(7))),
    ):
        one, other = change(lying), change(held)
        assert isinstance(one.matrix, Stored)
        for field in fields(Table):
            a, b = getattr(one, field.name), getattr(other, field.name)
            np.testing.assert_array_equal(a, b) if isinstance(a, np.ndarray) else np.testing.assert_equal(a, b)
        for size in (1, 7, 1000):
            assert [rows for rows, _ in one.blocks(size)] == [rows for rows, _ in other.blocks(size)]
            np.testing.assert_array_equal(np.concatenate([part for _, part in one.blocks(size)]), other.numbers)
        scaling = Scaling()
        assert one.column("lamp").levels == ("off", "on")
        scaled = [scaling.fitted(scaling.summary(held)).transform(t) for t in (one, other)] if one.features == held.features else []
        assert not scaled or np.array_equal(*scaled)
    assert replace(lying, label=None).numbers.shape == (60, 5)
    two = concat([lying, table(NUMBERS)])
    assert isinstance(two.matrix, np.ndarray), "parts of different matrices have to be put together"
    np.testing.assert_array_equal(two.numbers, np.concatenate([NUMBERS, NUMBERS]))


def test_choosing_reads_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lying = table(Stored(path))
    monkeypatch.setattr(stored.os, "preadv", None)
    monkeypatch.setattr(stored.mmap, "mmap", None)
    chosen = concat([lying.take(np.arange(60)[::-1]).normal().select(["x1", "lamp"]), lying.take(slice(3, 9)).select(["x1", "lamp"])])
    assert len(chosen) == 46
    assert [len(chunk) for chunk in chosen.chunks(20)] == [20, 20, 6]


def test_a_part_of_one_matrix_and_another_are_put_together(path: Path) -> None:
    matrix = Stored(path)
    assert isinstance(stacked([matrix.take(slice(0, 3)), matrix.take(np.array([5]))]), Stored)
    for others in ([matrix.select([0, 1]), matrix.select([1, 0])], [matrix, Stored(path)], [matrix, NUMBERS]):
        found = stacked(others)
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, np.concatenate([m.array() if isinstance(m, Stored) else m for m in others]))


def test_large_parts_are_views_of_the_file_and_read_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Stored(path).array().flags.writeable
    monkeypatch.setattr(stored, "READ", 0)
    view = Stored(path).take(slice(2, 50)).array()
    assert not view.flags.writeable
    assert not view.flags.owndata
    np.testing.assert_array_equal(view, NUMBERS[2:50])


def test_a_file_cut_off_in_use_is_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    matrix = Stored(tmp_path / "a.npy")
    with (tmp_path / "a.npy").open("r+b") as file:
        file.truncate(500)
    for rows in (slice(0, 60), np.array([59]), np.array([1, 40])):
        with pytest.raises(StorageError, match=r"a\.npy: the file was cut off"):
            matrix.take(rows).array()


@pytest.mark.parametrize(
    "array", [np.zeros(3), np.zeros((2, 2, 2)), np.asfortranarray(NUMBERS), np.array([[None]], dtype=object)], ids=["1", "3", "F", "object"]
)
def test_what_is_no_matrix_is_refused(tmp_path: Path, array: Array) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=r"matrix|size"):
        Stored(tmp_path / "a.npy")


def test_a_worker_gets_the_numbers_where_it_cannot_open_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    matrix = Stored(tmp_path / "a.npy").take(slice(1, 4))
    assert len(pickle.dumps(matrix)) < 500
    (tmp_path / "a.npy").unlink()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(matrix)), NUMBERS[1:4])  # noqa: S301
    np.save(tmp_path / "a.npy", NUMBERS + 1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(matrix)), NUMBERS[1:4])  # noqa: S301
    sent = pickle.dumps(Stored(tmp_path / "a.npy"))
    (tmp_path / "a.npy").unlink()
    with pytest.raises(StorageError, match=r"a\.npy: a file of the cache is gone"):
        pickle.loads(sent)  # noqa: S301


@pytest.mark.parametrize("blocks", [[], [60], [1, 2, 57], [0, 60, 0]])
@pytest.mark.parametrize("columns", [5, 1, 0])
def test_rows_as_they_come(tmp_path: Path, blocks: list[int], columns: int) -> None:
    for matrix in (in_memory(columns), Growing(columns, np.float32, tmp_path / "a.npy")):
        for start, size in zip(np.cumsum([0, *blocks]), blocks, strict=False):
            matrix.append(NUMBERS[start : start + size, :columns].astype(np.float64))
        whole = matrix.whole()
        array = whole.array() if isinstance(whole, Stored) else whole
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, NUMBERS[: sum(blocks), :columns])
    assert isinstance(whole, Stored)
    if columns:
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), array)
