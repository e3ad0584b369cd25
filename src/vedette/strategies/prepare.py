"""The stage before the rounds: nodes agree on a scaling, or each fits its own."""

from __future__ import annotations

from typing import ClassVar

from vedette.data.scaling import Scaling
from vedette.data.table import Feature
from vedette.message import Memory, Message, Query
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.training.task import Done, Work

__all__ = ["Prepare"]


class Prepare(Strategy):
    """Fit the scaling; what travels are extremes or moments and counts of levels, never rows.

    Parameters
    ----------
    scaling
        What to fit, and whether together.
    features
        Name, kind and unit of each feature.
    """

    phases: ClassVar[tuple[str, ...]] = ("scale",)
    closing: ClassVar[tuple[str, ...]] = ("adopt",)

    rounds: int = 1
    scaling: Scaling = Scaling()
    features: tuple[Feature, ...] = ()

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        if turn.phase == "adopt":
            return Work(keep={**inbox.tables, **inbox.facts})
        return Work(queries={"scaling": Query("scaling", self.scaling.model_dump(mode="json"))})

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        if turn.phase == "adopt":
            return Message(), mine
        summary = Message(
            tables={key.removeprefix("scaling."): table for key, table in done.answers.tables.items()},
            facts={"levels": done.answers.facts["scaling.levels"]},
        )
        if self.scaling.fit == "federated":
            return summary, mine
        return Message(), {**mine, **self.scaling.fitted(summary, self.features).memory()}

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        if self.scaling.fit == "local":
            return Reply()
        numbers, levels = view.tables("numbers"), view.facts("levels")
        summaries = {node: Message(tables={"numbers": numbers[node]}, facts={"levels": levels[node]}) for node in numbers}
        scaler = self.scaling.fitted(self.scaling.merged(summaries), self.features).memory()
        return Reply(
            {
                "*": Message(
                    tables={key: value for key, value in scaler.items() if not isinstance(value, float | str)},
                    facts={key: value for key, value in scaler.items() if isinstance(value, float | str)},
                )
            }
        )
