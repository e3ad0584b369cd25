"""A node on the mesh: asks the coordinator what comes next, does it, answers; and asks again, however long nobody replies."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from vedette.errors import MessageRefused, MissingExtra, RecipeError
from vedette.message import Message, bytes_of
from vedette.runtimes.base import Plan, Round, digest
from vedette.runtimes.mesh.awaited import awaited_at, parts_of
from vedette.runtimes.mesh.coordinator import AGAIN, HOLD, OVER, REFUSED, WAIT
from vedette.runtimes.mesh.course import Step
from vedette.runtimes.mesh.expected import Expected
from vedette.runtimes.mesh.learner import Learner
from vedette.runtimes.mesh.rules import alive, key
from vedette.runtimes.mesh.status import Status, Tally
from vedette.runtimes.mesh.wire import Header, decode, encode, read_json

__all__ = ["Node"]

log = logging.getLogger(__name__)

PATIENCE = 600.0
"""Seconds after which a question is asked anew: time for 64 MB at 1 Mbit/s. A link that is lost ends the question at once.

Zenoh keeps 1.2 kB of each question until then, replied to or not: 3 MB where four are asked a second.
"""

PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds before a question that found nobody is asked again."""

SILENT, SELDOM = 10.0, 3600.0
"""Seconds that nobody replies before it is logged; then after twice as long each time, at last so seldom."""

NOBODY = "the coordinator is not there, or has another address (--connect), name (--coordinator), run (--run) or fleet of keys"

LOOKS, WAITS = "looks for the coordinator", "waits for what comes next"


class Node:
    """A node's side of a run that a coordinator leads.

    Parameters
    ----------
    session, name
        From `vedette.runtimes.mesh.session.open_session`.
    coordinator
        Whom to ask.
    run
        Name of the run in keys.
    most_bytes
        Of a message.
    """

    def __init__(self, session: Any, name: str, coordinator: str, run: str, most_bytes: int = 64 << 20) -> None:
        self.session, self.name, self.coordinator, self.run_name, self.most_bytes = session, name, coordinator, run, most_bytes
        self.stopped = threading.Event()
        self.tally, self.history = Tally(), list[Round]()
        self._learner: Learner | None = None
        self._doing, self._counts = LOOKS, True

    def status(self) -> Status:
        """Tell where the run stands; from any thread."""
        learner = self._learner
        more = () if learner is None else (learner.run, learner.course, learner.position)
        return Status("node", self.name, self.run_name, self._doing, tuple(self.history), self.tally, *more)

    def plan(self) -> Plan:
        """Return the run's plan, as soon as the coordinator is there.

        Raises
        ------
        MessageRefused
            What came is no plan.
        """
        awaited = Expected(self.run_name, (0,), ("plan",), (self.coordinator,), self.most_bytes, facts={"plan": self.most_bytes})
        _, payload = self._asked("join", None)
        plan = read_json(str(decode(payload, awaited)[1].facts["plan"]))
        if not isinstance(plan, dict):
            raise MessageRefused("the coordinator sent no plan")
        return plan

    def refuse(self, reason: str) -> None:
        """Tell the coordinator why this node takes no part; if it is not there, nobody hears it."""
        header = Header(run=self.run_name, kind="refusal", node=self.name)
        said = encode(header, Message(facts={"reason": reason[:1000]}))
        for _ in self.session.get(key(self.run_name, self.coordinator, self.name, "refuse"), payload=said, timeout=HOLD):
            pass

    def carry_out(self, learner: Learner, plan: Plan, on_round: Callable[[Round], None] = lambda _: None) -> None:
        """Do what is asked for until the run is over, and tell of every round that this node took part in.

        Raises
        ------
        RecipeError
            The coordinator refuses this node, or asks for what its owner's policy refuses.
        MessageRefused
            What the coordinator sent is not what was expected.
        VedetteError
            See `Learner.take`.
        """
        mark, told = digest(plan), -1
        self._learner = learner
        token = self.session.liveliness().declare_token(alive(self.run_name, self.name))
        try:
            while not self.stopped.is_set():
                answers = learner.answered == learner.position - 1 != told
                if answers:
                    what, payload = self._asked(f"answer/{mark}/{learner.answered}", self._answer(learner, mark))
                    told = learner.answered
                else:
                    what, payload = self._asked(f"ask/{mark}/{learner.position}", None)
                if what == OVER:
                    self._doing = "the run is over"
                    return
                if what == REFUSED:
                    raise RecipeError(f"the coordinator refuses node '{self.name}': {payload.decode(errors='replace')[:300]}")
                if what == AGAIN:
                    told = -1
                elif what != WAIT:
                    entry = self._take(learner, mark, what, payload)
                    if entry is not None:
                        on_round(entry)
        finally:
            token.undeclare()

    def _take(self, learner: Learner, mark: str, what: str, payload: bytes) -> Round | None:
        """Do the step whose inbox came; return the round that it was the last of."""
        if not what.isdecimal() or not learner.position <= int(what) < len(learner.course):
            raise MessageRefused(f"the coordinator asks for a step {what!r:.20} of {len(learner.course)}, after {learner.position}")
        place = int(what)
        parts = parts_of(learner.run, learner.memory)
        step = learner.course[place]
        awaited = awaited_at(learner.run, mark, step, "inbox", (self.coordinator,), parts, self.most_bytes)
        message = decode(payload, awaited)[1]
        self.tally.begin()
        self._doing = "works"
        learner.take(place, message)
        self._doing = WAITS
        name, strategy = learner.run.stages[step.stage]
        if step.closing or step.phase != strategy.phases[-1]:
            return None
        sent, received = bytes_of(learner.answer), bytes_of(message)
        entry = Round(name, step.round + 1, strategy.rounds, learner.loss, sent, received, epsilon=self.spent(learner, step))
        self.history.append(entry)
        self.tally.end(name)
        return entry

    def spent(self, learner: Learner, step: Step) -> float | None:
        """Return the epsilon of all up to the end of a round, as if the node took part in each; None without a budget or dp-accounting."""
        if self._counts:
            try:
                return learner.run.spent(step.stage, step.round + 1)
            except MissingExtra as error:
                self._counts = False
                log.warning("cannot tell what privacy was spent", extra={"reason": str(error)})
        return None

    def _answer(self, learner: Learner, mark: str) -> bytes:
        step = learner.course[learner.answered]
        stage = learner.run.stages[step.stage].name
        header = Header(run=mark, stage=stage, round=step.round, phase=step.phase, kind="answer", node=self.name)
        return encode(header, learner.answer)

    def _asked(self, topic: str, payload: bytes | None) -> tuple[str, bytes]:
        """Ask until there is a reply; return what it is, and what comes along."""
        tries, alone, due = 0, 0.0, SILENT
        while not self.stopped.is_set():
            where = key(self.run_name, self.coordinator, self.name, topic)
            for reply in self.session.get(where, payload=payload, timeout=PATIENCE):
                if reply.ok is not None:
                    sample = reply.ok
                    attachment, found = sample.attachment, sample.payload.to_bytes()
                    self.tally.count(len(found), len(payload or b""))
                    self._doing = WAITS
                    return ("" if attachment is None else attachment.to_string()), found
            # A coordinator that is not there, or not yet, ends the question at once.
            self._doing = LOOKS
            alone = alone or time.monotonic()
            if (passed := time.monotonic() - alone) >= due:
                log.warning(
                    "nobody replies",
                    extra={"node": self.coordinator, "run": self.run_name, "seconds": round(passed), "reason": NOBODY},
                )
                due += min(due, SELDOM)
            self.stopped.wait(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
        return OVER, b""
