"""Every node for itself: the bar that learning together must pass."""

from __future__ import annotations

from pydantic import Field

from vedette.message import Memory, Message
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.training.task import Done, Task, Work

__all__ = ["Local"]


class Local(Strategy):
    """Train on one's own rows and send nothing.

    Parameters
    ----------
    epochs
        Passes over a node's rows in each round.
    batch
        Rows a step; the detector's own number if absent.
    """

    epochs: float = Field(default=1.0, gt=0)
    batch: int | None = Field(default=None, ge=1)

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        return Work(tasks=(Task(epochs=self.epochs, batch=self.batch, keep_optimiser=True, span=self.span(turn)),))

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        return Message(), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        return Reply()
