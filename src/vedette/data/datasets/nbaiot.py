"""N-BaIoT: traffic of nine IoT devices, before and after two botnets infected them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np

from vedette.data.dataset import Dataset
from vedette.data.datasets.official import Column, distinct, read_files
from vedette.data.loading import FileLoader
from vedette.data.stored import NewMatrix
from vedette.data.table import Coded, Feature, Table
from vedette.errors import DataBroken

__all__ = ["AfterImage", "NBaiot"]

STREAMS = {
    "MI_dir": "weight mean variance",
    "H": "weight mean variance",
    "HH": "weight mean std magnitude radius covariance pcc",
    "HH_jit": "weight mean variance",
    "HpHp": "weight mean std magnitude radius covariance pcc",
}
"""What AfterImage computes of each stream of packets, over each of five windows."""
NAMES = tuple(f"{stream}_L{window}_{s}" for stream, said in STREAMS.items() for window in (5, 3, 1, 0.1, 0.01) for s in said.split())
TIME_LEAK = tuple(name for name in NAMES if name.startswith("HH_jit_") and name.endswith("_mean"))

BENIGN = "benign"
BOTNETS = ("gafgyt", "mirai")
KINDS = (
    BENIGN,
    *(f"gafgyt-{a}" for a in ("combo", "junk", "scan", "tcp", "udp")),
    *(f"mirai-{a}" for a in ("ack", "scan", "syn", "udp", "udpplain")),
)
# Rows of each published file, in the order of KINDS; two devices were never infected with Mirai.
ROWS = {
    "Danmini_Doorbell": (49548, 59718, 29068, 29849, 92141, 105874, 102195, 107685, 122573, 237665, 81982),
    "Ecobee_Thermostat": (13113, 53012, 30312, 27494, 95021, 104791, 113285, 43192, 116807, 151481, 87368),
    "Ennio_Doorbell": (39100, 53014, 29797, 28120, 101536, 103933),
    "Philips_B120N10_Baby_Monitor": (175240, 58152, 28349, 27859, 92581, 105782, 91123, 103621, 118128, 217034, 80808),
    "Provision_PT_737E_Security_Camera": (62154, 61380, 30898, 29297, 104510, 104011, 60554, 96781, 65746, 156248, 56681),
    "Provision_PT_838_Security_Camera": (98514, 57530, 29068, 28397, 89387, 104658, 57997, 97096, 61851, 158608, 53785),
    "Samsung_SNH_1011_N_Webcam": (52150, 58669, 28305, 27698, 97783, 110617),
    "SimpleHome_XCS7_1002_WHT_Security_Camera": (46585, 54283, 28579, 27825, 88816, 103720, 111480, 45930, 125715, 151879, 78244),
    "SimpleHome_XCS7_1003_WHT_Security_Camera": (19528, 59398, 27413, 28572, 98075, 102980, 107187, 43674, 122479, 157084, 84436),
}
DEVICES = tuple(ROWS)


class AfterImage(FileLoader):
    """Base of the data sets made of Kitsune's 115 AfterImage features.

    Parameters
    ----------
    keep_time_leak
        Keep the five ``HH_jit_*_mean``. They hold the date of the capture in seconds since 1970 where a channel has sent its first
        packet (the time since a packet that never was) and decay from there. As attacks were captured on other days than benign
        traffic, a detector can tell them apart by the calendar, so they are left out by default.
    """

    keep_time_leak: bool = False

    @property
    def _columns(self) -> list[Column]:
        return [Column(name, "skip" if name in TIME_LEAK and not self.keep_time_leak else "number") for name in NAMES]

    @property
    def _features(self) -> tuple[Feature, ...]:
        return tuple(Feature(column.name) for column in self._columns if column.kind == "number")


class _File(NamedTuple):
    """One file of one device: what it holds, and how many rows were published."""

    device: str
    kind: str
    rows: int

    @property
    def botnet(self) -> str:
        """Whose attack it is, or ``"benign"``."""
        return self.kind.partition("-")[0]

    @property
    def official(self) -> str:
        botnet, _, attack = self.kind.partition("-")
        return f"{self.device}/{botnet}_attacks/{attack}.csv" if attack else f"{self.device}/benign_traffic.csv"

    @property
    def packed(self) -> str:
        """Its name as packed by Kaggle."""
        return f"{DEVICES.index(self.device) + 1}.{self.kind.replace('-', '.')}.csv"


FILES = tuple(_File(device, kind, rows) for device in DEVICES for kind, rows in zip(KINDS, ROWS[device], strict=False))


class NBaiot(AfterImage):
    """N-BaIoT: ``all`` rows of whichever devices and attacks are there, each device a group.

    Reads the official layout (a folder for each device) and the one packed by Kaggle (``1.benign.csv`` …). Rows stand as in their
    file, files in the order benign, gafgyt, mirai. That is not the order of capture: the attacks of a botnet took turns, and a
    sample may have been drawn in any order, so rows count as unordered. Numbers are float32, which holds a date (`keep_time_leak`)
    to two minutes.

    Parameters
    ----------
    devices
        The devices to read, by the names of their official folders; all that are there if empty.
    botnets
        Only attacks of these, ``"gafgyt"`` or ``"mirai"``; of both if empty. Benign rows are always read. Two of the devices were never
        infected with Mirai.
    check
        Demand every file of these devices (of all nine if none is named) and botnets with its published number of rows. By default a
        sample is accepted, those of the files that are there: the whole has 7,062,606 rows.
    """

    title: ClassVar[str] = "N-BaIoT: traffic of 9 IoT devices, benign and under Gafgyt and Mirai"
    licence: ClassVar[str] = (
        "CC BY 4.0 as understood to be listed by UCI (data set 442), confirm before redistributing; the authors ask to be cited"
    )
    source: ClassVar[str] = "Meidan et al., N-BaIoT: Network-based Detection of IoT Botnet Attacks, IEEE Pervasive Computing 17(3), 2018"
    how: ClassVar[str] = (
        "get it from the UCI Machine Learning Repository (data set 442) and unpack its .rar files: "
        "n-baiot/Danmini_Doorbell/benign_traffic.csv, gafgyt_attacks/combo.csv …, or from Kaggle: n-baiot/1.benign.csv …"
    )
    folder: ClassVar[str] = "n-baiot"
    official_files: ClassVar[tuple[str, ...]] = tuple(file.official for file in FILES)

    devices: Annotated[tuple[str, ...], distinct("device", DEVICES)] = ()
    botnets: Annotated[tuple[str, ...], distinct("botnet", BOTNETS)] = ()
    check: bool = False

    def sources(self, root: Path | None) -> dict[str, Path]:
        """Find the files that are there, or all of them if they are to be checked, by official name; see `FileLoader.sources`."""
        botnets = (BENIGN, *(self.botnets or BOTNETS))
        wanted = [file for file in FILES if file.device in (self.devices or DEVICES) and file.botnet in botnets]
        places = {file: self.place_of(root, file.official) or self.place_of(root, file.packed) for file in wanted}
        there = {file.device for file, path in places.items() if path is not None}
        for device in self.devices or [wanted[0].device] * (not there):
            if device not in there:
                self.find(root, next(file.official for file in wanted if file.device == device))
        missing = [file for file, path in places.items() if path is None]
        if self.check and missing:
            self.find(root, missing[0].official)
        return {file.official: path for file, path in places.items() if path is not None}

    def read(self, sources: Mapping[str, Path], matrix: NewMatrix) -> Dataset:
        """Read ``all``; see `FileLoader.read`."""
        files = [file for file in FILES if file.official in sources]
        paths = [sources[file.official] for file in files]
        content, rows = read_files(paths, self._columns, with_header=True, matrix=matrix)
        for file, path, count in zip(files, paths, rows, strict=True):
            if self.check and count != file.rows:
                raise DataBroken(
                    f"{path}: {count:,} rows where {file.rows:,} were published; "
                    "get the whole file, or set check = false if it is meant to be a sample"
                )
        label = np.repeat(np.array([file.kind != BENIGN for file in files], dtype=np.int8), rows)
        kind = _repeated([file.kind for file in files], KINDS, rows)
        group = _repeated([file.device for file in files], DEVICES, rows)
        return Dataset("n-baiot", {"all": Table(self._features, content.numbers, label=label, kind=kind, group=group)})

    @classmethod
    def place_of(cls, root: Path | None, name: str) -> Path | None:
        # Many call the folder as the hyphen-less name of the data set.
        return super().place_of(root, name) or super().place_of(root and root / "nbaiot", name)


def _repeated(texts: Sequence[str], levels: Sequence[str], rows: Sequence[int]) -> Coded:
    """Return a column that says one text for all rows of a file."""
    known = [level for level in levels if level in texts]
    return Coded(np.repeat(np.array([known.index(text) for text in texts], dtype=np.int32), rows), tuple(known))
