"""The stage after the rounds: what scores look like on normal rows, of one node or of the fleet."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vedette.errors import DataUnusable
from vedette.message import Memory, Message, Query
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.strategies.clustered_grouping import CLUSTER
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
    prior_rows
        As how many rows the residuals of all nodes count beside those of a cluster (`vedette.strategies.clustered.Clustered`); None:
        they are common. The threshold is in any case.
    """

    relayed: ClassVar[bool] = True

    rounds: int = 1
    residuals: Literal["none", "moments", "covariance", "inputs"] = "none"
    fit: Literal["federated", "local"] = "federated"
    prior_rows: float | None = Field(default=None, ge=0)

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
            cluster = mine.get(CLUSTER) if turn.phase == "residuals" and self.prior_rows is not None else None
            facts = {CLUSTER: cluster} if isinstance(cluster, float) else {}
            return Message(tables=done.answers.tables, facts=facts), {**mine, **own}
        return Message(), {**mine, **own, **done.answers.tables}

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        if self.fit == "local" or (turn.phase == "residuals" and self.residuals in ("none", "inputs")):
            return Reply()
        merged = merged_tables(view, turn.phase)
        if not merged:
            raise DataUnusable("no node has a normal row to set a threshold by; check the labels and the split")
        clusters: dict[float, list[str]] = {}
        for node, cluster in view.facts(CLUSTER).items() if turn.phase == "residuals" and self.prior_rows is not None else ():
            clusters.setdefault(float(cluster), []).append(node)
        own = {
            node: Message(tables=tables)
            for members in clusters.values()
            if (tables := merged_tables(view, turn.phase, members, self.prior_rows or 0.0))
            for node in members
        }
        return Reply({"*": Message(tables=merged), **own})
