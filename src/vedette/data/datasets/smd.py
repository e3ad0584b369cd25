"""SMD: five weeks of 28 servers, 38 metrics a minute, with the metrics each incident was seen in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np

from vedette.data.dataset import Dataset
from vedette.data.datasets.official import Column, distinct, read, read_files
from vedette.data.loading import FileLoader
from vedette.data.stored import NewMatrix, in_memory
from vedette.data.table import Coded, Feature, Table
from vedette.errors import DataBroken, UnknownName
from vedette.message import Array
from vedette.registry import suggestion

__all__ = ["MACHINES", "RootCause", "Smd", "root_causes"]

MACHINES = tuple(f"machine-{group}-{i}" for group, machines in ((1, 8), (2, 9), (3, 11)) for i in range(1, machines + 1))
DIMS = tuple(Feature(f"dim-{i}") for i in range(1, 39))
STEP = 60.0
"""Seconds from row to row."""
# Rows to train on, rows to test on, anomalous ones among these: of the machines whose files were counted, and of all 28 together.
COUNTS = {
    "machine-1-2": (23_694, 23_694, 542),
    "machine-1-3": (23_702, 23_703, 817),
    "machine-1-4": (23_706, 23_707, 720),
    "machine-1-5": (23_705, 23_706, 100),
    "machine-1-6": (23_688, 23_689, 3_708),
    "machine-1-7": (23_697, 23_697, 2_398),
    "machine-1-8": (23_698, 23_699, 763),
}
TOTAL = (708_405, 708_420, 29_444)
LOADED = ("train", "test", "test_label")
PUBLISHED = "were published; get the whole files, or set check = false if they are meant to be a sample"


class RootCause(NamedTuple):
    """The metrics in which one incident was seen.

    Attributes
    ----------
    start, end
        Rows of the machine's test table, from 0, `end` excluded.
    dims
        Numbers of the metrics, from 1: 9 is the feature ``dim-9``.
    """

    start: int
    end: int
    dims: tuple[int, ...]


class Smd(FileLoader):
    """Server Machine Dataset: ``train`` (taken as normal throughout) and ``test`` of whichever machines are there.

    Each machine is a group. The files hold no time but a row a minute, so `time` is 60 s times the row's number in the
    machine's file; the test rows of a machine follow its training rows in reality, but are counted from 0 as well.
    What an incident was seen in is told by `root_causes`.

    Parameters
    ----------
    machines
        The machines to read: ``("machine-1-2", …)``; all that are there if empty.
    check
        Demand the published number of rows and anomalous rows, as far as they are known for single machines, and in all if
        all 28 are read; False accepts a sample.
    """

    title: ClassVar[str] = "SMD: Server Machine Dataset, 28 servers, 38 metrics a minute"
    licence: ClassVar[str] = "MIT, Copyright (c) 2021 NetManAIOps-SMD"
    source: ClassVar[str] = "Su, Zhao, Niu, Liu, Sun, Pei: Robust Anomaly Detection for Multivariate Time Series (OmniAnomaly), KDD 2019"
    how: ClassVar[str] = (
        "get it from GitHub NetManAIOps/OmniAnomaly, folder ServerMachineDataset: smd/train/machine-1-1.txt …, and as many machines "
        "as wanted in test/, test_label/ and interpretation_label/"
    )
    folder: ClassVar[str] = "smd"
    official_files: ClassVar[tuple[str, ...]] = tuple(f"{part}/{m}.txt" for part in (*LOADED, "interpretation_label") for m in MACHINES)

    machines: Annotated[tuple[str, ...], distinct("machine", MACHINES)] = ()
    check: bool = True

    def sources(self, root: Path | None) -> dict[str, Path]:
        """Find the files of the machines asked for, or of those of which there is any; see `FileLoader.sources`."""
        machines = self.machines or self._present(root)
        names = [f"{part}/{machine}.txt" for part in LOADED for machine in machines]
        return {name: self.find(root, name) for name in names}

    def read(self, sources: Mapping[str, Path], matrix: NewMatrix) -> Dataset:
        """Read ``train`` and ``test``; see `FileLoader.read`."""
        machines = [machine for machine in self.machines or MACHINES if f"train/{machine}.txt" in sources]
        train, test, label = ([sources[f"{part}/{machine}.txt"] for machine in machines] for part in LOADED)
        train_table, train_rows = _table(machines, train, matrix=matrix)
        test_table, test_rows = _table(machines, test, label, matrix)
        assert test_table.label is not None
        anomalies = [int(part.sum()) for part in np.split(test_table.label, np.cumsum(test_rows)[:-1])]
        if self.check:
            _check(dict(zip(machines, zip(train_rows, test_rows, anomalies, strict=True), strict=True)), train)
        return Dataset("smd", {"train": train_table, "test": test_table}, ordered=True)

    def _present(self, root: Path | None) -> tuple[str, ...]:
        """Return the machines of which there is any file, so that one that lacks another is noticed."""
        present = [m for m in MACHINES if any(self.place_of(root, f"{part}/{m}.txt") for part in LOADED)]
        return tuple(present) or MACHINES[:1]


def root_causes(root: Path | None, machine: str) -> list[RootCause]:
    """Return the incidents of one machine and the metrics they were seen in, in the order of time.

    They are the publishers' second opinion: for some machines they and the labels of the test rows name slightly different rows.

    Parameters
    ----------
    root
        The data root, as for `Smd.load`.
    machine
        ``"machine-1-2"``.

    Raises
    ------
    UnknownName
        No machine of this name.
    DataMissing
        Its files are not there.
    DataBroken
        A line is no ``start-end:dim,dim,…``, or names rows that the machine's test table does not have.
    """
    if machine not in MACHINES:
        raise UnknownName(f"no machine is called '{machine}'; {suggestion(machine, MACHINES)}")
    path = Smd.find(root, f"interpretation_label/{machine}.txt")
    content = read(
        path,
        [
            Column("rows", "text", r"[0-9]{1,9}-[0-9]{1,9}"),
            Column("dims", "text", r"([1-9]|[12][0-9]|3[0-8])(,([1-9]|[12][0-9]|3[0-8])){0,37}"),
        ],
        ":",
    )
    rows = len(read(Smd.find(root, f"test_label/{machine}.txt"), [Column("label", "flag")]).flags["label"])
    causes = []
    for line, (span, dims) in enumerate(zip(content.texts["rows"].texts(), content.texts["dims"].texts(), strict=True), start=1):
        start, end = map(int, span.split("-"))
        if not start < end <= rows:
            raise DataBroken(f"{path}:{line}: rows {span}, where the first must lie before the last and the last at most at {rows}")
        causes.append(RootCause(start, end, tuple(map(int, dims.split(",")))))
    return sorted(causes)


def _table(
    machines: Sequence[str], paths: Sequence[Path], labels: Sequence[Path] = (), matrix: NewMatrix = in_memory
) -> tuple[Table, list[int]]:
    """Read the rows of some machines; without files of labels they are all normal."""
    content, rows = read_files(paths, [Column(dim.name) for dim in DIMS], matrix=matrix)
    label = _labels(labels, rows, paths) if labels else np.zeros(sum(rows), dtype=np.int8)
    group = Coded(np.repeat(np.arange(len(machines), dtype=np.int32), rows), tuple(machines))
    time = np.concatenate([np.arange(count) * STEP for count in rows])
    return Table(DIMS, content.numbers, label=label, group=group, time=time), rows


def _labels(paths: Sequence[Path], rows: Sequence[int], labelled: Sequence[Path]) -> Array:
    content, found = read_files(paths, [Column("label", "flag")])
    for path, count, wanted, test in zip(paths, found, rows, labelled, strict=True):
        if count != wanted:
            raise DataBroken(f"{path}: {count:,} labels for the {wanted:,} rows of '{test}'; get both files again")
    return content.flags["label"]


def _check(found: dict[str, tuple[int, int, int]], paths: Sequence[Path]) -> None:
    """Compare what was found with what was published."""
    said = "{:,} rows to train on, {:,} to test on, {:,} of them anomalous"
    for (machine, counts), path in zip(found.items(), paths, strict=True):
        if counts != COUNTS.get(machine, counts):
            raise DataBroken(f"{path}: {machine} has {said.format(*counts)}, where {said.format(*COUNTS[machine])} {PUBLISHED}")
    total = tuple(map(sum, zip(*found.values(), strict=True)))
    if len(found) == len(MACHINES) and total != TOTAL:
        raise DataBroken(f"{paths[0].parent.parent}: {said.format(*total)}, where {said.format(*TOTAL)} {PUBLISHED}")
