"""FedKD: nodes keep their own weights and learn from what the average of all would have said."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from vedette.message import Channel, Memory, Message
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.training.task import Distil, Done, Task, Work

__all__ = ["FedKd"]


class FedKd(Strategy):
    """Federated knowledge distillation (Seo et al. 2022) as FedKD-AD of Hao et al. 2023, section 4.3.

    The average of all nodes' networks is every node's teacher: its answers to a node's own rows stand beside their labels.

    Parameters
    ----------
    epochs
        Local passes over a node's rows in each round.
    batch
        Rows a local step; the detector's own number if absent.
    weight
        Of the distance to the teacher's answers in the loss.
    temperature
        Divides the logits of both before they are compared (Hinton et al. 2015).
    """

    common: ClassVar[bool] = True

    rounds: int = Field(default=4, ge=0)
    epochs: float = Field(default=20.0, gt=0)
    batch: int | None = Field(default=None, ge=1)
    weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=2.0, gt=0)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel("teacher", holds="all"),)

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        teacher = inbox.vectors.get("teacher")
        terms = () if teacher is None else (Distil(teacher, self.weight, self.temperature),)
        return Work(tasks=(Task(epochs=self.epochs, batch=self.batch, terms=terms, keep_optimiser=True, span=self.span(turn)),))

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        return Message(vectors=done.vectors, facts={"rows": done.answers.facts["rows"]}), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        return Reply({"*": Message(vectors={"teacher": view.mean("teacher")})})
