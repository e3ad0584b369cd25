"""Broken files: every loader says in one line what is wrong, or returns what the files hold; `make fuzz` tries 1,000 a loader."""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from test_loaders import SAMPLES, check_whole, loader, same

from data.official_files import noise, other_fields, other_number, other_separator, truncate
from samples import put
from vedette.data import cache
from vedette.data.dataset import Dataset
from vedette.data.datasets import LOADERS, kdd99, nbaiot, smd, swat
from vedette.data.datasets.bot_iot import Flows
from vedette.data.loading import FileLoader
from vedette.errors import VedetteError

NAMES = sorted(name for name in LOADERS if issubclass(LOADERS[name], FileLoader))
THOROUGH = settings.get_current_profile_name() == "thorough"


# What the files hold, by the csv module.

Row = dict[str, str]


class Layout(NamedTuple):
    """How to read the files of a loader.

    Attributes
    ----------
    names
        The columns of files without a header.
    marker
        A column by which the header is found; the first line without.
    separators
        Any of these may separate.
    quoted
        Whether quotes quote.
    label
        Tells whether a row is anomalous.
    """

    names: tuple[str, ...] = ()
    marker: str = ""
    separators: str = ","
    quoted: bool = False
    label: Callable[[Row], bool] | None = None


def flows(name: str) -> Layout:
    kind = LOADERS[name]
    assert issubclass(kind, Flows)
    column, marker = kind.label, kind.columns[0].name or kind.columns[1].name
    return Layout((), marker, ",;", label=lambda row: float(row[column.lower()]) == 1)


KDD = (*(feature.name for feature in kdd99.FEATURES), "label")
LAYOUTS = {
    **{name: flows(name) for name in ("bot-iot", "iot-ddos", "wustl-iiot-2021", "wustl-scada-2018")},
    "kdd99": Layout(KDD, label=lambda row: row["label"] != "normal."),
    "nsl-kdd": Layout((*KDD, "difficulty"), label=lambda row: row["label"] != "normal"),
    "kitsune": Layout(("row", *nbaiot.NAMES)),
    "n-baiot": Layout(),
    "skab": Layout(separators=";", label=lambda row: float(row.get("anomaly", "0")) == 1),
    "smd": Layout(tuple(dim.name for dim in smd.DIMS)),
    "swat": Layout((), swat.TIME, ",;", True, lambda row: "".join(row["normal/attack"].split()).lower() in ("attack", "1", "1.0")),
    "table": Layout(quoted=True, label=lambda row: number(row["label"]) != "0"),
    "unsw-nb15": Layout(label=lambda row: float(row["label"]) == 1),
}


def lines_of(path: Path) -> list[str]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return text.removeprefix("\ufeff").rstrip("\r\n").replace("\r\n", "\n").split("\n")


def cells(line: str, separator: str) -> list[str]:
    return [name.strip(' "').lower() for name in line.split(separator)]


def rows_of(path: Path, layout: Layout) -> list[Row]:
    lines, names = lines_of(path), [name.lower() for name in layout.names]
    separator = layout.separators[0]
    if not names:
        found = [(at, separator, cells(line, separator)) for at, line in enumerate(lines) for separator in layout.separators]
        at, separator, names = next(each for each in found if not layout.marker or layout.marker.lower() in each[2])
        lines = lines[at + 1 :]
    if layout.quoted:
        records = list(csv.reader(io.StringIO("\n".join(lines), newline=""), delimiter=separator, strict=True))
    else:
        records = [line.split(separator) for line in lines]
    assert {len(record) for record in records} == {len(names)}
    return [dict(zip(names, record, strict=True)) for record in records]


def expected(name: str, sources: Mapping[str, Path]) -> Iterator[tuple[Row, bool]]:
    """Yield all rows of all files, and whether they are anomalous."""
    layout = LAYOUTS[name]
    for key, path in sources.items():
        if name == "kitsune" and "labels" not in key:
            labels = lines_of(sources["Mirai/Mirai_labels.csv"])
        elif name == "smd" and key.startswith("test/"):
            labels = lines_of(sources[key.replace("test/", "test_label/")])
        elif name in ("kitsune", "smd") and "label" in key:
            continue
        else:
            labels = []
        rows = rows_of(path, layout)
        if labels:
            yield from zip(rows, (float(label) == 1 for label in labels), strict=True)
        else:
            yield from ((row, layout.label(row) if layout.label else name == "n-baiot" and "benign" not in key) for row in rows)


def number(text: str) -> str:
    """Show a number as far as float32 tells it apart, whatever the rounding on the way; a text as it is."""
    text = text.strip().replace(",", ".")
    try:
        with np.errstate(over="ignore"):
            value = np.float32(float("nan" if text.lower() in ("", "na") else text))
    except ValueError:
        return text
    return "missing" if np.isnan(value) else f"{value + np.float32(0):.5g}"


def check_holds(name: str, dataset: Dataset, sources: Mapping[str, Path]) -> None:
    """Whether all tables together hold the rows of all files, each value under its name, with its label."""
    found: Counter[tuple[str, ...]] = Counter()
    for table in dataset.tables.values():
        numbers = iter(table.numbers.T)
        categories = iter(table.categories)
        columns = [
            [number(repr(float(value))) for value in next(numbers)] if feature.kind == "number" else next(categories).texts()
            for feature in table.features
        ]
        assert table.label is not None
        found.update(zip(*columns, [str(bool(label)) for label in table.label], strict=True))
    wanted: Counter[tuple[str, ...]] = Counter()
    for row, label in expected(name, sources):
        cells = [
            number(row[feature.name.lower()]) if feature.kind == "number" else row[feature.name.lower()]
            for feature in next(iter(dataset.tables.values())).features
        ]
        wanted[(*cells, str(label))] += 1
    assert found == wanted


