"""WUSTL: two test beds, two layouts; addresses, times, ports and ids are no features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.official_files import check_mutated, message, mutated, same
from data.test_bot_iot import agrees_with_flows
from samples import put
from vedette.data.datasets import LOADERS, lines
from vedette.data.datasets.wustl import IIOT, WustlIiot2021, WustlScada2018
from vedette.data.table import Table
from vedette.errors import DataBroken, RecipeError
from vedette.settings import build

SCADA = """Sport,TotPkts,TotBytes,SrcPkts,DstPkts,SrcBytes,Target
143,2,180,2,0,180,0
68,20,1280,10,10,644,1
0,1.5,60,1,0,60,0
"""
LEAKS = {"StartTime", "LastTime", "IdleTime", "SrcAddr", "DstAddr", "Sport", "Dport", "sIpId", "dIpId"}
TEXTS = {"StartTime": "2019-08-19 12:23:28", "LastTime": "2019-08-19 12:23:28", "SrcAddr": "192.168.0.20", "DstAddr": "192.168.0.2"}


def iiot_row(i: int, traffic: str, target: int) -> str:
    texts = TEXTS | {"Proto": "6", "Sport": "59034", "IdleTime": "1548786176"}
    return ",".join([*(texts.get(name, f"{i + k / 8:g}") for k, name in enumerate(IIOT.split())), traffic, str(target)])


ROWS = [iiot_row(0, "normal", 0), iiot_row(1, "DoS", 1), iiot_row(2, "CommInj", 1)]
FLOWS = "\n".join([",".join([*IIOT.split(), "Traffic,Target"]), *ROWS, ""])


def scada(folder: Path, flows: str | bytes, **values: Any) -> Table:
    return WustlScada2018(check=False, **values).load(put(folder, {"wustl-scada-2018/wustl-scada-2018.csv": flows})).tables["all"]


def iiot(folder: Path, flows: str | bytes, **values: Any) -> Table:
    return WustlIiot2021(check=False, **values).load(put(folder, {"wustl-iiot-2021/wustl_iiot_2021.csv": flows})).tables["all"]


@pytest.mark.parametrize("case", [str, str.lower, str.upper])
def test_scada(tmp_path: Path, case: Any) -> None:
    head, rows = SCADA.split("\n", 1)
    table = scada(tmp_path, f"{case(head)}\n{rows}")
    assert [feature.name for feature in table.features] == ["TotPkts", "TotBytes", "SrcPkts", "DstPkts", "SrcBytes"]
    assert table.numbers.tolist() == [[2, 180, 2, 0, 180], [20, 1280, 10, 10, 644], [1.5, 60, 1, 0, 60]]
    assert table.numbers.dtype == np.float32
    assert table.label is not None
    assert table.label.tolist() == [0, 1, 0]
    assert table.kind is None


def test_the_source_port_can_be_kept(tmp_path: Path) -> None:
    table = scada(tmp_path, SCADA, keep=("Sport",))
    assert table.features[0].name == "Sport"
    assert table.numbers[:, 0].tolist() == [143, 68, 0]
    with pytest.raises(RecipeError, match="'TotPkts' is no column that is left out by default"):
        build(LOADERS, {"name": "wustl-scada-2018", "keep": ["TotPkts"]}, "[data]")


def test_blocks_give_the_same_table_as_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head, rows = SCADA.split("\n", 1)
    whole = scada(tmp_path, f"{head}\n{rows * 50}")
    for size in (1, 100, 333):
        monkeypatch.setattr(lines, "BLOCK", size)
        same(scada(tmp_path, f"{head}\n{rows * 50}"), whole)
        with pytest.raises(DataBroken, match=r"2018\.csv:152: column 'SrcPkts': 'x' is no finite number"):
            scada(tmp_path, f"{head}\n{rows * 50}1,2,3,x,5,6,0\n{rows}")


def test_iiot(tmp_path: Path) -> None:
    table = iiot(tmp_path, FLOWS)
    assert [feature.name for feature in table.features] == [name for name in IIOT.split() if name not in LEAKS]
    assert [feature.name for feature in table.category_features] == ["Proto"]
    assert table.numbers[:, 0].tolist() == [IIOT.split().index("Mean") / 8 + i for i in range(3)]
    assert table.column("kind").texts() == ["normal", "DoS", "CommInj"]
    assert table.label is not None
    assert table.label.tolist() == [0, 1, 1]


def test_all_that_is_left_out_is_named_where_people_read(tmp_path: Path) -> None:
    assert all(f"``{name}``" in (WustlIiot2021.__doc__ or "") for name in LEAKS)
    assert "``Sport``" in (WustlScada2018.__doc__ or "")
    assert [feature.name for feature in iiot(tmp_path, FLOWS, keep=tuple(LEAKS)).features] == IIOT.split()
    assert len(iiot(tmp_path, FLOWS, keep=("Sport", "Dport", "IdleTime")).features) == 41  # as its authors published


def test_published_counts_are_checked(tmp_path: Path) -> None:
    scada(tmp_path, SCADA)
    iiot(tmp_path, FLOWS)
    with pytest.raises(DataBroken, match=r"2018.csv: 3 rows, 1 of them attacks, where 7,037,983 and 471,545 were published"):
        WustlScada2018().load(tmp_path)
    with pytest.raises(DataBroken, match=r"2021.csv: 3 rows, 2 of them attacks, where 1,194,464 and 87,016 were published"):
        WustlIiot2021().load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (",Target", "", "2021.csv:1: a header of 48 columns where 49 belong"),
        ("TotAppByte", "TotAppBytes", "2021.csv:1: an unknown column 'TotAppBytes'; did you mean 'TotAppByte'?"),
        ("DoS,1", "DoS,0", "2021.csv:3: column 'Target' says 0 where 'Traffic' says 'DoS'"),
        ("normal,0", "normal,1", "2021.csv:2: column 'Target' says 1 where 'Traffic' says 'normal'"),
        ("normal,0", ",0", "2021.csv:2: column 'Traffic': '' does not look like"),
    ],
)
def test_broken_iiot_names_the_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    with pytest.raises(DataBroken) as error:
        iiot(tmp_path, FLOWS.replace(old, new, 1))
    assert expected in message(error)


@settings(mutated, max_examples=30)
@given(st.data())
def test_mutated_scada(draw: st.DataObject) -> None:
    load = lambda path, data: scada(path, data, keep=("Sport",))  # noqa: E731
    check_mutated(draw, SCADA, b",", load, lambda table, data: agrees_with_flows(table, data, WustlScada2018, "sport"))


@settings(mutated, max_examples=30)
@given(st.data())
def test_mutated_iiot(draw: st.DataObject) -> None:
    check_mutated(draw, FLOWS, b",", iiot, lambda table, data: agrees_with_flows(table, data, WustlIiot2021, "starttime"))
