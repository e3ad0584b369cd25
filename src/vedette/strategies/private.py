"""What nodes agree on besides their networks, told so that noise can hide any one of them: a scaling, and a threshold."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from vedette.data.scaling import Scaling
from vedette.data.summaries import Moments, Sketch
from vedette.data.votes import CENTRES, SPREADS, centres_of, histogram_of, sketch_of, spreads_of
from vedette.message import Channel, Memory, Message, Query, Vector
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.strategies.calibrate import Calibrate
from vedette.training.task import Done, Work

__all__ = ["PrivateCalibrate", "PrivatePrepare"]

VOTES = "votes"
"""What nodes tell: a vector no longer than 1, of which only the mean counts."""


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
    """Set a threshold by the mean of all nodes' histograms of the logarithms of their scores, each of which has length 1 at most.

    Every node counts the same, whatever its rows. A detector whose score takes a summary of residuals has none of these here.
    """

    bounded: ClassVar[bool] = True

    @property
    def phases(self) -> tuple[str, ...]:
        return ("scores",)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel(VOTES, weights=("",)),)

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        message, mine = super().answer(turn, done, mine)
        if turn.phase == "adopt" or "scores.sketch" not in message.tables:
            return Message(), mine
        shares = histogram_of(Sketch.from_table(message.tables["scores.sketch"]))
        return Message({VOTES: Vector(shares.astype(np.float32), VOTES)}), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        sketch = sketch_of(view.mean(VOTES, "").values.astype(np.float64))
        mean = np.average(sketch.middles, weights=sketch.counts)
        spread = float(sketch.counts @ (sketch.middles - mean) ** 2)
        moments = Moments(*np.array([[sketch.counts.sum()], [mean], [spread]]))
        return Reply({"*": Message(tables={"scores.sketch": sketch.table(), "scores.moments": moments.table()})})
