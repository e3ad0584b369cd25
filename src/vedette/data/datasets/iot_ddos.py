"""IoT-DDoS: the DDoS flows of BoT-IoT with all of its features, as packed for Kaggle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from vedette.data.dataset import Dataset
from vedette.data.datasets.bot_iot import ANY, CATEGORY, Flows
from vedette.data.datasets.official import TOKEN, Column
from vedette.data.stored import NewMatrix

__all__ = ["IotDdos"]

NAMES = """
pkSeqID stime flgs flgs_number proto proto_number saddr sport daddr dport pkts bytes state state_number ltime seq dur mean stddev sum
min max spkts dpkts sbytes dbytes rate srate drate TnBPSrcIP TnBPDstIP TnP_PSrcIP TnP_PDstIP TnP_PerProto TnP_Per_Dport
AR_P_Proto_P_SrcIP AR_P_Proto_P_DstIP N_IN_Conn_P_DstIP N_IN_Conn_P_SrcIP AR_P_Proto_P_Sport AR_P_Proto_P_Dport
Pkts_P_State_P_Protocol_P_DestIP Pkts_P_State_P_Protocol_P_SrcIP
"""
SYMBOLIC = {**dict.fromkeys(("saddr", "sport", "daddr", "dport"), ANY), "flgs": r"[ -~]{1,32}", "proto": TOKEN, "state": TOKEN}
BENIGN, ATTACKS = 79_035, 398_391


class IotDdos(Flows):
    """IoT-DDoS: one table, ``all``.

    Left out by default, because they say who and when instead of what: the unnamed index and ``pkSeqID`` (ids),
    ``stime`` and ``ltime`` (absolute times), ``seq`` (a running number of the records of a capture), ``saddr`` and ``daddr``
    (addresses), ``sport`` and ``dport`` (ports). ``flgs_number``, ``proto_number`` and ``state_number`` repeat
    ``flgs``, ``proto`` and ``state``, which are categories.

    Parameters
    ----------
    keep
        Columns to learn from although they are left out by default. Numbers are float32, too coarse for ``pkSeqID``, ``stime``, ``ltime``.
    check
        Demand the published number of rows and attacks; False accepts a sample.
    """

    title: ClassVar[str] = "IoT-DDoS: DDoS botnet attack on IoT devices (BoT-IoT, all features)"
    licence: ClassVar[str] = "that of BoT-IoT: free for academic research, commercial use only with the authors' agreement"
    source: ClassVar[str] = "Koroniotis, Moustafa, Sitnikova, Turnbull, Future Generation Computer Systems 100:779-796, 2019; on Kaggle"
    how: ClassVar[str] = (
        "get it from Kaggle, 'DDoS Botnet Attack on IOT Devices' (siddharthm1698/ddos-botnet-attack-on-iot-devices): iot-ddos/DDoSdata.csv"
    )
    folder: ClassVar[str] = "iot-ddos"
    official_files: ClassVar[tuple[str, ...]] = ("DDoSdata.csv",)
    columns: ClassVar[tuple[Column, ...]] = (
        Column("", "skip"),
        *(Column(name, "text", SYMBOLIC[name]) if name in SYMBOLIC else Column(name) for name in NAMES.split()),
        Column("attack", "flag"),
        Column("category", "text", CATEGORY),
        Column("subcategory", "text", r"[A-Za-z_ ]{1,32}"),
    )
    left_out: ClassVar[frozenset[str]] = frozenset(
        {"pkSeqID", "stime", "ltime", "seq", "saddr", "daddr", "sport", "dport", "flgs_number", "proto_number", "state_number"}
    )
    label: ClassVar[str] = "attack"
    kinds: ClassVar[tuple[str, ...]] = ("category", "subcategory")
    units: ClassVar[dict[str, str]] = {"dur": "s", "bytes": "B", "sbytes": "B", "dbytes": "B"}

    def sources(self, root: Path | None) -> dict[str, Path]:
        """Find the file; see `FileLoader.sources`."""
        return {"all": self.find(root, "DDoSdata.csv")}

    def read(self, sources: Mapping[str, Path], matrix: NewMatrix) -> Dataset:
        """Read ``all``; see `FileLoader.read`."""
        table = self._flows(sources["all"], matrix)
        self._check_published(sources["all"], [table], BENIGN + ATTACKS, ATTACKS)
        return Dataset("iot-ddos", {"all": table})
