"""What tests of loaders share: tables compared, official files parsed by the csv module and mutated."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from vedette.data.table import Table
from vedette.errors import VedetteError


def message(error: pytest.ExceptionInfo[VedetteError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def same(table: Table, other: Table) -> None:
    assert table.features == other.features
    np.testing.assert_array_equal(table.numbers, other.numbers)
    for name in [feature.name for feature in table.category_features] + [n for n in ("kind", "group") if getattr(table, n) is not None]:
        assert table.column(name).texts() == other.column(name).texts()
    for name in ("label", "time"):
        np.testing.assert_array_equal(getattr(table, name), getattr(other, name))


def rows_of(data: bytes, separator: str, quoted: bool) -> list[list[str]]:
    """Parse as the csv module does, one record a line, no fields added or left out."""
    text = data.decode().removeprefix("\ufeff").rstrip("\r\n")
    if quoted:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    else:
        rows = [next(csv.reader([line.removesuffix("\r")], delimiter=separator, quoting=csv.QUOTE_NONE)) for line in text.split("\n")]
    assert {len(row) for row in rows} == {len(rows[0])}
    return rows


ODD = [
    "2024-05-01",
    "2020-03-09 10:14",
    "",
    "nan",
    "inf",
    "-",
    "1e400",
    "1e39",
    " 1",
    "1 ",
    "1_0",
    "0x1",
    "١",
    '"1"',
    '"1',
    '1"2',
    "1\r",
    "\r",
    "1e",
    "+1",
    ".5",
    "tcp",
    "a b",
    "\x00",
    "é",
]
NOISE = b"019.-+eE \"'#\\x\t\r\x00_"


def truncate(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    return data[: draw.draw(st.integers(0, len(data)))]


def noise(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    at = draw.draw(st.integers(0, len(data)))
    return (
        data[:at]
        + draw.draw(st.one_of(st.sampled_from(list(NOISE)).map(lambda byte: bytes([byte])), st.binary(max_size=6)))
        + data[at + draw.draw(st.integers(0, 3)) :]
    )


def other_separator(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    return data.replace(separator, draw.draw(st.sampled_from([b";", b",", b"\t", b" ", b""])), draw.draw(st.sampled_from([1, 5, -1])))


def other_fields(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    """Replace, swap, move, delete or double fields of one line or of all of them."""
    lines = [line.split(separator) for line in data.split(b"\n")]
    at = draw.draw(st.integers(0, len(lines) - 2))
    i, j = (draw.draw(st.integers(0, len(lines[at]) - 1)) for _ in range(2))
    huge = st.tuples(st.sampled_from(["0", "9", "a", "é"]), st.sampled_from([65, 400, 70_000, 150_000])).map(lambda t: t[0] * t[1])
    text = draw.draw(st.one_of(st.sampled_from(ODD), st.sampled_from(ODD), huge)).encode()
    change = draw.draw(st.sampled_from(["replace", "swap", "replace", "move", "replace", "delete", "double", "drop line", "repeat line"]))
    for line in [lines[at]] if draw.draw(st.booleans()) else lines[:-1]:
        if change == "delete":
            line[i : i + 1] = []
        elif change == "double":
            line[i:i] = line[i : i + 1]
        elif change == "swap" and max(i, j) < len(line):
            line[i], line[j] = line[j], line[i]
        elif change == "replace":
            line[i : i + 1] = [text]
    if change == "move":
        lines[at - 1].insert(j, lines[at].pop(i))
    elif change == "drop line":
        del lines[at]
    elif change == "repeat line":
        lines.insert(at, lines[at])
    return b"\n".join(separator.join(line) for line in lines)


MUTATIONS = st.lists(st.sampled_from([other_fields, noise, other_fields, truncate, other_fields, other_separator]), min_size=1, max_size=2)


def other_number(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    """Write another number, in one way or another, where one stands."""
    lines = [line.split(separator) for line in data.split(b"\n")]
    places = [(line, i) for line in lines for i, field in enumerate(line) if re.fullmatch(rb"[0-9.e+-]+", field.strip())]
    if places:
        line, i = draw.draw(st.sampled_from(places))
        line[i] = draw.draw(st.sampled_from(["0", "1", "2", "3", "+1", ".5", "-0.0", "5.", "007", "3E2", "1e-50", "16777217"])).encode()
    return b"\n".join(separator.join(line) for line in lines)


MILD = st.lists(st.sampled_from([other_number, other_fields, other_number, noise, other_number, truncate]), min_size=1, max_size=2)
"""Mutations that leave more files readable, where `MUTATIONS` break nearly all."""


def check_mutated(
    draw: st.DataObject,
    text: str,
    separator: bytes,
    load: Callable[[Path, bytes], Table],
    agrees: Callable[[Table, bytes], None],
    mutations: st.SearchStrategy[list[Callable[[st.DataObject, bytes, bytes], bytes]]] = MUTATIONS,
) -> None:
    data = text.encode()
    for mutate in draw.draw(mutations):
        if data.count(separator) and data.count(b"\n") > 1:
            data = mutate(draw, data, separator)
    with tempfile.TemporaryDirectory() as folder:
        try:
            table = load(Path(folder), data)
        except VedetteError as error:
            said = str(error)
        else:
            return agrees(table, data)
    assert "\n" not in said
    assert len(said) < 1000
    return None


mutated = settings(derandomize=True, max_examples=50, deadline=None)
