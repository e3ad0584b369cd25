"""SKAB: a water circulation rig with eight sensors, valves closed by hand and other faults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field

from vedette.data.dataset import Dataset
from vedette.data.datasets.official import Column, read
from vedette.data.loading import FileLoader
from vedette.data.stored import NewMatrix
from vedette.data.table import Coded, Feature, Table, concat
from vedette.errors import DataBroken

__all__ = ["Skab"]

SENSORS = (
    Feature("Accelerometer1RMS", unit="g"),
    Feature("Accelerometer2RMS", unit="g"),
    Feature("Current", unit="A"),
    Feature("Pressure", unit="bar"),
    Feature("Temperature", unit="°C"),
    Feature("Thermocouple", unit="°C"),
    Feature("Voltage", unit="V"),
    Feature("Volume Flow RateRMS", unit="l/min"),
)
# Rows of each published file.
VALVE1 = (1147, 1145, 1075, 1148, 1095, 1154, 1154, 1094, 1144, 1148, 1146, 1141, 1140, 1140, 1139, 1150)
VALVE2 = (1125, 1063, 1129, 995)
OTHER = (745, 780, 1137, 1191, 1155, 1147, 1090, 1147, 1144, 1327, 1190, 1048, 923, 905)
FREE = "anomaly-free"
ROWS = {
    "valve1": {f"valve1/{i}": rows for i, rows in enumerate(VALVE1)},
    "valve2": {f"valve2/{i}": rows for i, rows in enumerate(VALVE2)},
    "other": {f"other/{i}": rows for i, rows in enumerate(OTHER, start=1)},
    FREE: {f"{FREE}/{FREE}": 9405},
}
SAMPLE = "get the whole data set, or set check = false if it is meant to be a sample"
ANOMALIES = {"valve1": 6_309, "valve2": 1_517, "other": 5_241, FREE: 0}

Folder = Literal["valve1", "valve2", "other"]


def _distinct(folders: tuple[Folder, ...]) -> tuple[Folder, ...]:
    if len(set(folders)) < len(folders):
        raise ValueError("each folder may be named once")
    return folders


class Skab(FileLoader):
    """SKAB v0.9: ``all`` holds the labelled experiments, ``anomaly-free`` the long run without faults.

    Parameters
    ----------
    folders
        The labelled folders to read.
    check
        Demand every file with its published number of rows and anomalies; False accepts a sample: those of the files that are there.
    """

    title: ClassVar[str] = "SKAB v0.9: water circulation rig, 8 sensors, 34 labelled experiments"
    licence: ClassVar[str] = "GPL-3.0"
    source: ClassVar[str] = "Katser and Kozitsin, Skoltech Anomaly Benchmark, 2020, DOI 10.34740/KAGGLE/DSV/1693952"
    how: ClassVar[str] = (
        "get it from GitHub waico/SKAB, folder data: skab/valve1/0.csv … 15.csv, valve2/, other/, anomaly-free/anomaly-free.csv"
    )
    folder: ClassVar[str] = "skab"
    official_files: ClassVar[tuple[str, ...]] = tuple(f"{name}.csv" for folder in ROWS.values() for name in folder)

    folders: Annotated[tuple[Folder, ...], Field(min_length=1), AfterValidator(_distinct)] = ("valve1", "valve2", "other")
    check: bool = True

    def sources(self, root: Path | None) -> dict[str, Path]:
        """Find the experiments by name, and the run without faults; see `FileLoader.sources`."""
        paths = {}
        for folder in (*self.folders, FREE):
            found = {name: self.place_of(root, f"{name}.csv") for name in ROWS[folder]}
            missing = [name for name, path in found.items() if path is None]
            if missing and (self.check or len(missing) == len(found)):
                self.find(root, f"{missing[0]}.csv")
            paths.update({name: path for name, path in found.items() if path is not None})
        return paths

    def read(self, sources: Mapping[str, Path], matrix: NewMatrix) -> Dataset:
        """Read ``all`` and ``anomaly-free``; see `FileLoader.read`."""
        del matrix  # a few megabytes in all
        folders = {folder: {name: sources[name] for name in ROWS[folder] if name in sources} for folder in (*self.folders, FREE)}
        tables = [self._folder(folder, paths) for folder, paths in folders.items()]
        return Dataset("skab", {"all": concat(tables[:-1]), FREE: tables[-1]}, ordered=True)

    def _folder(self, folder: str, paths: Mapping[str, Path]) -> Table:
        experiments = []
        for name, path in paths.items():
            experiments.append(_experiment(path, name, labelled=folder != FREE))
            if self.check and len(experiments[-1]) != ROWS[folder][name]:
                raise DataBroken(f"{path}: {len(experiments[-1]):,} rows where the published file has {ROWS[folder][name]:,}; {SAMPLE}")
        table = concat(experiments)
        found = 0 if table.label is None else int(table.label.sum())
        if self.check and found != ANOMALIES[folder]:
            raise DataBroken(f"{path.parent}: {found:,} anomalous rows where {ANOMALIES[folder]:,} were published; {SAMPLE}")
        return table


def _experiment(path: Path, name: str, labelled: bool) -> Table:
    labels = [Column("anomaly", "flag"), Column("changepoint", "flag")] if labelled else []
    content = read(path, [Column("datetime", "time"), *(Column(sensor.name) for sensor in SENSORS), *labels], ";", with_header=True)
    time = content.times["datetime"]
    back = np.flatnonzero(np.diff(time) < 0)
    if back.size:
        raise DataBroken(f"{path}:{back[0] + 3}: column 'datetime' goes back in time; the rows are not as they were recorded")
    rows = len(time)
    label, change = (content.flags[name] if labelled else np.zeros(rows, dtype=np.int8) for name in ("anomaly", "changepoint"))
    group = Coded(np.zeros(rows, dtype=np.int32), (name if labelled else FREE,))
    return Table(SENSORS, content.numbers, label=label, change=change, group=group, time=time)
