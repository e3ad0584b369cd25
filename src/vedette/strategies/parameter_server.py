"""Parameter server: one detector trained data-parallel, its weights at a server, its rows in shards at the workers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from vedette.errors import RecipeError
from vedette.message import Array, Channel, Memory, Message, Vector
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.training.task import Done, Task, Work

__all__ = ["ParameterServer"]

LEAST = 1e-9
"""A share of the workers so small that it is one of them."""


class ParameterServer(Strategy):
    """A parameter server (Li et al. 2014) as Holdren 2022, section 3.3.2, trains on a cluster.

    Every worker takes k steps from the server's weights and hands its own back. Synchronous, the server goes on with their mean, weighted
    by rows. Asynchronous, it moves by each answer as it arrives, the less the more it has moved since that worker was sent weights
    (Xie et al. 2019, algorithm 1): by a share of α (1 + max(0, s - b))^-a of the way to the worker's weights, with staleness s. The others
    arrive once each, b = workers - 1, before a worker does that is as fast as they are: that is not stale (docs/distributed.md).
    What the optimiser remembers travels and is averaged like the weights: so the result is nearer to one machine's (docs/distributed.md),
    and a worker need not have been there before.

    Parameters
    ----------
    mode
        ``"synchronous"`` or ``"asynchronous"``; there a round is one arrival: whoever comes next on a cluster, and where nothing arrives by
        itself (a simulation) whose it is is drawn.
    steps
        Local ones between two exchanges (k).
    epochs
        Passes over all rows. A strategy does not know how many there are: `over` works out the rounds that it takes.
    rounds
        0: as many as `epochs` take.
    batch
        Rows of a worker's step; 0: the detector's own number, shared out among the workers by `over`, so that a step of all
        together sees as many rows as one machine's does.
    mixing
        Share of the way that the server goes towards an answer that is not stale (α). With 1 and workers alike it moves, all of them
        together, as far as a synchronous one.
    discount
        Power that the share falls with as answers are staler (a).
    bound
        Answers that are staler than this are left out, and their worker is sent the newest weights; 0: none is.
    order
        Whose answers arrive, as another run recorded it, to have the same weights again.

    Raises
    ------
    RecipeError
        An order that is not as long as there are rounds, or of a synchronous server.
    """

    begins_anew: ClassVar[bool] = True
    shards: ClassVar[bool] = True

    mode: Literal["synchronous", "asynchronous"] = "synchronous"
    steps: int = Field(default=10, ge=1)
    epochs: int = Field(default=10, ge=1)
    rounds: int = Field(default=0, ge=0)
    batch: int = Field(default=0, ge=0)
    mixing: float = Field(default=1.0, gt=0, le=1)
    discount: float = Field(default=0.5, ge=0)
    bound: int = Field(default=0, ge=0)
    order: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_arrives_at_a_time(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if values.get("mode") != "asynchronous":
            return values
        return {"sample": LEAST, **values, "rounds": values.get("rounds") or len(values.get("order", ()))}

    @model_validator(mode="after")
    def _order_is_whole(self) -> Self:
        if self.order and (self.mode == "synchronous" or self.rounds != len(self.order)):
            raise ValueError(
                f"an order of arrivals is for an asynchronous server, one a round (order: {len(self.order)}, rounds: {self.rounds})"
            )
        return self

    @property
    def arrivals(self) -> Sequence[str] | None:
        return self.order if self.mode == "asynchronous" else None

    @property
    def laps(self) -> int:
        return self.epochs

    def over(self, rows: Sequence[int], batch: int) -> Self:
        mine = self.batch or math.ceil(batch / len(rows))
        every = 1 if self.mode == "asynchronous" else len(rows)
        rounds = self.rounds or max(1, round(self.epochs * sum(rows) / (self.steps * mine * every)))
        return self.model_copy(update={"batch": mine, "rounds": rounds})

    @property
    def closing(self) -> tuple[str, ...]:
        return ("adopt",)

    @property
    def channels(self) -> tuple[Channel, ...]:
        combine: Literal["gather", "mean"] = "mean" if self.mode == "synchronous" else "gather"
        return (Channel("model", combine=combine), Channel("norms", combine=combine, holds="buffers"))

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        steps = 0 if turn.phase == "adopt" else self.steps
        task = Task(start=inbox.vectors, steps=steps, batch=self.batch or None, keep_optimiser=True, span=self.span(turn))
        return Work(keep=inbox.tables, tasks=(task,))

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        state = {name: np.asarray(value) for name, value in mine.items() if name.startswith("optimiser.")}
        return Message(done.vectors, state, {"rows": done.answers.facts["rows"], "state": "\n".join(sorted(state))}), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        channels = [channel.name for channel in self.channels]
        states = str(next(iter(view.facts("state").values()), "")).splitlines()
        if self.mode == "synchronous":
            return Reply({"*": Message({name: view.mean(name) for name in channels}, {name: _mean(view, name) for name in states})})
        if turn.node:
            raise RecipeError("an asynchronous parameter server is one: take topology = 'server', or mode = 'synchronous'")
        answers = {name: dict(zip(*view.each(name), strict=True)) for name in channels} | {name: view.tables(name) for name in states}
        for node in view.nodes:
            ours = self.moved(ours, node, {name: by_node[node] for name, by_node in answers.items()}, len(turn.receivers))
        ours = {**ours, **{f"sent.{node}": ours["version"] for node in view.nodes}}
        now = {name: np.asarray(ours[name], dtype=np.float32) for name in answers}
        message = Message({name: Vector(now[name], view.layout(name)) for name in channels}, {name: now[name] for name in states})
        # In the end all get what the server has.
        return Reply({"*": message} if turn.round + 1 == self.rounds else dict.fromkeys(view.nodes, message), ours)

    def moved(self, ours: Memory, node: str, answer: Mapping[str, Array], workers: int) -> Memory:
        """Return the server's memory after one worker's answer, in whatever order these come.

        Parameters
        ----------
        ours
            The weights, by how many answers they were moved (``version``), and the version that each worker was sent (``sent.NODE``).
            Empty before the first answer, which is taken as it is: nobody else knows the first weights.
        node, answer
            Whose answer, and its parameters by channel and what its optimiser remembers, float32.
        workers
            How many there are.
        """
        version = float(ours.get("version", 0.0))
        staleness = version - float(ours.get(f"sent.{node}", 0.0))
        if 0 < self.bound < staleness:
            return ours
        share = self.mixing * (1 + max(0.0, staleness - (workers - 1))) ** -self.discount
        weights = {name: (1 - share) * np.asarray(ours.get(name, values), np.float64) + share * values for name, values in answer.items()}
        return {**ours, **weights, "version": version + 1}


def _mean(view: View, table: str) -> Array:
    """Return the mean of a table, weighted by rows."""
    rows, tables = view.facts("rows"), view.tables(table)
    total = sum(float(rows[node]) * tables[node].astype(np.float64) for node in view.nodes)
    return np.asarray(total / sum(float(rows[node]) for node in view.nodes), dtype=np.float32)
