"""What nodes agree on besides their networks, told so that noise can hide any one of them: a scaling, and a threshold."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from vedette.data.scaling import Scaling
from vedette.data.summaries import Moments, Sketch
from vedette.data.votes import CENTRES, SPREADS, centres_of, level_of, level_votes, spreads_of
from vedette.message import Array, Channel, Memory, Message, Query, Vector
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.strategies.calibrate import Calibrate
from vedette.training.task import Done, Work

__all__ = ["PrivateCalibrate", "PrivatePrepare"]

VOTES = "votes"
"""What nodes tell: a vector no longer than 1, of which only the mean counts."""

LEFT = math.sqrt(1 - 0.9)
"""What a network leaves of standardised numbers that explains nine tenths of their variance, root mean square over features and rows.

Residuals of a node that it fits worse are cut to this length, all features alike.
"""

NOMINAL = 1e6
"""Rows that moments are said to be of, which nobody knows."""


class PrivatePrepare(Strategy):
    """Agree on a scaling by votes: how far each number varies, then where its middle is; levels of categories are known beforehand.

    A node votes once for each feature, whatever its rows, so that its vector has length 1 at most.

    Parameters
    ----------
    scaling
        What to fit; numbers ``"standard"``.
    """

    bounded: ClassVar[bool] = True

    rounds: int = 1
    scaling: Scaling = Scaling()

    @property
    def phases(self) -> tuple[str, ...]:
        return ("spread", "centre")

    @property
    def closing(self) -> tuple[str, ...]:
        return ("adopt",)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel(VOTES, weights=("",)),)

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        settings: dict[str, Any] = {"scaling": self.scaling.model_dump(mode="json")}
        settings |= {name: table.tolist() for name, table in inbox.tables.items() if name in ("spreads", "centres")}
        return Work(queries={"scaling": Query("scaled-by" if turn.phase == "adopt" else "votes", settings)})

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        if turn.phase == "adopt":
            said = {**done.answers.tables, **done.answers.facts}
            return Message(), {**mine, **{name: value for name, value in said.items() if name.startswith("scaling.")}}
        votes = done.answers.tables["scaling"]
        return Message({VOTES: Vector((votes / np.sqrt(max(votes.shape[1], 1))).ravel().astype(np.float32), VOTES)}), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        votes = view.mean(VOTES, "").values.astype(np.float64)
        shares = votes.reshape(SPREADS if turn.phase == "spread" else CENTRES, -1)
        shares *= np.sqrt(shares.shape[1])
        if turn.phase == "spread":
            spreads = spreads_of(shares)
            return Reply({"*": Message(tables={"spreads": spreads})}, {"spreads": spreads})
        spreads = np.asarray(ours["spreads"])
        return Reply({"*": Message(tables={"spreads": spreads, "centres": centres_of(shares, spreads)})})


class PrivateCalibrate(Calibrate):
    """Set a threshold by votes: which level a quantile of a node's own scores comes to, in a vector of length 1.

    Where the score takes moments of residuals, nodes first tell how large each feature's are (root mean square), in a vector that is cut to
    length 1.

    Parameters
    ----------
    q
        Which quantile the threshold is.
    full
        Rows with which a node's vote counts in full; those with fewer count in proportion.
    """

    bounded: ClassVar[bool] = True

    q: float = Field(default=0.9, gt=0, le=1)
    full: int = Field(default=200, ge=1)

    @property
    def phases(self) -> tuple[str, ...]:
        return ("residuals", "scores") if self.residuals == "moments" else ("scores",)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel(VOTES, weights=("",)),)

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        message, mine = super().answer(turn, done, mine)
        if turn.phase == "residuals" and "residuals.moments" in message.tables:
            moments = Moments.from_table(message.tables["residuals.moments"])
            size = np.sqrt(moments.variance + moments.mean**2)
            return Message({VOTES: Vector((size / _length(size)).astype(np.float32), VOTES)}), mine
        if turn.phase == "scores" and "scores.sketch" in message.tables:
            sketch = Sketch.from_table(message.tables["scores.sketch"])
            votes = level_votes(sketch.quantile(self.q)) * min(float(sketch.counts.sum()) / self.full, 1.0)
            return Message({VOTES: Vector(votes.astype(np.float32), VOTES)}), mine
        return Message(), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        votes = view.mean(VOTES, "").values.astype(np.float64)
        if turn.phase == "residuals":
            size = np.maximum(votes, 0) * _length(votes)
            moments = Moments(np.full_like(size, NOMINAL), np.zeros_like(size), NOMINAL * size**2)
            return Reply({"*": Message(tables={"residuals.moments": moments.table()})})
        level = np.array([level_of(votes)])
        tables = {"scores.sketch": Sketch.of(level).table(), "scores.moments": Moments.of(level[:, None]).table()}
        return Reply({"*": Message(tables=tables)})


def _length(sizes: Array) -> float:
    """Return what a vector of residuals is divided by, so that it is seldom longer than 1."""
    return float(LEFT * np.sqrt(len(sizes)))
