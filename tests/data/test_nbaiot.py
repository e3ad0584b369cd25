"""N-BaIoT: both layouts, whichever devices are there, without the calendar."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.official_files import MILD, MUTATIONS, check_mutated, message, mutated, rows_of, same
from samples import put
from vedette.data.dataset import Dataset
from vedette.data.datasets import LOADERS, nbaiot
from vedette.data.datasets.nbaiot import DEVICES, NAMES, ROWS, TIME_LEAK, NBaiot
from vedette.data.table import Table
from vedette.errors import DataBroken, DataMissing, RecipeError
from vedette.settings import build

HEADER = ",".join(NAMES)
DANMINI, _, ENNIO, *_ = DEVICES
KEPT = [i for i, name in enumerate(NAMES) if name not in TIME_LEAK]


def traffic(rows: int, shift: float = 0.0, end: str = "\n") -> str:
    return end.join([HEADER, *(",".join(f"{row + shift + i / 128}" for i in range(115)) for row in range(rows)), ""])


OFFICIAL: dict[str, str | bytes] = {
    f"nbaiot/{DANMINI}/benign_traffic.csv.gz": traffic(3),
    f"nbaiot/{DANMINI}/gafgyt_attacks/combo.csv": traffic(2, 10),
    f"nbaiot/{DANMINI}/mirai_attacks/udpplain.csv": traffic(1, 20),
    f"nbaiot/{ENNIO}/benign_traffic.csv": traffic(2, 30),
    f"nbaiot/{ENNIO}/gafgyt_attacks/udp.csv.gz": traffic(2, 40),
}
KAGGLE: dict[str, str | bytes] = {
    "n-baiot/1.benign.csv": traffic(3),
    "n-baiot/1.gafgyt.combo.csv.gz": traffic(2, 10, "\r\n"),
    "n-baiot/1.mirai.udpplain.csv": traffic(1, 20),
    "n-baiot/3.benign.csv.gz": traffic(2, 30),
    "n-baiot/3.gafgyt.udp.csv": traffic(2, 40),
}


def load(folder: Path, files: dict[str, str | bytes], **settings: Any) -> Dataset:
    return NBaiot(**settings).load(put(folder, files))


def mutant(folder: Path, data: bytes) -> Table:
    files: dict[str, str | bytes] = {f"nbaiot/{DANMINI}/benign_traffic.csv": traffic(1), f"nbaiot/{DANMINI}/gafgyt_attacks/combo.csv": data}
    table = load(folder, files).tables["all"]
    return table.take(table.column("kind").codes == table.column("kind").levels.index("gafgyt-combo"))


def agrees(table: Table, data: bytes) -> None:
    head, *rows = rows_of(data, ",", False)
    assert [name.strip('"') for name in head] == list(NAMES)
    # Rounding a text to float64 first, as this does, may miss the nearest float32 by one.
    np.testing.assert_array_max_ulp(table.numbers, np.array([[float(row[i]) for i in KEPT] for row in rows]).astype(np.float32))


def test_both_layouts_give_the_same_table(tmp_path: Path) -> None:
    data = load(tmp_path / "official", OFFICIAL)
    table = data.tables["all"]
    assert (data.name, data.ordered, list(data.tables)) == ("n-baiot", False, ["all"])
    same(table, load(tmp_path / "kaggle", KAGGLE).tables["all"])
    same(table, NBaiot().load(tmp_path / "official/nbaiot").tables["all"])
    same(table, NBaiot().load(tmp_path / "kaggle/n-baiot").tables["all"])
    assert table.column("group").texts() == [DANMINI] * 6 + [ENNIO] * 4
    kinds = ["benign"] * 3 + ["gafgyt-combo"] * 2 + ["mirai-udpplain"] + ["benign"] * 2 + ["gafgyt-udp"] * 2
    assert table.column("kind").texts() == kinds
    assert table.label is not None
    assert table.label.tolist() == [kind != "benign" for kind in kinds]
    assert table.numbers.dtype == np.float32
    assert table.numbers[:, 0].tolist() == [0, 1, 2, 10, 11, 20, 30, 31, 40, 41]


def test_the_calendar_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    table, whole = (load(tmp_path, OFFICIAL, keep_time_leak=keep).tables["all"] for keep in (False, True))
    assert tuple(f"HH_jit_L{window}_mean" for window in (5, 3, 1, 0.1, 0.01)) == TIME_LEAK
    assert tuple(feature.name for feature in whole.features) == NAMES
    assert tuple(feature.name for feature in table.features) == tuple(NAMES[i] for i in KEPT)
    np.testing.assert_array_equal(whole.numbers[:, KEPT], table.numbers)


def test_other_files_are_no_devices(tmp_path: Path) -> None:
    other = {f"nbaiot/contiguous_head_299/{ENNIO}/benign_traffic.csv": traffic(9), "nbaiot/fedmse_index.csv": "device,file\n"}
    assert not NBaiot.is_here(put(tmp_path, other))
    with pytest.raises(DataMissing, match=r"Danmini_Doorbell/benign_traffic.csv"):
        NBaiot().load(tmp_path)
    assert len(load(tmp_path, OFFICIAL).tables["all"]) == 10
    assert NBaiot.is_here(tmp_path)


def test_only_the_devices_asked_for_are_read(tmp_path: Path) -> None:
    put(tmp_path, OFFICIAL | {f"nbaiot/{DANMINI}/benign_traffic.csv.gz": "broken"})
    assert load(tmp_path, {}, devices=(ENNIO,)).tables["all"].column("group").levels == (ENNIO,)
    with pytest.raises(DataMissing, match=r"Samsung_SNH_1011_N_Webcam/benign_traffic.csv"):
        load(tmp_path, {}, devices=(ENNIO, "Samsung_SNH_1011_N_Webcam"))
    with pytest.raises(RecipeError, match=f"no device is called 'Danmini_Dorbel'; did you mean '{DANMINI}'"):
        build(LOADERS, {"name": "n-baiot", "devices": ["Danmini_Dorbel"]}, "[data]")


def test_only_attacks_of_the_botnets_asked_for_are_read(tmp_path: Path) -> None:
    put(tmp_path, OFFICIAL | {f"nbaiot/{DANMINI}/gafgyt_attacks/combo.csv": "broken"})
    table = load(tmp_path, {}, botnets=("mirai",)).tables["all"]
    assert table.column("kind").texts() == ["benign"] * 3 + ["mirai-udpplain"] + ["benign"] * 2
    assert table.column("group").texts() == [DANMINI] * 4 + [ENNIO] * 2  # Ennio was never infected with Mirai
    table = load(tmp_path, OFFICIAL, botnets=("gafgyt",), devices=(DANMINI,)).tables["all"]
    assert table.column("kind").texts() == ["benign"] * 3 + ["gafgyt-combo"] * 2
    same(load(tmp_path, {}, botnets=("mirai", "gafgyt")).tables["all"], load(tmp_path, {}).tables["all"])
    with pytest.raises(RecipeError, match="no botnet is called 'miray'; did you mean 'mirai'"):
        build(LOADERS, {"name": "n-baiot", "botnets": ["miray"]}, "[data]")
    with pytest.raises(RecipeError, match="each botnet may be named once"):
        build(LOADERS, {"name": "n-baiot", "botnets": ["mirai", "mirai"]}, "[data]")


def test_published_counts_are_checked_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(map(sum, ROWS.values())) == 7_062_606
    assert len(NBaiot.official_files) == 89
    put(tmp_path, OFFICIAL)
    with pytest.raises(DataBroken, match=r"Ennio_Doorbell/benign_traffic.csv: 2 rows"):  # all files that Mirai left are here
        load(tmp_path, {}, check=True, devices=(ENNIO,), botnets=("mirai",))
    with pytest.raises(DataMissing, match=r"Ennio_Doorbell/gafgyt_attacks/combo.csv"):
        load(tmp_path, {}, check=True, devices=(ENNIO,))
    put(tmp_path, {f"nbaiot/{ENNIO}/gafgyt_attacks/{attack}.csv": traffic(1) for attack in ("combo", "junk", "scan", "tcp")})
    with pytest.raises(DataBroken, match=r"Ennio_Doorbell/benign_traffic.csv: 2 rows where 39,100 were published.*check = false"):
        load(tmp_path, {}, check=True, devices=(ENNIO,))
    monkeypatch.setattr(nbaiot, "FILES", [file._replace(rows=2 if file.rows in (39100, 103933) else 1) for file in nbaiot.FILES])
    assert len(load(tmp_path, {}, check=True, devices=(ENNIO,)).tables["all"]) == 8


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("HH_L5_std", "HH_L5_sdt", "combo.csv:1: column 'HH_L5_sdt' where 'HH_L5_std' belongs; did you mean 'HH_L5_std'?"),
        (f"{HEADER}\n", "", "combo.csv:1: column '10.0' where 'MI_dir_L5_weight' belongs"),
        ("11.0,", "11.0,,", "combo.csv:3: 116 columns where 115 belong"),
        ("11.0,", "1e40,", "combo.csv:3: column 'MI_dir_L5_weight': '1e40' is no finite number"),
        ("10.0,", '"10.0",', "combo.csv:2: column 'MI_dir_L5_weight': '\"10.0\"' is no finite number"),
    ],
)
def test_broken_files_name_the_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = traffic(2, 10)
    assert text.count(old) == 1
    with pytest.raises(DataBroken) as error:
        mutant(tmp_path, text.replace(old, new).encode())
    assert expected in message(error)


@settings(mutated, max_examples=30)
@given(st.data(), st.sampled_from([MILD, MUTATIONS]))
def test_mutated(draw: st.DataObject, mutations: Any) -> None:
    check_mutated(draw, traffic(3, 10), b",", mutant, agrees, mutations)


SOURCE = re.compile(r"\| (\w+) \| (\w+/)?(\w+)\.csv \| (\d+) \| (\d+) \| (\d+) \|")
"""A line of the table in SOURCE.md: device, botnet, attack, official rows, rows of the two draws that make up the sample."""


def test_the_real_sample(data_root: Path) -> None:
    table = NBaiot().load(data_root).tables["all"]
    assert table.numbers.shape == (82_710, 110)
    assert table.label is not None
    assert int((table.label == 0).sum()) == 36_976
    kind, group = table.column("kind"), table.column("group")
    assert (group.levels, kind.levels) == (DEVICES, nbaiot.KINDS)
    chosen = (group.codes == DEVICES.index("Ecobee_Thermostat")) & (kind.codes == kind.levels.index("mirai-scan"))
    with gzip.open(data_root / "nbaiot/Ecobee_Thermostat/mirai_attacks/scan.csv.gz") as file:
        agrees(table.take(chosen), file.read())
    said = SOURCE.findall((data_root / "nbaiot/SOURCE.md").read_text())
    published = {(file.device, file.kind): file.rows for file in nbaiot.FILES}
    assert len(said) == len(published) == 89
    for device, botnet, attack, rows, first, second in said:
        name = f"{botnet.removesuffix('_attacks/')}-{attack}" if botnet else "benign"
        assert published[device, name] == int(rows)
        chosen = (group.codes == group.levels.index(device)) & (kind.codes == kind.levels.index(name))
        assert chosen.sum() == int(first) + int(second)
        assert (table.label[chosen] == bool(botnet)).all()


MEASURE = """
import resource, sys, pathlib, polars
from vedette.data.datasets.nbaiot import NBaiot
polars.read_csv(b"1,2", has_header=False)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
numbers = NBaiot().load(pathlib.Path(sys.argv[1])).tables["all"].numbers
print((peak() - before) / numbers.nbytes)
"""


def test_files_are_read_one_by_one(data_root: Path) -> None:
    said = subprocess.run([sys.executable, "-c", MEASURE, str(data_root)], check=True, capture_output=True, text=True).stdout
    assert float(said) < 2.5
