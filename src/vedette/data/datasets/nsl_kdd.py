"""NSL-KDD: KDD Cup 1999 without its duplicate rows."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vedette.data.dataset import Dataset, Loader
from vedette.data.datasets.files import Column, find, need_polars
from vedette.data.datasets.kdd99 import connections

__all__ = ["NslKdd"]

# How many of 21 classifiers got the row right: made from the labels, so never a feature.
DIFFICULTY = Column("difficulty")


class NslKdd(Loader):
    """NSL-KDD: KDDTrain+ and KDDTest+.

    Parameters
    ----------
    check
        Demand the published number of rows and normal rows; False accepts a sample.
    """

    title: ClassVar[str] = "NSL-KDD network connections (KDDTrain+, KDDTest+)"
    licence: ClassVar[str] = "not stated; offered to researchers"
    source: ClassVar[str] = "Tavallaee, Bagheri, Lu, Ghorbani, IEEE CISDA 2009"
    how: ClassVar[str] = (
        "official page: unb.ca/cic/datasets/nsl.html (public mirrors: GitHub defcom17/NSL_KDD, jmnwong/NSL-KDD-Dataset): "
        "nsl-kdd/KDDTrain+.txt and nsl-kdd/KDDTest+.txt"
    )
    folder: ClassVar[str] = "nsl-kdd"
    files: ClassVar[tuple[str, ...]] = ("KDDTrain+.txt", "KDDTest+.txt")

    check: bool = True

    def load(self, root: Path | None, seed: int = 0) -> Dataset:
        """Read ``train`` and ``test``; see `Loader.load`."""
        del seed
        need_polars()
        parts = {"train": ("KDDTrain+.txt", (125_973, 67_343)), "test": ("KDDTest+.txt", (22_544, 9_711))}
        paths = {part: find(type(self), root, name) for part, (name, _) in parts.items()}
        label = r"[a-z0-9_]{1,32}"
        return Dataset(
            "nsl-kdd",
            {part: connections(paths[part], label, (DIFFICULTY,), count if self.check else None) for part, (_, count) in parts.items()},
        )
