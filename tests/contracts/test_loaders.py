"""Every registered data set: what it says of itself, one line where its files are missing, and whole tables where they are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pytest

from samples import OWN, kdd_lines, put, skab_lines
from vedette.data.dataset import Dataset, Loader
from vedette.data.datasets import LOADERS, nbaiot, swat, unsw_nb15
from vedette.data.datasets.bot_iot import BotIot, Flows
from vedette.data.datasets.iot_ddos import IotDdos
from vedette.data.datasets.official import Column
from vedette.data.datasets.wustl import WustlIiot2021, WustlScada2018
from vedette.data.table import Coded, Table
from vedette.errors import DataMissing
from vedette.settings import build, describe

NAMES = sorted(LOADERS)


class Sample(NamedTuple):
    """Enough of a data set to load it.

    Attributes
    ----------
    settings
        Of the loader.
    files
        Content by path below the data root.
    rows
        Of each table.
    wanted
        What a message about a missing root names.
    """

    settings: Mapping[str, Any]
    files: Mapping[str, str]
    rows: Mapping[str, int]
    wanted: str = ""


def numbered(rows: int, columns: int, first: str = "", last: str = "", end: str = "\n") -> str:
    """Lines of numbers, all different; what stands in `first` and `last` may name the row: ``"{row},"``."""
    lines = [",".join(f"{row + column / 8:g}" for column in range(columns)) for row in range(1, rows + 1)]
    return "".join(first.format(row=row) + line + last.format(row=row) + end for row, line in enumerate(lines, 1))


UNSW = "id," + ",".join(unsw_nb15.NAMES.split()) + ",attack_cat,label\n"


def unsw_lines(rows: int) -> str:
    """Flows, each second one an attack."""
    kinds = [("Normal", 0), ("Generic", 1)]
    numbers = ",".join("1.5" for _ in range(38))
    return UNSW + "".join(f"{i},0.1,tcp,-,FIN,{numbers},{kinds[i % 2][0]},{kinds[i % 2][1]}\n" for i in range(1, rows + 1))


def flow_lines(kind: type[Flows], rows: int) -> str:
    """Flows of a family whose columns are told by their class, each second one an attack."""

    def cell(column: Column, row: int) -> str:
        attack = row % 2
        if column.kind == "flag":
            return str(attack)
        if column.name in kind.kinds:
            return ("Normal", "DDoS")[attack]
        return "tcp" if column.kind == "text" else f"{row}.5"

    lines = [",".join(cell(column, row) for column in kind.columns) for row in range(1, rows + 1)]
    return "\n".join([",".join(column.name for column in kind.columns), *lines, ""])


def swat_lines(rows: int, attacks: int = 0) -> str:
    """A second a line, the last ones under attack."""
    labels = ["Normal"] * (rows - attacks) + ["Attack"] * attacks
    numbers = ",".join(f"{i}.25" for i in range(len(swat.TAGS)))
    lines = [f" 28/12/2015 10:00:{second:02} AM,{numbers},{label}" for second, label in enumerate(labels)]
    return "\n".join([f" Timestamp,{','.join(swat.TAGS)},Normal/Attack", *lines, ""])


def flows(kind: type[Flows], parts: Mapping[str, tuple[str, int]]) -> Sample:
    """Return a sample of a family of flows, given the file and the rows of each part."""
    files = {f"{kind.folder}/{file}": flow_lines(kind, rows) for file, rows in parts.values()}
    return Sample({"check": False}, files, {part: rows for part, (_, rows) in parts.items()}, kind.official_files[0])


SAMPLES = {
    "bot-iot": flows(BotIot, {"train": (BotIot.official_files[0], 6), "test": (BotIot.official_files[1], 4)}),
    "iot-ddos": flows(IotDdos, {"all": ("DDoSdata.csv", 5)}),
    "swat": Sample(
        {"check": False},
        {"swat/SWaT_Dataset_Normal_v1.csv": swat_lines(5), "swat/SWaT_Dataset_Attack_v0.csv": swat_lines(6, 2)},
        {"train": 5, "test": 6},
        "SWaT_Dataset_Normal_v1.xlsx",
    ),
    "wustl-iiot-2021": flows(WustlIiot2021, {"all": ("wustl_iiot_2021.csv", 5)}),
    "wustl-scada-2018": flows(WustlScada2018, {"all": ("wustl-scada-2018.csv", 5)}),
    "kitsune": Sample(
        {},
        {"kitsune/Mirai/Mirai_dataset.csv.gz": numbered(4, 115, "{row},"), "kitsune/Mirai/Mirai_labels.csv": "0\n0\n1\n1\n"},
        {"all": 4},
        "kitsune/Mirai/Mirai_dataset.csv",
    ),
    "n-baiot": Sample(
        {},
        {
            "n-baiot/Danmini_Doorbell/benign_traffic.csv": ",".join(nbaiot.NAMES) + "\n" + numbered(3, 115),
            "n-baiot/Danmini_Doorbell/gafgyt_attacks/combo.csv.gz": ",".join(nbaiot.NAMES) + "\n" + numbered(2, 115),
            "n-baiot/Ennio_Doorbell/benign_traffic.csv": ",".join(nbaiot.NAMES) + "\n" + numbered(2, 115),
        },
        {"all": 7},
        "n-baiot/Danmini_Doorbell/benign_traffic.csv",
    ),
    "smd": Sample(
        {"check": False},
        {
            **{f"smd/{part}/machine-{m}.txt": numbered(4, 38) for part in ("train", "test") for m in ("1-1", "3-11")},
            **{f"smd/test_label/machine-{m}.txt": "0\n1\n1\n0\n" for m in ("1-1", "3-11")},
        },
        {"train": 8, "test": 8},
        "smd/train/machine-1-1.txt",
    ),
    "unsw-nb15": Sample(
        {"check": False},
        {"unsw-nb15/UNSW_NB15_training-set.csv": unsw_lines(5), "unsw-nb15/UNSW_NB15_testing-set.csv.gz": unsw_lines(3)},
        {"train": 5, "test": 3},
        "unsw-nb15/UNSW_NB15_training-set.csv",
    ),
    "kdd99": Sample(
        {"check": False},
        {"kdd99/kddcup.data_10_percent.gz": kdd_lines(), "kdd99/corrected.gz": kdd_lines() * 2},
        {"train": 3, "test": 6},
        "kddcup.data_10_percent",
    ),
    "nsl-kdd": Sample(
        {"check": False},
        {"nsl-kdd/KDDTrain+.txt": kdd_lines("", ",21"), "nsl-kdd/KDDTest+.txt.gz": kdd_lines("", ",7")},
        {"train": 3, "test": 3},
        "KDDTrain+.txt",
    ),
    "simulated": Sample({"nodes": 3, "train_hours": 2, "test_hours": 30, "fault_share": 0.2}, {}, {"train": 3 * 120, "test": 3 * 1800}),
    "skab": Sample(
        {"check": False, "folders": ["valve1", "other"]},
        {
            **{f"skab/{name}.csv": skab_lines() for name in ("valve1/0", "valve1/10", "other/1")},
            "skab/anomaly-free/anomaly-free.csv.gz": skab_lines(labelled=False),
        },
        {"all": 12, "anomaly-free": 4},
        "skab/valve1/0.csv",
    ),
    "table": Sample(
        {"files": ["plant/*.csv"], "node": "device", "time": "time", "label": "label", "categories": ["port"]},
        {"plant/own.csv": OWN},
        {"all": 4},
        "plant/*.csv",
    ),
}
SAMPLES["joined"] = Sample(
    {"parts": [{"name": "skab", **SAMPLES["skab"].settings}, {"name": "smd", **SAMPLES["smd"].settings}]},
    {**SAMPLES["skab"].files, **SAMPLES["smd"].files},
    {"all": 12 + 8},
    "skab/valve1/0.csv",
)
HOW = {"table": "correct the pattern or the data root", "joined": LOADERS["skab"].how}
"""What a loader whose files have no official place says instead of where to get them."""


def loader(name: str) -> Loader:
    if name not in SAMPLES:
        pytest.skip(f"no small sample of '{name}' (which another test holds against it)")
    return build(LOADERS, {"name": name, **SAMPLES[name].settings}, "[data]")


def loaded(name: str, folder: Path, seed: int = 0) -> Dataset:
    return loader(name).load(put(folder, SAMPLES[name].files), seed)


def same(one: Dataset, other: Dataset) -> bool:
    """Whether two data sets hold the same, to the bit."""

    def flat(dataset: Dataset) -> object:
        names = [field.name for field in fields(Table)]
        return dataset.ordered, {part: [plain(getattr(table, name)) for name in names] for part, table in dataset.tables.items()}

    def plain(value: object) -> object:
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.shape, value.tobytes()
        return (plain(value.codes), value.levels) if isinstance(value, Coded) else repr(value)

    return flat(one) == flat(other)


def check_whole(dataset: Dataset) -> None:
    """What must hold of the tables of any data set."""
    tables = dataset.tables
    assert ({"train", "test"} <= set(tables)) != ("all" in tables)
    assert len({table.features for table in tables.values()}) == 1
    assert len(next(iter(tables.values())).features) >= 1
    for table in tables.values():
        check_table(table, dataset.ordered)
    last = tables["test"] if "test" in tables else tables["all"]
    assert last.label is not None, "nothing to report on without labels"


def check_table(table: Table, ordered: bool) -> None:
    names = [feature.name for feature in table.features]
    assert len(set(names)) == len(names)
    assert table.numbers.dtype in (np.float32, np.float64)
    assert not np.isinf(table.numbers).any()
    for column in (*table.categories, *(each for each in (table.kind, table.group) if each is not None)):
        assert column.codes.dtype == np.int32
        assert len(set(column.levels)) == len(column.levels)
        assert not len(table) or (0 <= column.codes.min() <= column.codes.max() < len(column.levels))
    if table.label is not None:
        assert table.label.dtype == np.int8
        assert np.isin(table.label, (0, 1)).all()
        assert table.kind is None or not set(kinds(table, 0)) & set(kinds(table, 1)), "a kind that is both normal and anomalous"
    if table.change is not None:
        assert table.change.dtype == np.int8
        assert np.isin(table.change, (0, 1)).all()
    if ordered:
        codes = np.zeros(len(table), dtype=np.int32) if table.group is None else table.group.codes
        turns = np.flatnonzero(np.diff(codes)) + 1
        assert len(turns) + 1 == len(np.unique(codes)), "rows of a group do not stand together"
        assert table.time is not None
        assert all((np.diff(part) >= 0).all() for part in np.split(table.time, turns)), "a group goes back in time"


def kinds(table: Table, label: int) -> list[str]:
    assert table.kind is not None
    return [table.kind.levels[code] for code in np.unique(table.kind.codes[table.label == label])]


def test_every_registered_loader_is_tried() -> None:
    assert set(NAMES) == set(LOADERS)
    assert not set(NAMES) - set(SAMPLES), "registered, but without a small sample in SAMPLES"


@pytest.mark.parametrize("name", NAMES)
class TestEveryLoader:
    def test_describes_itself_in_lines(self, name: str) -> None:
        kind = LOADERS[name]
        assert issubclass(kind, Loader)
        for line in (kind.title, kind.licence, kind.source, kind.how):
            assert line == line.strip()
            assert line
            assert line.isprintable()  # so it is one line
        assert kind.folder == (name if kind.official_files else "")
        for file in kind.official_files:
            assert not PurePosixPath(file).is_absolute()
            assert not file.endswith(".gz"), "'find' looks for the gzip'ed file by itself"
            assert ".." not in PurePosixPath(file).parts

    def test_says_where_its_files_are_looked_for(self, name: str) -> None:
        """Somebody who reads `how` can make a folder that `is_here` accepts."""
        kind = LOADERS[name]
        for file in kind.official_files[:1]:
            assert f"{kind.folder}/{file}" in kind.how

    def test_settings_survive_json(self, name: str) -> None:
        assert build(LOADERS, json.loads(json.dumps(describe(LOADERS, loader(name)))), "[data]") == loader(name)

    @pytest.mark.parametrize("root", ["none", "missing", "empty", "a file"])
    def test_missing_files_are_one_line(self, name: str, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # a relative pattern without a root is looked for here
        (tmp_path / "empty").mkdir()
        (tmp_path / "a file").write_text("no folder")
        place = None if root == "none" else tmp_path / root
        chosen = loader(name)
        if not SAMPLES[name].files:
            return check_whole(chosen.load(place))  # it needs none
        assert place is None or not LOADERS[name].official_files or not LOADERS[name].is_here(place)
        with pytest.raises(DataMissing) as caught:
            chosen.load(place)
        said = str(caught.value)
        assert said.isprintable()
        assert SAMPLES[name].wanted in said
        assert HOW.get(name, LOADERS[name].how) in said
        assert place is None or str(place) in said
        return None

    def test_loads_whole_tables(self, name: str, tmp_path: Path) -> None:
        dataset = loaded(name, tmp_path)
        assert dataset.name == name
        assert {part: len(table) for part, table in dataset.tables.items()} == SAMPLES[name].rows
        check_whole(dataset)

    def test_is_drawn_from_the_seed_or_from_the_files(self, name: str, tmp_path: Path) -> None:
        first = loaded(name, tmp_path, seed=3)
        assert same(first, loaded(name, tmp_path, seed=3))
        assert same(first, loaded(name, tmp_path, seed=4)) == (not LOADERS[name].simulated)
        if LOADERS[name].simulated:
            assert not LOADERS[name].official_files
            for part, table in loaded(name, tmp_path, seed=4).tables.items():
                assert not np.array_equal(table.numbers, first.tables[part].numbers)


# The published files, where they lie.


def column(name: str) -> Callable[[Table], int]:
    return lambda table: len(table.column(name).levels)


def changes(table: Table) -> int:
    assert table.change is not None
    return int(table.change.sum())


def of_kind(name: str) -> Callable[[Table], int]:
    return lambda table: table.column("kind").texts().count(name)


def anomalies(table: Table) -> int:
    assert table.label is not None
    return int(table.label.sum())


PUBLISHED: dict[str, dict[str, list[tuple[Callable[[Table], int], int]]]] = {
    "kdd99": {
        "train": [(len, 494_021), (anomalies, 396_743), (column("kind"), 23), (column("service"), 66), (of_kind("smurf"), 280_790)],
        "test": [(len, 311_029), (anomalies, 250_436), (column("kind"), 38), (column("service"), 65)],
    },
    "nsl-kdd": {
        "train": [(len, 125_973), (anomalies, 58_630), (column("kind"), 23), (column("service"), 70)],
        "test": [(len, 22_544), (anomalies, 12_833), (column("kind"), 38), (column("service"), 64)],
    },
    "skab": {
        "all": [(len, 37_401), (anomalies, 13_067), (changes, 129), (column("group"), 34)],
        "anomaly-free": [(len, 9_405), (anomalies, 0), (changes, 0), (column("group"), 1)],
    },
}
"""Figures that the publishers state or that have been counted; what is there of other data sets is a part of them."""


@pytest.mark.parametrize("name", [name for name in NAMES if LOADERS[name].official_files])
def test_the_published_files_hold_what_was_published(name: str, data_root: Path) -> None:
    if not LOADERS[name].is_here(data_root):
        pytest.skip(f"the files of {name} are not there: {LOADERS[name].how}")
    dataset = build(LOADERS, name, "[data]").load(data_root)
    assert dataset.name == name
    check_whole(dataset)
    for part, figures in PUBLISHED.get(name, {}).items():
        assert [count(dataset.tables[part]) for count, _ in figures] == [figure for _, figure in figures]


def test_times_of_skab_never_stand_still(data_root: Path) -> None:
    table = build(LOADERS, "skab", "[data]").load(data_root).tables["all"]
    assert table.time is not None
    assert (np.diff(table.time)[np.diff(table.column("group").codes) == 0] > 0).all()
