"""What a receiver knows of a message before it comes, and refuses if it is otherwise."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from vedette.errors import MessageRefused
from vedette.message import Array

if TYPE_CHECKING:
    from vedette.runtimes.mesh.wire import Header

__all__ = ["BLOCK", "LARGEST", "Bound", "Expected", "Part", "norm_of"]

BLOCK = 2**15
"""Numbers looked at at once: all that checking takes besides what was received are 16 bytes for each of these."""
LARGEST = 1e38
"""No norm, and no scale, is larger: all that it is made of fits float32."""

T = TypeVar("T")


class Part(NamedTuple):
    """What a receiver knows of a channel: the layout of its vectors, and how many parameters these have; None if it cannot know."""

    layout: str | None
    parameters: int | None


class Bound(NamedTuple):
    """What a table may be.

    Attributes
    ----------
    rows, columns
        Most of them; of an array with more than two axes all but the first count as columns.
    dtypes
        Kinds of its numbers.
    open
        Whether infinities have a meaning in it (extremes of columns that nobody has seen); NaN never has.
    """

    rows: int
    columns: int
    dtypes: Collection[str] = ("float32", "float64")
    open: bool = False


class Expected(NamedTuple):
    """What a receiver knows of a message before it comes.

    Attributes
    ----------
    run, stage, phase, turn
        Where the receiver stands.
    rounds
        Those that a message may belong to, such as ``range(3, 5)`` where it may be late by one.
    kinds
        What may come.
    senders
        Who may send it: whom the link's certificate names, if it names one.
    most_bytes
        Of the whole message.
    channels
        Vectors by channel.
    whole
        Whether a message that has one of the channels must have all.
    precisions
        What vectors may be sent in.
    most_norm
        L2 norm of a vector.
    tables
        By name, else by the first glob that fits.
    facts
        Most characters of a text, by name, else by the first glob that fits; 0: a number. Those without a ``*`` must be there.
    """

    run: str
    rounds: Collection[int]
    kinds: Collection[str]
    senders: Collection[str]
    most_bytes: int
    stage: str = ""
    phase: str = ""
    turn: int = 0
    channels: Mapping[str, Part] = {}
    whole: bool = True
    precisions: Collection[str] = ("float32", "float16", "int8")
    most_norm: float = math.inf
    tables: Mapping[str, Bound] = {}
    facts: Mapping[str, int] = {}

    def demand_header(self, header: Header) -> None:
        """Refuse what is sent by somebody else, or belongs elsewhere."""
        if header.node not in self.senders:
            raise MessageRefused(f"it is sent by {header.node!r:.60}, who is not expected here")
        if header.kind not in self.kinds:
            raise MessageRefused(f"it is of the kind '{header.kind}', and here comes {' or '.join(sorted(self.kinds))}")
        if header.run != self.run:
            raise MessageRefused(f"it belongs to the run {header.run!r:.60}, not to '{self.run}'")
        if header.round not in self.rounds:
            raise MessageRefused(f"it is of round {header.round}, which is not awaited")
        theirs, ours = (header.stage, header.phase, header.turn), (self.stage, self.phase, self.turn)
        if theirs != ours:
            raise MessageRefused(f"it is of stage, phase and turn {theirs!s:.100}, and awaited are {ours}")

    def demand_facts(self, facts: Mapping[str, float | str]) -> None:
        """Refuse other facts than those that are awaited, and to do without these."""
        for name, fact in facts.items():
            most = _bound(self.facts, name, "fact")
            if isinstance(fact, str) != bool(most):
                raise MessageRefused(f"fact {name!r:.60} is {'no number' if isinstance(fact, str) else 'no text'}")
            if isinstance(fact, str) and len(fact) > most:
                raise MessageRefused(f"fact {name!r:.60} has {len(fact):,} characters; the most is {most:,}")
        lacking = next((name for name in self.facts if "*" not in name and name not in facts), None)
        if lacking is not None:
            raise MessageRefused(f"it lacks the fact '{lacking}'")

    def demand_vector(self, name: str, values: Array, layout: str, scale: float) -> None:
        """Refuse a vector of other parameters, sent in another way, not finite, or too large."""
        if name not in self.channels:
            raise MessageRefused(f"channel {name!r:.60} is not expected")
        wanted, parameters = self.channels[name]
        if wanted is not None and layout != wanted:
            raise MessageRefused(f"channel '{name}' has the layout {layout!r:.40}, not '{wanted}'")
        if values.ndim != 1 or (parameters is not None and len(values) != parameters):
            raise MessageRefused(f"channel '{name}' has the shape {values.shape}, not {(parameters,) if parameters else '(parameters,)'}")
        if values.dtype.name not in self.precisions:
            raise MessageRefused(f"channel '{name}' is sent in {values.dtype}, not in {' or '.join(sorted(self.precisions))}")
        if values.dtype != np.int8 and scale != 1:
            raise MessageRefused(f"channel '{name}' is sent in {values.dtype} and has a scale of {scale:g}")
        norm = scale * norm_of(values)
        # What is not a number is not less than anything either.
        if not norm <= min(self.most_norm, LARGEST):
            raise MessageRefused(f"channel '{name}' has the norm {norm:.3g}; the most is {min(self.most_norm, LARGEST):.3g}")

    def demand_table(self, name: str, values: Array) -> None:
        """Refuse a table that is too large, of other numbers, or not finite."""
        bound = _bound(self.tables, name, "table")
        rows, columns = (values.shape[0], math.prod(values.shape[1:])) if values.ndim else (1, 1)
        if rows > bound.rows or columns > bound.columns:
            raise MessageRefused(f"table {name!r:.60} is {rows:,} by {columns:,}; the most is {bound.rows:,} by {bound.columns:,}")
        if values.dtype.name not in bound.dtypes:
            raise MessageRefused(f"table {name!r:.60} holds {values.dtype}, not {' or '.join(sorted(bound.dtypes))}")
        flat = values.reshape(-1)
        for start in range(0, flat.size if values.dtype.kind == "f" else 0, BLOCK):
            block = flat[start : start + BLOCK]
            if (np.isnan(block) if bound.open else ~np.isfinite(block)).any():
                raise MessageRefused(f"table {name!r:.60} holds values that are not finite")


def norm_of(values: Array) -> float:
    """Return the L2 norm of [n] float32 or less, in float64: NaN or infinite where a value is."""
    total = 0.0
    with np.errstate(all="ignore"):
        for start in range(0, values.size, BLOCK):
            block = values[start : start + BLOCK].astype(np.float64)
            total += float(block @ block)
    return math.sqrt(total)


def _bound(bounds: Mapping[str, T], name: str, noun: str) -> T:
    """Return the bound of a name, else of the first glob that fits it."""
    fitting = name if name in bounds else next((glob for glob in bounds if fnmatchcase(name, glob)), None)
    if fitting is None:
        raise MessageRefused(f"{noun} {name!r:.60} is not expected")
    return bounds[fitting]
