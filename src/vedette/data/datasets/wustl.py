"""WUSTL: network flows of two industrial control test beds (SCADA 2018, IIoT 2021) of Washington University in St. Louis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from vedette.data.dataset import Dataset
from vedette.data.datasets.bot_iot import ANY, Flows
from vedette.data.datasets.official import TOKEN, Column
from vedette.data.stored import NewMatrix

__all__ = ["WustlIiot2021", "WustlScada2018"]

IIOT = """
StartTime LastTime SrcAddr DstAddr Mean Sport Dport SrcPkts DstPkts TotPkts DstBytes SrcBytes TotBytes SrcLoad DstLoad Load SrcRate DstRate
Rate SrcLoss DstLoss Loss pLoss SrcJitter DstJitter SIntPkt DIntPkt Proto Dur TcpRtt IdleTime Sum Min Max sDSb sTtl dTtl sIpId dIpId
SAppBytes DAppBytes TotAppByte SynAck RunTime sTos SrcJitAct DstJitAct
"""
SYMBOLIC = {**dict.fromkeys(("StartTime", "LastTime", "SrcAddr", "DstAddr", "Sport", "Dport"), ANY), "Proto": TOKEN}


class Wustl(Flows):
    """Base of both: one file, one table."""

    published: ClassVar[tuple[int, int]]

    label: ClassVar[str] = "Target"

    def sources(self, root: Path | None) -> dict[str, Path]:
        """Find the file; see `FileLoader.sources`."""
        return {"all": self.find(root, self.official_files[0])}

    def read(self, sources: Mapping[str, Path], matrix: NewMatrix) -> Dataset:
        """Read ``all``; see `FileLoader.read`."""
        table = self._flows(sources["all"], matrix)
        self._check_published(sources["all"], [table], *self.published)
        return Dataset(self.folder, {"all": table})


class WustlScada2018(Wustl):
    """WUSTL-SCADA-2018 (also called WUSTL-IIOT-2018): reconnaissance of a water tank's SCADA network; one table, ``all``.

    ``Sport`` is left out by default: the port from which a scanning tool sends says that it is the tool, not what it does.

    Parameters
    ----------
    keep
        ``("Sport",)`` learns from the source port too, as a number: what was published used all six columns.
    check
        Demand the published number of rows and attacks; False accepts a sample.
    """

    title: ClassVar[str] = "WUSTL-SCADA-2018: flows of a SCADA test bed under reconnaissance"
    licence: ClassVar[str] = "not stated; offered to researchers"
    source: ClassVar[str] = "Teixeira, Salman, Zolanvari, Jain, Meskin, Samaka, Future Internet 10(8):76, 2018"
    how: ClassVar[str] = "get it from Washington University (cse.wustl.edu/~jain/iiot/index.html): wustl-scada-2018/wustl-scada-2018.csv"
    folder: ClassVar[str] = "wustl-scada-2018"
    official_files: ClassVar[tuple[str, ...]] = ("wustl-scada-2018.csv",)
    columns: ClassVar[tuple[Column, ...]] = (
        *(Column(name) for name in ("Sport", "TotPkts", "TotBytes", "SrcPkts", "DstPkts", "SrcBytes")),
        Column("Target", "flag"),
    )
    left_out: ClassVar[frozenset[str]] = frozenset({"Sport"})
    units: ClassVar[dict[str, str]] = {"TotBytes": "B", "SrcBytes": "B"}
    published: ClassVar[tuple[int, int]] = (7_037_983, 471_545)


class WustlIiot2021(Wustl):
    """WUSTL-IIOT-2021: an industrial IoT test bed under four kinds of attack; one table, ``all``.

    Left out by default, because they leak the label: ``StartTime``, ``LastTime`` and ``IdleTime`` (which holds an absolute time, not
    a span), ``SrcAddr`` and ``DstAddr``, ``Sport`` and ``Dport``, ``sIpId`` and ``dIpId``. The authors themselves ask to remove
    times, addresses and IP ids; ports and ``IdleTime`` are left out here in addition. ``Proto`` is a category.

    Parameters
    ----------
    keep
        Columns to learn from although they are left out by default; all but IdleTime, sIpId and dIpId become categories.
        ``("Sport", "Dport", "IdleTime")`` gives the 41 features that were published.
    check
        Demand the published number of rows and attacks; False accepts a sample.
    """

    title: ClassVar[str] = "WUSTL-IIOT-2021: flows of an industrial IoT test bed under attack"
    licence: ClassVar[str] = "not stated; offered to researchers"
    source: ClassVar[str] = "Zolanvari, Gupta, Khan, Jain, WUSTL-IIOT-2021, Washington University in St. Louis, 2021"
    how: ClassVar[str] = "get it from Washington University (cse.wustl.edu/~jain/iiot2/index.html): wustl-iiot-2021/wustl_iiot_2021.csv"
    folder: ClassVar[str] = "wustl-iiot-2021"
    official_files: ClassVar[tuple[str, ...]] = ("wustl_iiot_2021.csv",)
    columns: ClassVar[tuple[Column, ...]] = (
        *(Column(name, "text", SYMBOLIC[name]) if name in SYMBOLIC else Column(name) for name in IIOT.split()),
        Column("Traffic", "text", r" ?[A-Za-z_ ]{1,32}"),
        Column("Target", "flag"),
    )
    left_out: ClassVar[frozenset[str]] = frozenset(
        {"StartTime", "LastTime", "IdleTime", "SrcAddr", "DstAddr", "Sport", "Dport", "sIpId", "dIpId"}
    )
    kinds: ClassVar[tuple[str, ...]] = ("Traffic",)
    units: ClassVar[dict[str, str]] = {"SrcBytes": "B", "DstBytes": "B", "TotBytes": "B", "Dur": "s"}
    published: ClassVar[tuple[int, int]] = (1_194_464, 87_016)
