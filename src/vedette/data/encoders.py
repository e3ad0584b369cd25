"""Category encoders: one column of text turned into numbers, with a place for text never seen in training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from vedette.message import Array
from vedette.registry import Registry

__all__ = ["ENCODERS", "CategoryEncoder", "OneHot", "Ordinal"]


class CategoryEncoder(ABC):
    """Base of the encoders; they hold nothing, the known levels are given."""

    @abstractmethod
    def width(self, levels: int) -> int:
        """Columns made of a feature with so many known levels."""

    @abstractmethod
    def encode(self, places: Array, levels: int) -> Array:
        """Return [rows, width] float32 of level numbers [rows]; `levels` stands for the unseen."""

    @abstractmethod
    def names(self, feature: str, levels: Sequence[str]) -> list[str]:
        """Names of the columns made."""


class OneHot(CategoryEncoder):
    """A column for each level, and a last one for the unseen."""

    def width(self, levels: int) -> int:
        return levels + 1

    def encode(self, places: Array, levels: int) -> Array:
        encoded = np.zeros((len(places), levels + 1), dtype=np.float32)
        encoded[np.arange(len(places)), places] = 1
        return encoded

    def names(self, feature: str, levels: Sequence[str]) -> list[str]:
        return [*(f"{feature}={level}" for level in levels), f"{feature}=?"]


class Ordinal(CategoryEncoder):
    """One column in [0, 1]: the place in the sorted levels; the unseen lies one step above, so beyond 1."""

    def width(self, levels: int) -> int:
        return 1

    def encode(self, places: Array, levels: int) -> Array:
        return (places / max(levels - 1, 1)).astype(np.float32)[:, None]

    def names(self, feature: str, levels: Sequence[str]) -> list[str]:
        return [feature]


ENCODERS: Registry[type[CategoryEncoder]] = Registry("encoder", {"one-hot": f"{__name__}:OneHot", "ordinal": f"{__name__}:Ordinal"})
