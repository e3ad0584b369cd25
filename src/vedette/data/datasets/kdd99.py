"""KDD Cup 1999: connections of a simulated military network, each normal or one of 38 attacks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from vedette.data.dataset import Dataset
from vedette.data.datasets.official import Column, read
from vedette.data.loading import FileLoader
from vedette.data.stored import NewMatrix
from vedette.data.table import Coded, Feature, Table
from vedette.errors import DataBroken

__all__ = ["FEATURES", "Connections", "Kdd99"]

NAMES = """
duration protocol_type service flag src_bytes dst_bytes land wrong_fragment urgent hot num_failed_logins logged_in num_compromised
root_shell su_attempted num_root num_file_creations num_shells num_access_files num_outbound_cmds is_host_login is_guest_login count
srv_count serror_rate srv_serror_rate rerror_rate srv_rerror_rate same_srv_rate diff_srv_rate srv_diff_host_rate dst_host_count
dst_host_srv_count dst_host_same_srv_rate dst_host_diff_srv_rate dst_host_same_src_port_rate dst_host_srv_diff_host_rate
dst_host_serror_rate dst_host_srv_serror_rate dst_host_rerror_rate dst_host_srv_rerror_rate
"""
SYMBOLIC = {"protocol_type", "service", "flag"}
UNITS = {"duration": "s", "src_bytes": "B", "dst_bytes": "B"}
FEATURES = tuple(Feature(name, "category" if name in SYMBOLIC else "number", UNITS.get(name, "")) for name in NAMES.split())

Published = tuple[str, int, int]
"""A file that was published: its name, its rows and its normal rows."""


class Connections(FileLoader):
    """Base of the KDD family: files of 41 features and a label.

    Parameters
    ----------
    check
        Demand the published number of rows and normal rows; False accepts a sample.

    Attributes
    ----------
    label
        The column behind the features.
    extra
        Columns behind the label, left out.
    """

    label: ClassVar[Column]
    extra: ClassVar[tuple[Column, ...]] = ()

    check: bool = True

    @property
    @abstractmethod
    def published(self) -> Mapping[str, Published]:
        """The file of each part."""

    def sources(self, root: Path | None) -> dict[str, Path]:
        """Find the file of each part; see `FileLoader.sources`."""
        return {part: self.find(root, name) for part, (name, *_) in self.published.items()}

    def read(self, sources: Mapping[str, Path], matrix: NewMatrix) -> Dataset:
        """Read ``train`` and ``test``; see `FileLoader.read`."""
        tables = {part: self._connections(sources[part], matrix, *counts) for part, (_, *counts) in self.published.items()}
        return Dataset(self.folder, tables)

    def _connections(self, path: Path, matrix: NewMatrix, rows: int, normal_rows: int) -> Table:
        columns = [Column(feature.name, "text" if feature.kind == "category" else "number") for feature in FEATURES]
        content = read(path, [*columns, self.label, *self.extra], matrix=matrix)
        texts = content.texts[self.label.name]
        kind = Coded(texts.codes, tuple(level.removesuffix(".") for level in texts.levels))
        normal = np.array([level == "normal" for level in kind.levels])[kind.codes]
        if self.check and (len(normal), int(normal.sum())) != (rows, normal_rows):
            raise DataBroken(
                f"{path}: {len(normal):,} rows, {normal.sum():,} of them normal, where {rows:,} and {normal_rows:,} were published; "
                "get the whole file, or set check = false if it is meant to be a sample"
            )
        categories = tuple(content.texts[feature.name] for feature in FEATURES if feature.kind == "category")
        return Table(FEATURES, content.numbers, categories, label=(~normal).astype(np.int8), kind=kind)


class Kdd99(Connections):
    """KDD Cup 1999, trained on the 10 % file and tested on the labelled ("corrected") test set.

    Parameters
    ----------
    full
        Train on the whole ``kddcup.data`` (4.9 million rows) instead of its 10 %.
    check
        Demand the published number of rows and normal rows; False accepts a sample.
    """

    title: ClassVar[str] = "KDD Cup 1999 network connections (10 % train, corrected test)"
    licence: ClassVar[str] = "not stated with the files; the UCI repository is understood to list CC BY 4.0, confirm before redistributing"
    source: ClassVar[str] = "Stolfo, Fan, Lee, Prodromidis, Chan (1999), UCI KDD Archive, from the 1998 DARPA evaluation"
    how: ClassVar[str] = (
        "get it from the UCI KDD Archive (kdd.ics.uci.edu/databases/kddcup99): kdd99/kddcup.data_10_percent and kdd99/corrected"
    )
    folder: ClassVar[str] = "kdd99"
    official_files: ClassVar[tuple[str, ...]] = ("kddcup.data_10_percent", "corrected")
    label: ClassVar[Column] = Column("label", "text", r"[a-z0-9_]{1,32}\.")

    full: bool = False

    @property
    def published(self) -> Mapping[str, Published]:
        """The file of each part."""
        train = ("kddcup.data", 4_898_431, 972_781) if self.full else ("kddcup.data_10_percent", 494_021, 97_278)
        return {"train": train, "test": ("corrected", 311_029, 60_593)}
