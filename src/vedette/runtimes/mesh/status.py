"""Where a run stands, as one of its parties sees it: what there is to look at, for people and for machines."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from vedette.runtimes.base import Round
from vedette.runtimes.mesh.course import Step
from vedette.runtimes.phase import Run

__all__ = ["Condition", "Status", "Tally"]

Condition: TypeAlias = Literal["refused", "late", "gone", "working", "answered", "there", "done"]
"""How it is with a node: what it said last was refused, it did not answer by the last deadline nor since, it has no link, is asked, was
heard, is there and not asked, has come to the end."""


class Tally:
    """What a party counts from its start on; for any thread.

    Attributes
    ----------
    bytes_in, bytes_out
        Of messages, with their headers.
    late
        Answers that were too late for their exchange.
    refused
        Messages that were refused, by who sent them.
    seconds
        Stage of each round that ended, and what it took.
    """

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = self.late = 0
        self.refused = Counter[str]()
        self.seconds: list[tuple[str, float]] = []
        self._since: float | None = None
        self._lock = threading.Lock()

    def count(self, bytes_in: int = 0, bytes_out: int = 0, late: int = 0, refused: Collection[str] = ()) -> None:
        """Add to what was counted before."""
        with self._lock:
            self.bytes_in, self.bytes_out, self.late = self.bytes_in + bytes_in, self.bytes_out + bytes_out, self.late + late
            self.refused.update(refused)

    @property
    def begun(self) -> bool:
        """Whether the first round has begun."""
        return self._since is not None

    def begin(self) -> None:
        """Begin to measure the first round, unless it has begun."""
        self._since = self._since or time.monotonic()

    def end(self, stage: str) -> None:
        """End a round; the next one begins."""
        now = time.monotonic()
        self.seconds.append((stage, now - (self._since or now)))
        self._since = now


class Status(NamedTuple):
    """One moment of a run.

    Attributes
    ----------
    party, name
        Who sees it so: ``"coordinator"``, ``"node"`` or ``"peer"``, and its name.
    run_name
        Name of the run in keys.
    doing
        What it does at the moment, in a few words.
    history
        The rounds that are over.
    tally
        What it has counted.
    run, course, place
        The run, its steps, and the one that is next or under way; nothing before a node has the plan.
    nodes
        The others, and how it is with them.
    online, asked, heard
        How many are there, work in this phase, and have answered in it.
    quorum
        How many must have answered at the deadline; before the run begins, how many must be there; 0 if it goes on with whoever answered.
    left
        Seconds to the deadline, NaN if there is none.
    """

    party: Literal["coordinator", "node", "peer"]
    name: str
    run_name: str
    doing: str
    history: Sequence[Round]
    tally: Tally
    run: Run | None = None
    course: Sequence[Step] = ()
    place: int = 0
    nodes: Mapping[str, Condition] = {}
    online: int = 0
    asked: int = 0
    heard: int = 0
    quorum: int = 0
    left: float = math.nan

    @property
    def rounds(self) -> dict[str, int]:
        """Rounds of each stage."""
        return {} if self.run is None else {stage.name: stage.strategy.rounds for stage in self.run.stages}

    @property
    def reached(self) -> dict[str, int]:
        """The last round that is over, of each stage."""
        return {**dict.fromkeys(self.rounds, 0), **{entry.stage: entry.number for entry in self.history}}

    @property
    def losses(self) -> list[float]:
        """Training loss of each round in which there was one."""
        return [entry.loss for entry in self.history if entry.loss is not None]
