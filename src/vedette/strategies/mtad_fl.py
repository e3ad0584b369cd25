"""MTAD-FL: every node takes over the convolutions of the peer whose own are most like its own."""

from __future__ import annotations

import json
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from vedette.message import Channel, Memory, Message, Vector
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.strategies.similarity import distances, nearest_of
from vedette.training.task import Done, Task, Work

__all__ = ["MtadFl"]


class MtadFl(Strategy):
    """Local-global feature-based parallel knowledge transfer (LGF-PKT; Hao et al. 2023, section 3.4).

    In each round a node trains its Local network and sends the convolutions (eq. 11); the exchange finds its nearest peer (eqs. 12-16)
    and sends it that peer's (eq. 17); the node puts them into its Transfer network and trains that (eqs. 18 and 19). The networks of a
    node stay different from all others': nothing is averaged.

    What the exchange remembers of each round k stands in `Outcome.exchanged`: ``distances.k`` [nodes, nodes], ``received.k`` and
    ``shares.k`` [nodes, nearest], whose weights each node got and how much of each; ``nodes`` names them, as JSON.

    Parameters
    ----------
    epochs
        Local passes of each network over a node's rows in a round.
    transfer
        ``"each-round"``: Transfer networks are trained in every round, as published, though what their convolutions learn is replaced in
        the next. ``"last"``: they are trained once, after the last round, for the epochs of all rounds together. ``"never"``: there are
        none, Local networks score (``detector.scored_by = "local"``) and go on from what they received (`passed_on`).
    batch
        Rows a local step; the detector's own number if absent.
    part
        Glob over the layers that travel; all nodes' must have the same shapes.
    nearest
        How many peers' weights are mixed, each weighted by the inverse of its distance; 1 is the published rule.
    passed_on
        Whether the Local network goes on from the received convolutions too, so that in each round they have seen one more node's rows;
        not so in the paper, where Local networks never see what others learned.
    """

    rounds: int = Field(default=4, ge=0)
    epochs: float = Field(default=20.0, gt=0)
    transfer: Literal["each-round", "last", "never"] = "each-round"
    batch: int | None = Field(default=None, ge=1)
    part: str = "conv*"
    nearest: int = Field(default=1, ge=1)
    passed_on: bool = False

    @model_validator(mode="after")
    def _learns_from_others(self) -> Self:
        if self.transfer == "never" and not self.passed_on:
            raise ValueError("without Transfer networks (transfer = 'never') nobody learns from others: set passed_on = true")
        return self

    @property
    def phases(self) -> tuple[str, ...]:
        return ("match", "transfer") if self.transfer == "each-round" else ("match",)

    @property
    def closing(self) -> tuple[str, ...]:
        return ("transfer",) if self.transfer == "last" else ()

    @property
    def untrained(self) -> tuple[str, ...]:
        return ("transfer",) if self.transfer == "never" else ()

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel("features", role="local", part=self.part, combine="gather"),)

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        task = Task(epochs=self.epochs, batch=self.batch)
        if turn.phase == "match":
            start = inbox.vectors if self.passed_on else {}
            return Work(tasks=(task._replace(role="local", start=start, keep_optimiser=not self.passed_on, span=self.span(turn)),))
        # Its convolutions are new each time, so its learning rate falls anew each time.
        epochs = self.epochs * (1 if self.transfer == "each-round" else self.rounds)
        return Work(tasks=(task._replace(role="transfer", start=inbox.vectors, epochs=epochs),))

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        return Message(vectors=done.vectors) if turn.phase == "match" else Message(), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        if turn.phase == "transfer":
            return Reply()
        nodes, matrix = view.each("features")
        apart = distances(matrix)
        received, shares = nearest_of(apart, self.nearest)
        messages = {}
        for node, peers, parts in zip(nodes, received, shares, strict=True):
            chosen = peers[parts > 0]
            if len(chosen):
                # One peer's weights are sent on as they came, to the bit.
                values = matrix[chosen[0]] if len(chosen) == 1 else (parts[parts > 0] @ matrix[chosen].astype(np.float64))
                messages[node] = Message(vectors={"features": Vector(values.astype(np.float32), view.layout("features"))})
        found = {"distances": apart.astype(np.float32), "received": received, "shares": shares}
        kept = {f"{name}.{turn.round}": array for name, array in found.items()}
        return Reply(messages, {**ours, **kept, "nodes": json.dumps(list(nodes))})
