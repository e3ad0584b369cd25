"""NSL-KDD: KDD Cup 1999 without its duplicate rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vedette.data.datasets.kdd99 import Connections, Published
from vedette.data.datasets.official import Column

__all__ = ["NslKdd"]


class NslKdd(Connections):
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
    official_files: ClassVar[tuple[str, ...]] = ("KDDTrain+.txt", "KDDTest+.txt")
    label: ClassVar[Column] = Column("label", "text", r"[a-z0-9_]{1,32}")
    # How many of 21 classifiers got the row right: made from the labels, so never a feature.
    extra: ClassVar[tuple[Column, ...]] = (Column("difficulty", "checked"),)

    @property
    def published(self) -> Mapping[str, Published]:
        """The file of each part."""
        return {"train": ("KDDTrain+.txt", 125_973, 67_343), "test": ("KDDTest+.txt", 22_544, 9_711)}
