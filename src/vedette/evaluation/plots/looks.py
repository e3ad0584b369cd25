"""How methods look: order, colour and line pattern, the same in every figure and table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["BLUE", "GREEN", "GREY", "SKY", "VERMILLION", "Look", "ordered", "palette", "styles"]

# The palette of Okabe and Ito (2008): told apart whatever a reader's colour vision.
BLUE, GREEN, VERMILLION, SKY, GREY = "#0072B2", "#009E73", "#D55E00", "#56B4E9", "#8C8C8C"
PINK, ORANGE = "#CC79A7", "#E69F00"
SPREADING = (PINK, SKY, ORANGE, GREEN, BLUE, VERMILLION)
DASHES = ("6 2", "2 2", "8 2 2 2", "12 3")
OTHERS_AFTER = "pca"


class Look(NamedTuple):
    """A method's colour and line pattern (SVG's ``stroke-dasharray``, empty for a solid line)."""

    colour: str
    dash: str = ""

    @property
    def linestyle(self) -> str | tuple[int, tuple[float, ...]]:
        """The pattern as Matplotlib takes it, in units of a line 2 pixels wide."""
        return (0, tuple(float(length) / 2 for length in self.dash.split())) if self.dash else "solid"


FIXED = {
    "flag-all": Look(GREY, "1 3"),
    "random": Look(GREY, "6 3"),
    "majority": Look(GREY, "4 2 1 2"),
    "timetable": Look(GREY, "8 2 2 2"),
    "untrained": Look(GREY),
    "variance-distance": Look(SKY),
    "pca": Look(PINK),
    "local": Look(ORANGE),
    "centralised": Look(GREEN),
    "federated": Look(BLUE),
    # A recipe that follows a paper calls its own federation by the paper's name.
    "mtad-fl": Look(BLUE),
    "distributed": Look(BLUE),
}


def ordered(methods: Iterable[str]) -> list[str]:
    """Sort methods from the plainest reference to the federation; unknown names stand after the baselines."""
    rank = {name: place for place, name in enumerate(FIXED)}
    return sorted(set(methods), key=lambda name: (rank.get(name, rank[OTHERS_AFTER] + 0.5), name))


def styles(methods: Iterable[str]) -> dict[str, Look]:
    """Give every method its look: the usual ones always the same, others a colour that is free, then dashes."""
    names = ordered(methods)
    taken = {FIXED[name].colour for name in names if name in FIXED}
    free = [Look(colour) for colour in SPREADING if colour not in taken]
    spare = itertools.cycle([*free, *(Look(colour, dash) for dash in DASHES for colour in SPREADING)])
    return FIXED | {name: next(spare) for name in names if name not in FIXED}


def palette(count: int) -> list[Look]:
    """Return looks for so many things that are no methods, the ones told apart best first."""
    colours = (BLUE, VERMILLION, GREEN, PINK, ORANGE, SKY)
    return list(itertools.islice(itertools.cycle([Look(colour, dash) for dash in ("", *DASHES) for colour in colours]), count))
