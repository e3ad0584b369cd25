"""UNSW-NB15: flows of a simulated network, each normal or one of nine kinds of attack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from vedette.data.dataset import Dataset
from vedette.data.datasets.official import Column, read
from vedette.data.loading import FileLoader
from vedette.data.stored import NewMatrix
from vedette.data.table import Feature, Table
from vedette.errors import DataBroken

__all__ = ["UnswNb15"]

NAMES = """
dur proto service state spkts dpkts sbytes dbytes rate sttl dttl sload dload sloss dloss sinpkt dinpkt sjit djit swin stcpb dtcpb dwin
tcprtt synack ackdat smean dmean trans_depth response_body_len ct_srv_src ct_state_ttl ct_dst_ltm ct_src_dport_ltm ct_dst_sport_ltm
ct_dst_src_ltm is_ftp_login ct_ftp_cmd ct_flw_http_mthd ct_src_ltm ct_srv_dst is_sm_ips_ports
"""
SYMBOLIC = {"proto", "service", "state"}
UNITS = {
    **dict.fromkeys(("dur", "tcprtt", "synack", "ackdat"), "s"),
    **dict.fromkeys(("sinpkt", "dinpkt", "sjit", "djit"), "ms"),
    **dict.fromkeys(("sbytes", "dbytes", "smean", "dmean", "response_body_len"), "B"),
    **dict.fromkeys(("sload", "dload"), "bit/s"),
}
FEATURES = tuple(Feature(name, "category" if name in SYMBOLIC else "number", UNITS.get(name, "")) for name in NAMES.split())
NORMAL = "Normal"
KINDS = (NORMAL, "Analysis", "Backdoor", "DoS", "Exploits", "Fuzzers", "Generic", "Reconnaissance", "Shellcode", "Worms")
COLUMNS = (
    Column("id", "skip"),
    *(Column(f.name, "text", r"[A-Za-z0-9_.+/\-]{1,64}") if f.name in SYMBOLIC else Column(f.name) for f in FEATURES),
    Column("attack_cat", "text", "|".join(KINDS)),
    Column("label", "flag"),
)
PUBLISHED = {175_341: 56_000, 82_332: 37_000}
"""Normal rows by rows, of the two partitions."""


class UnswNb15(FileLoader):
    """UNSW-NB15, the partitions its authors cut out for training and testing.

    Public copies swap the names of the two files, so the larger one is ``train`` and the other ``test``, whatever they are called.
    Where only one of them is there, the data set has that one alone, as ``all``.

    The column ``id`` counts the rows and is left out. ``attack_cat`` becomes the kind of a row, ``label`` its label.

    Parameters
    ----------
    check
        Demand the published number of rows and normal rows; False accepts a sample.
    """

    title: ClassVar[str] = "UNSW-NB15 network flows, 9 kinds of attack (the two official partitions)"
    licence: ClassVar[str] = "academic research only; commercial use must be agreed with the authors; redistribution not stated"
    source: ClassVar[str] = "Moustafa and Slay, UNSW-NB15: a comprehensive data set for network intrusion detection systems, MilCIS 2015"
    how: ClassVar[str] = (
        "get it from research.unsw.edu.au/projects/unsw-nb15-dataset: "
        "unsw-nb15/UNSW_NB15_training-set.csv and unsw-nb15/UNSW_NB15_testing-set.csv, or one of them"
    )
    folder: ClassVar[str] = "unsw-nb15"
    official_files: ClassVar[tuple[str, ...]] = ("UNSW_NB15_training-set.csv", "UNSW_NB15_testing-set.csv")

    check: bool = True

    def sources(self, root: Path | None) -> dict[str, Path]:
        """Find the partitions, or one of them; see `FileLoader.sources`."""
        found = {name: path for name in self.official_files if (path := self.place_of(root, name)) is not None}
        return found or {self.official_files[0]: self.find(root, self.official_files[0])}

    def read(self, sources: Mapping[str, Path], matrix: NewMatrix) -> Dataset:
        """Read ``train`` and ``test``, or ``all``; see `FileLoader.read`."""
        paths = list(sources.values())
        tables = [self._flows(path, matrix) for path in paths]
        if self.check and len(tables) == 2 and len(tables[0]) == len(tables[1]):
            raise DataBroken(f"{paths[1]}: the same partition as '{paths[0]}'; get the other one, or take one of them away")
        # Equally long samples keep the order of their names.
        tables.sort(key=len, reverse=True)
        return Dataset("unsw-nb15", dict(zip(("train", "test") if len(tables) == 2 else ("all",), tables, strict=True)))

    def _flows(self, path: Path, matrix: NewMatrix) -> Table:
        content = read(path, COLUMNS, with_header=True, matrix=matrix)
        kind, label = content.texts["attack_cat"], content.flags["label"]
        normal = np.array([level == NORMAL for level in kind.levels])[kind.codes]
        wrong = normal == (label == 1)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataBroken(f"{path}:{row + 2}: attack_cat '{kind.levels[kind.codes[row]]}' and label {label[row]} contradict each other")
        if self.check and PUBLISHED.get(len(label)) != int(normal.sum()):
            published = " or ".join(f"{rows:,} and {normal_rows:,}" for rows, normal_rows in PUBLISHED.items())
            raise DataBroken(
                f"{path}: {len(label):,} rows, {normal.sum():,} of them normal, where {published} were published; "
                "get the whole file, or set check = false if it is meant to be a sample"
            )
        return Table(
            FEATURES, content.numbers, tuple(content.texts[f.name] for f in FEATURES if f.name in SYMBOLIC), label=label, kind=kind
        )
