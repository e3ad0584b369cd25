"""P2PK-SMOTE: peers that share some of the points they make up of their rarer class."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from vedette.message import Array, Memory, Message, Query
from vedette.strategies.base import Reply, Turn, View
from vedette.strategies.gossip import GossipFedAvg
from vedette.training.task import Done, Work

__all__ = ["P2pkSmote"]

SHARING = "own.sharing."
"""Names of what a node remembers of its points; as all that is its own, it does not tell detectors apart that are otherwise equal."""

COUNTED = ("made", "close", "shared")
"""What is summed up over the rounds of the points that a node makes."""


class P2pkSmote(GossipFedAvg):
    """Learning among peers with K-SMOTE and shared synthetic points (Wang et al. 2021, algorithm 2).

    In each round a node makes points of its rarer class up (K-SMOTE, algorithm 1) and trains on them, on its own rows and on all points
    it was given (lines 5 to 10). Those that merge get a share of the points of each neighbour (eq. 7). Points that lie too near to a
    real row never leave a node; what it made, held back and shared stays in its memory (``own.sharing.made`` …). What it was given is
    gone after the last round: detectors hold nobody's points.

    Parameters
    ----------
    samples
        Rows of the rarer class that points are made around (k of algorithm 1).
    neighbours
        Nearest rows of that class that draw each point away from its own (N of eq. 3).
    ratio
        Rows of the rarer class, made up ones included, for each row of the other (r).
    share
        Of a node's made-up points, sent to those that merge (alpha of eq. 7).
    closeness
        A point does not leave that is nearer to a real row than this share of the real rows are to their nearest.
    most_received
        Received points that a node keeps; of more, that many at random.
    """

    labelled: ClassVar[bool] = True
    shares_rows: ClassVar[bool] = True

    samples: int = Field(default=15, ge=1)
    neighbours: int = Field(default=20, ge=1)
    ratio: float = Field(default=1.0, gt=0, le=1)
    share: float = Field(default=0.1, ge=0, le=1)
    closeness: float = Field(default=0.05, ge=0, le=1)
    most_received: int = Field(default=20_000, ge=1)

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        work = super().work(turn, inbox, mine)
        if turn.phase != "train":
            return work
        made = Query("k-smote", self.model_dump(include={"samples", "neighbours", "ratio", "share", "closeness"}))
        received = self._received(turn, inbox, mine)
        tasks = tuple(task._replace(extra=("synthetic", *received)) for task in work.tasks)
        return work._replace(keep=received, tasks=tasks, queries={**work.queries, "synthetic": made}, tables=received)

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        message, mine = super().answer(turn, done, mine)
        if turn.phase == "adopt":
            return message, {name: value for name, value in mine.items() if name != "received"}
        if turn.phase != "train":
            return message, mine
        said = {name.removeprefix("synthetic."): fact for name, fact in done.answers.facts.items() if name.startswith("synthetic.")}
        totals = {f"{SHARING}{name}": float(mine.get(f"{SHARING}{name}", 0.0)) + float(said[name]) for name in COUNTED}
        last = {f"{SHARING}{name}": said[name] for name in ("minority", "membership") if name in said}
        return message._replace(tables={"synthetic": done.answers.tables["synthetic.shared"]}), {**mine, **totals, **last}

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        reply = super().exchange(turn, view, ours)
        if turn.phase != "train" or not reply.messages:
            return reply
        shared = view.tables("synthetic")
        given = {}
        for node, message in reply.messages.items():
            own = shared.get(node)
            others = [shared[peer] for peer in sorted(shared) if own is not None and peer != node and _are_points_like(shared[peer], own)]
            given[node] = message._replace(tables={"received": np.concatenate(others)}) if others else message
        return reply._replace(messages=given)

    def _received(self, turn: Turn, inbox: Message, mine: Memory) -> dict[str, Array]:
        """Return all points a node was given so far, those just come included."""
        parts = [np.asarray(place["received"]) for place in (mine, inbox.tables) if "received" in place]
        if not parts:
            return {}
        rows = np.concatenate(parts)
        if len(rows) > self.most_received:
            rows = rows[np.sort(turn.rng().choice(len(rows), self.most_received, replace=False))]
        return {"received": rows}


def _are_points_like(given: Array, own: Array) -> bool:
    """Tell whether a table holds points as a node's own are: as wide, the label last, 0 or 1. Nobody else's ill will ends a run."""
    shaped = given.ndim == 2 and len(given) > 0 and given.shape[1:] == own.shape[1:] and given.dtype.kind == "f"
    return bool(shaped and np.isin(given[:, -1], (0, 1)).all())
