"""FedTL: what nodes average is what each starts its own second network from."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from vedette.message import Channel, Memory, Message
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.training.task import Done, Task, Work

__all__ = ["FedTl"]


class FedTl(Strategy):
    """Federated transfer learning (Liu et al. 2020) as MTAD-FL compares itself with: FedTL-AD of Hao et al. 2023, section 4.3.

    In each round a node trains its Local network from the average of all nodes' convolutions, and its Transfer network from the
    convolutions its Local network then has.

    Parameters
    ----------
    epochs
        Local passes of each network over a node's rows in a round.
    batch
        Rows a local step; the detector's own number if absent.
    part
        Glob over the layers that are averaged and taken over.
    """

    common: ClassVar[bool] = True

    rounds: int = Field(default=4, ge=0)
    epochs: float = Field(default=20.0, gt=0)
    batch: int | None = Field(default=None, ge=1)
    part: str = "conv*"

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel("shared", role="local", part=self.part),)

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        local = Task("local", start=inbox.vectors, epochs=self.epochs, batch=self.batch, span=self.span(turn))
        return Work(tasks=(local, local._replace(role="transfer", start={"shared": "local"})))

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        return Message(vectors=done.vectors, facts={"rows": done.answers.facts["rows"]}), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        return Reply({"*": Message(vectors={"shared": view.mean("shared")})})
