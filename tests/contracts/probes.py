"""Three strategies that ask of the interface what none of the shipped ones does; they must run unchanged on every runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vedette.message import Channel, Memory, Message, Query, Vector
from vedette.strategies.base import STRATEGIES, Reply, Strategy, Turn, View
from vedette.training.queries import QUERIES, Asked
from vedette.training.task import Distil, Done, Task, Work


@STRATEGIES.register("probe-nearest")
class NearestEncoder(Strategy):
    """Exchanges the encoder alone; each node gets that of its nearest peer, so every node is answered differently."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel("encoder", part="encoder*", combine="gather"),)

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        return Work(tasks=(Task(start=inbox.vectors),))

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        return Message(vectors=done.vectors, facts={"rows": done.answers.facts["rows"]}), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        nodes, matrix = view.each("encoder")
        gaps = ((matrix[:, None].astype(np.float64) - matrix[None]) ** 2).sum(axis=2)
        np.fill_diagonal(gaps, np.inf)
        messages = {
            node: Message(vectors={"encoder": Vector(matrix[gaps[i].argmin()], view.layout("encoder"))}) for i, node in enumerate(nodes)
        }
        return Reply(messages, {f"round-{turn.round}": gaps.argmin(axis=1)})


@QUERIES.register("probe-noisy-rows")
def noisy_rows(asked: Asked, settings: Mapping[str, Any], rng: np.random.Generator) -> Message:
    """Some scaled rows with noise on them, the label last."""
    table = asked.rows.take(rng.permutation(len(asked.rows))[: int(settings["rows"])])
    scaled = asked.detector.samples(table, asked.memory).all()
    label = np.zeros(len(table)) if table.label is None else table.label
    noisy = scaled + rng.normal(0, 0.01, scaled.shape)
    return Message(tables={"": np.column_stack([noisy, label]).astype(np.float32)})


@STRATEGIES.register("probe-tables")
class SharedTables(Strategy):
    """Nodes share tables of made-up rows and train on what they made and what they received."""

    rows: int = 20

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        query = {"made": Query("probe-noisy-rows", {"rows": self.rows})}
        return Work(tasks=(Task(extra=("made", *inbox.tables)),), queries=query, tables=inbox.tables)

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        return Message(tables={"made": done.answers.tables["made"]}), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        made = view.tables("made")
        return Reply({node: Message(tables={f"from-{peer}": made[peer] for peer in view.nodes if peer != node}) for node in view.nodes})


@STRATEGIES.register("probe-teacher")
class Taught(Strategy):
    """Nodes keep their own weights and are drawn towards the output of the average network."""

    closing: ClassVar[tuple[str, ...]] = ()

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel("model"),)

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        teacher = inbox.vectors.get("model")
        return Work(tasks=(Task(terms=() if teacher is None else (Distil(teacher, weight=0.5, temperature=2.0),)),))

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        return Message(vectors=done.vectors, facts={"rows": done.answers.facts["rows"]}), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        return Reply({"*": Message(vectors={"model": view.mean("model")})})
