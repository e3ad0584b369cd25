"""Kitsune: the capture of a camera network while the Mirai botnet infected it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from vedette.data.dataset import Dataset
from vedette.data.datasets.nbaiot import AfterImage
from vedette.data.datasets.official import Column, read
from vedette.data.stored import NewMatrix
from vedette.data.table import Coded, Table
from vedette.errors import DataBroken

__all__ = ["Kitsune"]

ROWS, BENIGN = 764_137, 121_621


class Kitsune(AfterImage):
    """Kitsune's Mirai capture: ``all`` packets, each described by the 115 AfterImage features, whose names are those of N-BaIoT.

    The files have no header. Column 0 of the data counts the rows and is left out. Labels stand in a file of their own, a line for
    each row. The whole capture is in the order of time, a sample may be in any, so rows count as unordered; there is no time column.

    Parameters
    ----------
    check
        Demand the published number of rows and benign rows, benign first. By default a sample is accepted.
    """

    title: ClassVar[str] = "Kitsune: packets of an IoT network while Mirai infects it"
    licence: ClassVar[str] = "CC BY 4.0 as understood to be listed by UCI (data set 516), confirm before redistributing"
    source: ClassVar[str] = (
        "Mirsky, Doitshman, Elovici, Shabtai, Kitsune: An Ensemble of Autoencoders for Network Intrusion Detection, NDSS 2018"
    )
    how: ClassVar[str] = (
        "get it from the UCI Machine Learning Repository (data set 516): kitsune/Mirai/Mirai_dataset.csv and kitsune/Mirai/Mirai_labels.csv"
    )
    folder: ClassVar[str] = "kitsune"
    official_files: ClassVar[tuple[str, ...]] = ("Mirai/Mirai_dataset.csv", "Mirai/Mirai_labels.csv")

    check: bool = False

    def sources(self, root: Path | None) -> dict[str, Path]:
        """Find the packets and their labels; see `FileLoader.sources`."""
        return {name: self.find(root, name) for name in self.official_files}

    def read(self, sources: Mapping[str, Path], matrix: NewMatrix) -> Dataset:
        """Read ``all``; see `FileLoader.read`."""
        data, labels = (sources[name] for name in self.official_files)
        label = read(labels, [Column("label", "flag")]).flags["label"]
        numbers = read(data, [Column("row", "skip"), *self._columns], matrix=matrix).numbers
        if len(label) != len(numbers):
            raise DataBroken(f"{labels}: {len(label):,} labels for the {len(numbers):,} rows of '{data}'; get both files again")
        if self.check and (len(label) != ROWS or label[:BENIGN].any() or not label[BENIGN:].all()):
            raise DataBroken(
                f"{data}: {len(label):,} rows, {(label == 0).sum():,} of them benign, where {ROWS:,} and {BENIGN:,} were "
                "published, benign first; get the whole file, or set check = false if it is meant to be a sample"
            )
        kind = Coded(label.astype(np.int32), ("benign", "mirai"))
        return Dataset("kitsune", {"all": Table(self._features, numbers, label=label, kind=kind)})
