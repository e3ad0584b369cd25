"""FedAvg: train locally, average, start again from the average."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from vedette.message import Channel, Memory, Message, Vector
from vedette.strategies.aggregation import AnyAggregator, Mean, tallied
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.training.task import Distil, Done, Proximal, Task, Work

__all__ = ["FedAvg"]


class FedAvg(Strategy):
    """Federated averaging (McMahan et al. 2017, algorithm 1), with server momentum if wanted (FedAvgM, Hsu et al. 2019, section 4.3).

    Parameters
    ----------
    epochs
        Local passes over a node's rows in each round (E).
    batch
        Rows a local step (B); the detector's own number if absent.
    aggregator
        Name of an aggregator, or its settings: ``{"name": "trimmed-mean", "share": 0.2}``.
    momentum
        Of the server (beta); 0 is plain averaging. It starts with the second round, when the server first knows where the nodes set out.
    """

    begins_anew: ClassVar[bool] = True
    common: ClassVar[bool] = True
    alike: ClassVar[bool] = True

    epochs: float = Field(default=1.0, gt=0)
    batch: int | None = Field(default=None, ge=1)
    aggregator: AnyAggregator = Field(default_factory=Mean)
    momentum: float = Field(default=0.0, ge=0, lt=1)

    @property
    def closing(self) -> tuple[str, ...]:
        return ("adopt",)

    @property
    def channels(self) -> tuple[Channel, ...]:
        combine: Literal["gather", "mean"] = "gather" if self.aggregator.gathers else "mean"
        return (Channel("model", combine=combine), Channel("norms", combine=combine, holds="buffers"))

    def terms(self) -> tuple[Proximal | Distil, ...]:
        """What is added to the local loss."""
        return ()

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        epochs = 0.0 if turn.phase == "adopt" else self.epochs
        return Work(tasks=(Task(start=inbox.vectors, epochs=epochs, batch=self.batch, terms=self.terms(), span=self.span(turn)),))

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        return Message(vectors=done.vectors, facts=done.answers.facts), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        combined = self.aggregator.combined(view, ("model", "norms"))
        mean, norms = combined.vectors["model"], combined.vectors["norms"]
        tally = tallied(ours, combined.counted)
        if not self.momentum:
            return Reply({"*": Message(vectors={"model": mean, "norms": norms})}, tally or None)
        # v <- beta v + (x - mean); x <- x - v; a variance that ran on like this could turn negative, so norms are left out.
        average = mean.values.astype(np.float64)
        at = np.asarray(ours.get("model", average))
        velocity = self.momentum * np.asarray(ours.get("velocity", np.zeros_like(average))) + (at - average)
        at = at - velocity
        moved = Vector(at.astype(np.float32), mean.layout)
        return Reply({"*": Message(vectors={"model": moved, "norms": norms})}, {**tally, "model": at, "velocity": velocity})
