"""The stage after the rounds: what scores look like on normal rows, of one node or of the fleet."""

from __future__ import annotations

from typing import Literal

from vedette.data.summaries import Moments, Sketch
from vedette.errors import DataUnusable
from vedette.message import Array, Memory, Message, Query
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.training.task import Done, Work

__all__ = ["Calibrate"]


class Calibrate(Strategy):
    """Summarise residuals, then scores, of normal rows; a detector derives its threshold from the summary in its memory.

    What travels are moments and counts in bins of scores.

    Parameters
    ----------
    residuals
        Whether the detector's score needs the moments of its residuals.
    fit
        ``"federated"`` merges all nodes' summaries; ``"local"`` leaves each node its own.
    """

    rounds: int = 1
    residuals: bool = False
    fit: Literal["federated", "local"] = "federated"

    @property
    def phases(self) -> tuple[str, ...]:
        return ("residuals", "scores")

    @property
    def closing(self) -> tuple[str, ...]:
        return ("adopt",)

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        if turn.phase == "adopt":
            return Work(keep=inbox.tables)
        queries = {} if turn.phase == "residuals" and not self.residuals else {turn.phase: Query(turn.phase)}
        return Work(keep=inbox.tables, queries=queries)

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        # A node's own summary stays with it in any case, so that own and common thresholds can be compared.
        own = {f"own.{key}": table for key, table in done.answers.tables.items()}
        if self.fit == "federated":
            return Message(tables=done.answers.tables), {**mine, **own}
        return Message(), {**mine, **own, **done.answers.tables}

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        if self.fit == "local" or (turn.phase == "residuals" and not self.residuals):
            return Reply()
        moments = view.tables(f"{turn.phase}.moments")
        if not moments:
            raise DataUnusable("no node has a normal row to set a threshold by; check the labels and the split")
        total = Moments.merged(Moments.from_table(moments[node]) for node in sorted(moments))
        merged: dict[str, Array] = {f"{turn.phase}.moments": total.table()}
        sketches = view.tables(f"{turn.phase}.sketch")
        if sketches:
            merged[f"{turn.phase}.sketch"] = Sketch.merged([Sketch.from_table(sketches[node]) for node in sorted(sketches)]).table()
        return Reply({"*": Message(tables=merged)})
