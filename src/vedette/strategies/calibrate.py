"""The stage after the rounds: what scores look like on normal rows, of one node or of the fleet."""

from __future__ import annotations

from typing import ClassVar, Literal

from vedette.errors import DataUnusable
from vedette.message import Memory, Message, Query
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.strategies.view import merged_tables
from vedette.training.task import Done, Work

__all__ = ["Calibrate"]


class Calibrate(Strategy):
    """Summarise residuals, then scores, of normal rows; a detector derives its threshold from the summary in its memory.

    What travels are moments and counts in bins of scores.

    Parameters
    ----------
    residuals
        The summary of its residuals that the detector's score needs: ``"moments"``, ``"covariance"`` or ``"none"``; or ``"inputs"``:
        its score needs none, but explanations want to know what is usual, and this never leaves the node.
    fit
        ``"federated"`` merges all nodes' summaries; ``"local"`` leaves each node its own.
    """

    relayed: ClassVar[bool] = True

    rounds: int = 1
    residuals: Literal["none", "moments", "covariance", "inputs"] = "none"
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
        if turn.phase == "scores":
            return Work(keep=inbox.tables, queries={"scores": Query("scores")})
        if self.residuals == "inputs":
            return Work(keep=inbox.tables, queries={"inputs": Query("inputs")})
        wanted = {"residuals": Query("residuals", {"summary": self.residuals})} if self.residuals != "none" else {}
        return Work(keep=inbox.tables, queries=wanted)

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        # A node's own summary stays with it in any case, so that own and common thresholds can be compared.
        own = {f"own.{key}": table for key, table in done.answers.tables.items()}
        if turn.phase == "residuals" and self.residuals == "inputs":
            return Message(), {**mine, **own}
        if self.fit == "federated":
            return Message(tables=done.answers.tables), {**mine, **own}
        return Message(), {**mine, **own, **done.answers.tables}

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        if self.fit == "local" or (turn.phase == "residuals" and self.residuals in ("none", "inputs")):
            return Reply()
        merged = merged_tables(view, turn.phase)
        if not merged:
            raise DataUnusable("no node has a normal row to set a threshold by; check the labels and the split")
        return Reply({"*": Message(tables=merged)})