# What can be wrong with a file.

Change = Callable[[st.DataObject, bytes, bytes], bytes]


def nothing(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    return data


def empty(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    return draw.draw(st.sampled_from([b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", b" ", data[: data.find(b"\n") + 1]]))


def other_encoding(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    text = data.decode(errors="replace")
    return draw.draw(st.sampled_from([b"\xef\xbb\xbf" + data, text.encode("utf-16"), text.encode("utf-16-le"), text.encode("utf-32")]))


def null_bytes(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    at = draw.draw(st.integers(0, len(data)))
    return data[:at] + b"\x00" * draw.draw(st.sampled_from([1, 2, 4096])) + data[at:]


def other_columns(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    """Move, drop or double whole columns, header included."""
    lines = [line.split(separator) for line in data.split(b"\n")]
    count = len(lines[0])
    change = draw.draw(st.sampled_from(["move", "drop", "double", "reverse"]))
    order = list(range(count))
    i, j = (draw.draw(st.integers(0, count - 1)) for _ in range(2))
    if change == "move":
        order.insert(j, order.pop(i))
    elif change == "reverse":
        order.reverse()
    else:
        order[i : i + 1] = [] if change == "drop" else [i, i]
    return b"\n".join(separator.join(line[k] for k in order) if len(line) == count else separator.join(line) for line in lines)


def extra_separators(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    lines = data.split(b"\n")
    at = draw.draw(st.integers(0, len(lines) - 1))
    more = separator * draw.draw(st.integers(1, 3))
    return b"\n".join(line + more if line and (i == at or at == 0) else line for i, line in enumerate(lines))


def line_ends(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    end = draw.draw(st.sampled_from([b"\r\n", b"\r", b"\n\n", b"\n\r", b"\x0b", b"\x1e", "\u2028".encode(), b""]))
    return data.replace(b"\n", end, draw.draw(st.sampled_from([1, 2, -1])))


def huge(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    at = draw.draw(st.integers(0, len(data)))
    one = draw.draw(st.sampled_from([b"9", b"a", b" ", b"0", b'"', b"\n"]))
    return data[:at] + one * draw.draw(st.sampled_from([300, 70_000, 1_200_000])) + data[at:]


def again(draw: st.DataObject, data: bytes, separator: bytes) -> bytes:
    """The same file twice, header and all, or its first line again somewhere."""
    lines = data.split(b"\n")
    lines.insert(draw.draw(st.integers(0, len(lines))), lines[0])
    return draw.draw(st.sampled_from([data + data, b"\n".join(lines)]))


CHANGES: list[Change] = [
    other_fields,
    other_fields,
    other_number,
    noise,
    truncate,
    other_separator,
    other_columns,
    other_columns,
    extra_separators,
    other_encoding,
    null_bytes,
    line_ends,
    huge,
    empty,
    again,
    nothing,
]


def swapped(draw: st.DataObject, files: dict[str, bytes], name: str) -> None:
    """Put the content of another file, of this or another data set, in place of one."""
    other = draw.draw(st.sampled_from(sorted(sample for sample in SAMPLES if SAMPLES[sample].files)))
    contents = [content.encode() for content in SAMPLES[other].files.values()]
    files[name] = draw.draw(st.sampled_from([*files.values(), *contents]))


def damaged(draw: st.DataObject, packed: bytes) -> bytes:
    at = draw.draw(st.integers(0, len(packed) - 1))
    flipped = packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]
    return draw.draw(st.sampled_from([packed[:at], flipped, packed + b"more", packed + packed]))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=1000 if THOROUGH else 25, derandomize=not THOROUGH, suppress_health_check=list(HealthCheck))
@given(draw=st.data())
def test_broken_files(name: str, draw: st.DataObject, monkeypatch_once: pytest.MonkeyPatch) -> None:
    files = {path: content.encode() for path, content in SAMPLES[name].files.items()}
    path = draw.draw(st.sampled_from(sorted(files)))
    separator = LAYOUTS[name].separators[-1].encode() if name == "skab" else b","
    if draw.draw(st.integers(0, 9)) == 0:
        swapped(draw, files, path)
    for change in draw.draw(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=2)):
        if len(files[path]) > 2 and b"\n" in files[path]:
            files[path] = change(draw, files[path], separator)
    with tempfile.TemporaryDirectory() as folder:
        root = put(Path(folder) / "data", files)
        place = root / path
        if path.endswith(".gz") and draw.draw(st.integers(0, 3)) == 0:
            place.write_bytes(damaged(draw, place.read_bytes()))
        monkeypatch_once.setenv("VEDETTE_CACHE", f"{folder}/cache")
        chosen = loader(name)
        assert isinstance(chosen, FileLoader)
        note(f"{path}: {place.read_bytes()[:300]!r}")
        try:
            dataset = chosen.load(root)
        except VedetteError as error:
            said = str(error)
            assert said.isprintable()
            assert len(said) < 1000
            return event("refused")
        check_whole(dataset)
        check_holds(name, dataset, chosen.sources(root))
        assert same(dataset, chosen.load(root)), "another data set from the cache"
        return event("read")


@pytest.fixture(scope="module")
def monkeypatch_once() -> Iterator[pytest.MonkeyPatch]:
    """Everything is kept in a cache of the example's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "WORTH", 0)
        yield patch


def test_every_loader_of_files_is_tried() -> None:
    assert set(LAYOUTS) == set(NAMES)
