"""IoT-DDoS: 46 columns and an index, of which those that say who and when are left out."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.official_files import check_mutated, message, mutated
from data.test_bot_iot import agrees_with_flows
from samples import put
from vedette.data.datasets import LOADERS
from vedette.data.datasets.iot_ddos import NAMES, IotDdos
from vedette.data.table import Table
from vedette.errors import DataBroken
from vedette.settings import build

LEAKS = {"", "pkSeqID", "stime", "ltime", "seq", "saddr", "daddr", "sport", "dport"}
TWINS = {"flgs_number", "proto_number", "state_number"}
SYMBOLIC = ["flgs", "proto", "state"]


def row(i: int, *label: str) -> str:
    texts = {"flgs": "e s", "proto": "tcp", "saddr": "192.168.100.150", "sport": "0x0303", "daddr": "192.168.100.3", "dport": "80"}
    texts |= {"state": "RST" if i else "CON"}
    return ",".join([f"{i}", *(texts.get(name, f"{i + k / 8:g}") for k, name in enumerate(NAMES.split())), *label])


FLOWS = "\n".join(
    [",".join(["", *NAMES.split(), "attack,category,subcategory"]), row(0, "1", "DDoS", "HTTP"), row(1, "0", "Normal", "Normal"), ""]
)


def load(folder: Path, flows: str | bytes, **values: Any) -> Table:
    return IotDdos(check=False, **values).load(put(folder, {"iot-ddos/DDoSdata.csv": flows})).tables["all"]


def test_iot_ddos(tmp_path: Path) -> None:
    table = load(tmp_path, FLOWS)
    assert [f.name for f in table.features] == [name for name in NAMES.split() if name not in LEAKS | TWINS]
    assert [f.name for f in table.category_features] == SYMBOLIC
    pkts = [f.name for f in table.number_features].index("pkts")
    assert table.numbers[:, pkts].tolist() == [NAMES.split().index("pkts") / 8, 1 + NAMES.split().index("pkts") / 8]
    assert table.column("state").texts() == ["CON", "RST"]
    assert table.column("kind").texts() == ["DDoS-HTTP", "Normal-Normal"]
    assert table.label is not None
    assert table.label.tolist() == [1, 0]


def test_all_that_is_left_out_is_named_where_people_read(tmp_path: Path) -> None:
    said = IotDdos.__doc__ or ""
    assert all(f"``{name}``" in said for name in (LEAKS | TWINS) - {""})
    table = load(tmp_path, FLOWS, keep=sorted((LEAKS | TWINS) - {""}))
    assert [f.name for f in table.features] == NAMES.split()


def test_published_counts_are_checked(tmp_path: Path) -> None:
    load(tmp_path, FLOWS)
    with pytest.raises(DataBroken, match=r"DDoSdata.csv: 2 rows, 1 of them attacks, where 477,426 and 398,391 were published"):
        build(LOADERS, "iot-ddos", "[data]").load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (",pkSeqID", "pkSeqID", "DDoSdata.csv:1: a header of 46 columns where 47 belong"),
        (",pkSeqID", "index,pkSeqID", "DDoSdata.csv:1: an unknown column 'index'"),
        (",1,DDoS", ",0,DDoS", "DDoSdata.csv:2: column 'attack' says 0 where 'category' says 'DDoS'; the file was changed"),
        (",1,DDoS", ",0,N/A", "DDoSdata.csv:2: column 'category': 'N/A' does not look like"),
    ],
)
def test_broken_flows_name_the_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    with pytest.raises(DataBroken) as error:
        load(tmp_path, FLOWS.replace(old, new, 1))
    assert expected in message(error)


@settings(mutated, max_examples=30)
@given(st.data())
def test_mutated_iot_ddos(draw: st.DataObject) -> None:
    check_mutated(draw, FLOWS, b",", load, lambda table, data: agrees_with_flows(table, data, IotDdos, "pkseqid"))


def test_real_rows_are_those_of_the_csv_module(data_root: Path, tmp_path: Path) -> None:
    sample = data_root / "botiot/DDoSdata_sample96.csv.gz"
    (tmp_path / "DDoSdata.csv.gz").symlink_to(sample)
    table = IotDdos(check=False).load(tmp_path).tables["all"]
    assert len(table) == 96
    assert len(table.features) == 46 - 3 - len(LEAKS - {""}) - len(TWINS)
    assert table.label is not None
    assert np.unique(table.label).tolist() == [1]
    agrees_with_flows(table, gzip.decompress(sample.read_bytes()), IotDdos, "pkseqid")
