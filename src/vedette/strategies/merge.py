"""One round that is enough: what nodes sum up of their rows is merged to what all rows together would have given."""

from __future__ import annotations

from typing import ClassVar

from vedette.errors import DataUnusable
from vedette.message import Memory, Message, Query
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.strategies.view import merged_tables
from vedette.training.task import Done, Work

__all__ = ["Merge"]


class Merge(Strategy):
    """Merge the summaries that detectors such as ``"pca"`` are made of, exactly; what travels are counts, means and products.

    Parameters
    ----------
    rounds
        One; more would merge the same again.
    """

    relayed: ClassVar[bool] = True

    rounds: int = 1

    @property
    def phases(self) -> tuple[str, ...]:
        return ("summarise",)

    @property
    def closing(self) -> tuple[str, ...]:
        return ("adopt",)

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        return Work(keep=inbox.tables) if turn.phase == "adopt" else Work(queries={"summary": Query("summary")})

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        return Message(tables=done.answers.tables), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        merged = merged_tables(view, "summary")
        if not merged:
            raise DataUnusable("no node has a normal row to learn from; check the labels and the split")
        return Reply({"*": Message(tables=merged)})
