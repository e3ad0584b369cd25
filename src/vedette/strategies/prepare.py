"""The stage before the rounds: nodes agree on a scaling, or each fits its own."""

from __future__ import annotations

from typing import ClassVar

from vedette.data.scaling import Scaling
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
    """

    relayed: ClassVar[bool] = True

    rounds: int = 1
    scaling: Scaling = Scaling()

    @property
    def phases(self) -> tuple[str, ...]:
        return ("scale",)

    @property
    def closing(self) -> tuple[str, ...]:
        return ("adopt",)

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        if turn.phase == "adopt":
            return Work(keep={**inbox.tables, **inbox.facts})
        return Work(queries={"scaling": Query("scaling", self.scaling.model_dump(mode="json"))})

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        if turn.phase == "adopt":
            return Message(), mine
        summary = Message(
            tables={key.removeprefix("scaling."): table for key, table in done.answers.tables.items()},
            facts={name: done.answers.facts[f"scaling.{name}"] for name in self.scaling.facts},
        )
        if self.scaling.fit == "federated":
            return summary, mine
        return Message(), {**mine, **self.scaling.fitted(summary).memory()}

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        if self.scaling.fit == "local":
            return Reply()
        numbers = view.tables("numbers")
        summaries = {
            node: Message(tables={"numbers": table}, facts={name: view.facts(name)[node] for name in self.scaling.facts})
            for node, table in numbers.items()
        }
        scaler = self.scaling.fitted(self.scaling.merged(summaries)).memory()
        return Reply(
            {
                "*": Message(
                    tables={key: value for key, value in scaler.items() if not isinstance(value, float | str)},
                    facts={key: value for key, value in scaler.items() if isinstance(value, float | str)},
                )
            }
        )
