"""BoT-IoT, and what all loaders of flows share: nothing that names the attacker is learnt from, and labels agree with kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.official_files import check_mutated, message, mutated, rows_of, same
from samples import put
from vedette.data.dataset import Dataset
from vedette.data.datasets import LOADERS
from vedette.data.datasets.bot_iot import TEN, BotIot, Flows
from vedette.data.table import Table
from vedette.errors import DataBroken, DataMissing, RecipeError
from vedette.settings import build

HEAD = "pkSeqID,proto,saddr,sport,daddr,dport,seq,stddev,N_IN_Conn_P_SrcIP,min,state_number,mean,N_IN_Conn_P_DstIP,drate,srate,max"
FLOWS = f"""{HEAD},attack,category,subcategory
792371,udp,192.168.100.150,48516,192.168.100.3,80,175094,0.226784,100,4.100436,4,4.457383,100,0,0.404711,4.719438,1,DDoS,UDP
2056418,tcp,192.168.100.148,0x0303,192.168.100.3,-1,143024,0.451998,100,3.439257,1,3.806172,100,0.225077,0.401397,4.442930,1,DoS,HTTP
3577779,arp,fe80::1,,192.168.100.7,,14,0,2,1e-3,2,.5,3,0.5,0,1.0,0,Normal,Normal
3577780,tcp,192.168.100.150,4444,192.168.100.3,445,15,0,2,0.25,2,0.5,3,0.5,0,1,1,Theft,Data_Exfiltration
"""
TRAIN, TEST, SINGLE = (f"bot-iot/UNSW_2018_IoT_Botnet_Final_10_{part}.csv" for part in ("best_Training", "best_Testing", "Best"))


def load(folder: Path, flows: str | bytes, **values: Any) -> Table:
    return BotIot(check=False, **values).load(put(folder, {SINGLE: flows})).tables["all"]


def agrees_with_flows(table: Table, data: bytes, loader: type[Flows], name: str) -> None:
    """What `loader` made of a file is what the csv module finds below the line that has a column `name`."""
    lines = data.decode().removeprefix("\ufeff").split("\n")
    places = [
        (i, mark) for i, line in enumerate(lines) for mark in ",;" if name in [cell.strip(' "\r').lower() for cell in line.split(mark)]
    ]
    first, separator = places[0]
    head, *rows = rows_of("\n".join(lines[first:]).encode(), separator, False)
    at = {text.strip().strip('"').strip().lower(): i for i, text in enumerate(head)}
    assert sorted(at) == sorted(column.name.lower() for column in loader.columns)
    assert len(table) == len(rows)
    for i, feature in enumerate(table.number_features):
        expected = np.array([float(row[at[feature.name.lower()]]) for row in rows])
        np.testing.assert_array_equal(table.numbers[:, i], expected.astype(np.float32))
    for feature in table.category_features:
        assert table.column(feature.name).texts() == [row[at[feature.name.lower()]] for row in rows]
    assert table.label is not None
    assert table.label.tolist() == [float(row[at[loader.label.lower()]]) for row in rows]
    if loader.kinds:
        assert table.column("kind").texts() == ["-".join(row[at[kind.lower()]].strip() for kind in loader.kinds) for row in rows]


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_bot_iot(tmp_path: Path, separator: str, end: str) -> None:
    table = load(tmp_path, FLOWS.replace(",", separator).replace("\n", end))
    assert tuple(feature.name for feature in table.features) == TEN
    assert {feature.kind for feature in table.features} == {"number"}
    assert table.numbers.dtype == np.float32
    np.testing.assert_array_equal(table.numbers[2], np.array([14, 0, 2, 1e-3, 2, 0.5, 3, 0.5, 0, 1], dtype=np.float32))
    assert table.label is not None
    assert table.label.tolist() == [1, 1, 0, 1]
    assert table.column("kind").texts() == ["DDoS-UDP", "DoS-HTTP", "Normal-Normal", "Theft-Data_Exfiltration"]
    assert table.column("kind").levels == ("DDoS-UDP", "DoS-HTTP", "Normal-Normal", "Theft-Data_Exfiltration")


def test_columns_may_stand_in_another_order_and_have_spaces_around_kinds(tmp_path: Path) -> None:
    turned = "\n".join(",".join(line.split(",")[::-1]) for line in FLOWS.replace("Normal,Normal", "Normal ,Normal").splitlines())
    same(load(tmp_path, turned), load(tmp_path, FLOWS))


def test_what_was_left_out_can_be_kept(tmp_path: Path) -> None:
    table = load(tmp_path, FLOWS, keep=("sport", "proto", "pkSeqID"))
    assert [feature.name for feature in table.number_features] == ["pkSeqID", *TEN]
    assert [feature.name for feature in table.category_features] == ["proto", "sport"]
    assert table.column("sport").texts() == ["48516", "0x0303", "", "4444"]
    with pytest.raises(RecipeError, match=r"'saddrs' is no column that is left out by default; did you mean 'saddr'\?"):
        build(LOADERS, {"name": "bot-iot", "keep": ["saddrs"]}, "[data]")
    with pytest.raises(RecipeError, match="'seq' is no column that is left out"):
        build(LOADERS, {"name": "bot-iot", "keep": ["seq"]}, "[data]")


@pytest.mark.parametrize("spelt", ["10_best", "10-best", "10_Best"])
def test_training_and_testing_file(tmp_path: Path, spelt: str) -> None:
    head, *rows = FLOWS.splitlines()
    put(tmp_path, {TRAIN.replace("10_best", spelt): "\n".join([head, *rows[:3]]), f"{TEST}.gz": "\n".join([head, *rows[2:]])})
    assert BotIot.is_here(tmp_path)
    parts = BotIot(check=False).load(tmp_path).tables
    assert {part: len(table) for part, table in parts.items()} == {"train": 3, "test": 2}
    assert parts["train"].features == parts["test"].features
    with pytest.raises(DataMissing, match=r"10_Best\.csv"):
        BotIot(check=False, split=False).load(tmp_path)


def test_the_two_files_go_before_the_single_one(tmp_path: Path) -> None:
    put(tmp_path, {SINGLE: FLOWS, TRAIN: FLOWS})
    assert BotIot.is_here(tmp_path)
    assert set(BotIot(check=False).load(tmp_path).tables) == {"all"}
    with pytest.raises(DataMissing, match=r"best_Testing\.csv"):
        BotIot(check=False, split=True).load(tmp_path)
    put(tmp_path, {TEST: FLOWS})
    assert set(BotIot(check=False).load(tmp_path).tables) == {"train", "test"}
    assert set(BotIot(check=False, split=False).load(tmp_path).tables) == {"all"}
    (tmp_path / SINGLE).unlink()
    (tmp_path / TEST).unlink()
    assert not BotIot.is_here(tmp_path)


def test_published_counts_are_checked(tmp_path: Path) -> None:
    put(tmp_path, {TRAIN: FLOWS, TEST: FLOWS})
    with pytest.raises(
        DataBroken, match=r"Testing.csv: 8 rows, 6 of them attacks, where 3,668,522 and 3,668,045 were published; .*check = false"
    ):
        BotIot().load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (FLOWS, "", ":1: none of the first 20 lines has a column 'pkSeqID' (separated by , or ;)"),
        (FLOWS, FLOWS.splitlines()[0], "Best.csv: the file has a header but no rows"),
        ("pkSeqID,", "", "none of the first 20 lines has a column 'pkSeqID'"),
        ("drate,srate", "drate", ":1: a header of 18 columns where 19 belong (separated by ',')"),
        ("drate,srate", "drate,srat", ":1: an unknown column 'srat'; did you mean 'srate'?"),
        ("drate,srate", "drate,drate", ":1: two columns are called 'drate'"),
        (",4.457383", "", ":2: 18 columns where 19 belong"),
        ("0.451998", "x", ":3: column 'stddev': 'x' is no finite number"),
        ("0.451998", "", ":3: column 'stddev': '' is no finite number"),
        ("1,DoS", "2,DoS", ":3: column 'attack': '2' is neither 0 nor 1"),
        ("DoS,HTTP", "N/A,HTTP", ":3: column 'category': 'N/A' does not look like"),
        ("DoS,HTTP", "DoS,", ":3: column 'subcategory': '' does not look like"),
        ("0,Normal", "1,Normal", ":4: column 'attack' says 1 where 'category' says 'Normal'; the file was changed"),
        ("1,Theft", "0,Theft", ":5: column 'attack' says 0 where 'category' says 'Theft'"),
    ],
)
def test_broken_flows_name_the_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    with pytest.raises(DataBroken) as error:
        load(tmp_path, FLOWS.replace(old, new, 1))
    assert expected in message(error)


def test_lines_above_the_header_count(tmp_path: Path) -> None:
    with pytest.raises(DataBroken, match=r"Best.csv:5: column 'stddev': 'x'"):
        load(tmp_path, "\nBoT-IoT\n" + FLOWS.replace("0.451998", "x"))
    with pytest.raises(DataBroken, match=r"Best.csv:6: column 'attack' says 1"):
        load(tmp_path, "\nBoT-IoT\n" + FLOWS.replace("0,Normal", "1,Normal"))


def test_the_fragment_with_eight_features_is_refused(data_root: Path, tmp_path: Path) -> None:
    """It lacks six of the ten features; a wrong table must not come of it."""
    (tmp_path / "UNSW_2018_IoT_Botnet_Final_10_Best.csv.gz").symlink_to(data_root / "botiot/botiot_5pc_random2pc_8features.csv.gz")
    with pytest.raises(DataBroken, match="none of the first 20 lines has a column 'pkSeqID'"):
        BotIot(check=False).load(tmp_path)


@settings(mutated, max_examples=30)
@given(st.data())
def test_mutated_bot_iot(draw: st.DataObject) -> None:
    values = {"keep": ("proto", "sport")}
    load_kept = lambda path, data: load(path, data, **values)  # noqa: E731
    check_mutated(draw, FLOWS, b",", load_kept, lambda table, data: agrees_with_flows(table, data, BotIot, "pkseqid"))


def test_the_data_set_has_no_order(tmp_path: Path) -> None:
    data: Dataset = BotIot(check=False).load(put(tmp_path, {SINGLE: FLOWS}))
    assert (data.name, data.ordered) == ("bot-iot", False)
