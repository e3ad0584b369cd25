"""Diagnostics: figures that other papers show and nobody should compare by, worked out only where a recipe asks for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

from vedette.evaluation.recordings import Recordings
from vedette.message import Array
from vedette.metrics.affiliation import Affiliation, affiliation, telemeval
from vedette.metrics.events import point_adjusted
from vedette.metrics.pointwise import Confusion, rates

__all__ = ["Diagnosed", "Diagnostic", "diagnostic_figures", "demand_libraries"]

Diagnostic: TypeAlias = Literal["affiliation", "point-adjusted"]


class Diagnosed(NamedTuple):
    """What one detector's flags are worth by the figures asked for, over recordings; `plus` joins those of several."""

    affiliation: Affiliation | None
    adjusted: Confusion | None

    @classmethod
    def of(cls, recordings: Recordings, label: Array, flagged: Array, wanted: Collection[Diagnostic]) -> Diagnosed:
        """Look at each recording by itself."""
        near, adjusted = Affiliation(), Confusion()
        for first, last in pairwise(recordings.edges.tolist()):
            truth, flags = label[first:last], flagged[first:last]
            if "affiliation" in wanted:
                near = near.plus(affiliation(truth, flags))
            if "point-adjusted" in wanted:
                adjusted = adjusted.plus(Confusion.of(truth, point_adjusted(truth, flags)))
        return cls(near if "affiliation" in wanted else None, adjusted if "point-adjusted" in wanted else None)

    def plus(self, other: Diagnosed) -> Diagnosed:
        """Join with what is told of other recordings by the same figures."""
        return Diagnosed(
            None if self.affiliation is None or other.affiliation is None else self.affiliation.plus(other.affiliation),
            None if self.adjusted is None or other.adjusted is None else self.adjusted.plus(other.adjusted),
        )


def diagnostic_figures(diagnosed: Sequence[Diagnosed]) -> dict[str, float | None]:
    """Return ``affiliation_precision``, ``_recall``, ``_f1`` and ``point_adjusted_f1``, those asked for: counts added up first."""
    total = diagnosed[0]
    for more in diagnosed[1:]:
        total = total.plus(more)
    figures: dict[str, float | None] = {}
    if total.affiliation is not None:
        figures |= {f"affiliation_{key}": rate for key, rate in total.affiliation.rates().items()}
    if total.adjusted is not None:
        figures["point_adjusted_f1"] = rates(total.adjusted)["f1"]
    return figures


def demand_libraries(wanted: Collection[Diagnostic]) -> None:
    """Make sure that what is asked for can be worked out, before hours are spent.

    Raises
    ------
    MissingExtra
        A library is not installed.
    """
    if "affiliation" in wanted:
        telemeval()
