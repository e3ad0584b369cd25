"""The coordinator on the mesh: nodes ask what comes next and are told, at once or as soon as there is something to tell.

All that is said is a question of a node's and its reply, so nothing can get lost on the way without the node asking again:

    join                   -> the plan
    ask/PLAN/POSITION      -> what comes next for a node that has done all before a position
    answer/PLAN/PLACE      -> the same, after the node's answer to a step, which comes with the question
    refuse                 -> nothing: the node says why it takes no part

A reply's attachment says what it is: the number of a step (and the inbox for it comes along), or `WAIT`, `AGAIN`, `OVER`, `REFUSED`.
"""

from __future__ import annotations

import json
import logging
import math
import queue
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, NamedTuple

from vedette.errors import MessageRefused
from vedette.message import Message
from vedette.runtimes.base import Plan, digest
from vedette.runtimes.mesh.awaited import awaited_at, memory_in, parts_of
from vedette.runtimes.mesh.expected import Expected, Part
from vedette.runtimes.mesh.lead import Lead
from vedette.runtimes.mesh.rules import alive, inbox, place_of
from vedette.runtimes.mesh.status import Condition, Status, Tally
from vedette.runtimes.mesh.wire import Header, Precision, decode, encode

__all__ = ["AGAIN", "HOLD", "OVER", "REFUSED", "WAIT", "Coordinator"]

log = logging.getLogger(__name__)

WAIT, AGAIN, OVER, REFUSED = "wait", "again", "over", "refused"
"""Ask again later; say your last answer again; the run is over; your question makes no sense here, and why."""

MOST_REASON = 4096
"""Bytes of what a node may say of why it takes no part."""

HOLD = 5.0
"""Seconds a question is kept until there is something to tell."""

SENDERS = 32
"""Replies on their way at once: each waits until its link takes it, a weak one for minutes, and nobody else does."""

TICK = 0.2
"""Seconds between two looks at the clock."""


class _Question(NamedTuple):
    """A question that is not answered yet."""

    query: Any
    position: int
    since: float


class Coordinator:
    """Serves a run to nodes of the mesh.

    Parameters
    ----------
    plan, lead
        The run, and who leads it.
    session, name
        From `vedette.runtimes.mesh.session.open_session`.
    run
        Name of the run in keys.
    most_bytes
        Of a message.
    precision
        What parameters are sent to nodes in; what nodes send is for the chain (`vedette.strategies.chain.compress`).
    linger
        Seconds after the end in which nodes that have not come to it may still do so.
    """

    def __init__(
        self,
        plan: Plan,
        lead: Lead,
        session: Any,
        name: str,
        run: str,
        most_bytes: int = 64 << 20,
        precision: Precision = "float32",
        linger: float = 10.0,
    ) -> None:
        self.plan, self.lead, self.session, self.name, self.run_name = plan, lead, session, name, run
        self.most_bytes, self.precision, self.linger, self.mark = most_bytes, precision, linger, digest(plan)
        self.tally = Tally()
        self._events = queue.SimpleQueue[tuple[str, Any]]()
        self._open: dict[str, _Question] = {}
        self._ended: set[str] = set()
        self._late, self._refused = set[str](), set[str]()
        self._encoded: tuple[int, Message, bytes] | None = None
        self._senders = ThreadPoolExecutor(SENDERS)

    def serve(self, on_change: Callable[[Coordinator], None] = lambda _: None) -> None:
        """Lead the run to its end.

        Parameters
        ----------
        on_change
            Called after everything that happened, and from time to time.
        """
        import zenoh

        with ExitStack() as stack:
            # Callbacks come in other threads: all they do is to tell this one.
            heard = self.session.declare_queryable(inbox(self.run_name, self.name), lambda query: self._events.put(("question", query)))
            stack.callback(heard.undeclare)
            seen = self.session.liveliness().declare_subscriber(
                alive(self.run_name), lambda sample: self._events.put(("alive", (str(sample.key_expr), sample.kind))), history=True
            )
            stack.callback(seen.undeclare)
            stack.enter_context(self._senders)
            over = 0.0
            if not self.lead.over:
                log.info("nodes may come", extra={"node": self.name, "run": self.run_name})
            while not self.lead.over or (time.monotonic() - over < self.linger and not self._ended >= self.lead.present):
                try:
                    what, about = self._events.get(timeout=TICK)
                except queue.Empty:
                    what, about = "", None
                now = time.monotonic()
                if what == "question":
                    self._asked(about, now)
                elif what == "alive" and about[1] == zenoh.SampleKind.DELETE:
                    self._gone(about[0].rpartition("/")[2], now)
                self._advance(now)
                self._tell(now)
                if self.lead.over and not over:
                    over = now
                on_change(self)

    def status(self) -> Status:
        """Tell where the run stands; from any thread."""
        lead, now = self.lead, time.monotonic()
        asked, left = lead.asked, lead.deadline - now
        if lead.over:
            doing, left = "the run is over" + ("" if self._ended >= lead.present else "; waits for nodes to come to its end"), math.nan
        elif not asked:
            doing, left = f"waits for nodes: {len(lead.present)} there, begins with {lead.needed}", math.nan
        else:
            doing = f"waits for {len(asked) - len(lead.heard)} of {len(asked)} nodes"
        return Status(
            "coordinator",
            self.name,
            self.run_name,
            doing,
            tuple(lead.state.history),
            self.tally,
            lead.run,
            lead.course,
            lead.place,
            {node: self._condition(node) for node in sorted(lead.known)},
            len(lead.present),
            len(asked),
            len(lead.heard),
            lead.needed,
            left,
        )

    def _condition(self, node: str) -> Condition:
        if node in self._ended:
            return "done"
        if node in self.lead.heard:
            return "answered"
        if node in self._refused:
            return "refused"
        if node not in self.lead.present:
            return "gone"
        if node not in self.lead.asked:
            return "there"
        return "late" if node in self._late else "working"

    def _advance(self, now: float) -> None:
        """Exchange as often as it is time to, and count."""
        lead = self.lead
        heard, rounds = lead.heard, len(lead.state.history)
        if lead.asked:
            self.tally.begin()
            if now >= lead.deadline:
                self._late |= {*lead.asked} - {*heard}
        while lead.advance(now):
            self._late, self._refused = self._late - {*heard}, set()
            for entry in lead.state.history[rounds:]:
                self.tally.end(entry.stage)
                self.tally.count(refused=entry.refused)
                self._refused |= set(entry.refused)
            heard, rounds = lead.heard, len(lead.state.history)

    def _asked(self, query: Any, now: float) -> None:
        place = place_of(str(query.key_expr))
        if place is None:
            return
        node, (kind, *rest) = place.sender, place.topic.split("/")
        try:
            if kind == "join":
                header = Header(run=self.run_name, kind="plan", node=self.name)
                self._reply(query, "plan", encode(header, Message(facts={"plan": json.dumps(self.plan)})))
                return
            if kind == "refuse":
                self._declined(node, query)
                return
            position = self._position(kind, rest)
            if kind == "answer":
                self._heard(node, position - 1, query)
        except MessageRefused as error:
            log.warning("message refused", extra={"node": node, "reason": str(error)})
            self.tally.count(refused=[node])
            self._refused.add(node)
            self._reply(query, REFUSED, str(error).encode())
            return
        self.lead.come(node, now)
        before = self._open.pop(node, None)
        if before is not None:
            # It has lost the reply, or never waited for it.
            before.query.drop()
        self._open[node] = _Question(query, position, now)

    def _declined(self, node: str, query: Any) -> None:
        """Say aloud why a node takes no part."""
        data = query.payload.to_bytes() if query.payload is not None else b""
        awaited = Expected(self.run_name, (0,), ("refusal",), (node,), MOST_REASON, facts={"reason": MOST_REASON})
        reason = str(decode(data, awaited)[1].facts["reason"])
        log.warning("node takes no part", extra={"node": node, "reason": reason[:300]})
        self._reply(query, OVER, b"")

    def _position(self, kind: str, rest: list[str]) -> int:
        """Read what a question says of where the node is."""
        if kind not in ("ask", "answer") or len(rest) != 2 or not rest[1].isdecimal() or len(rest[1]) > 9:
            raise MessageRefused("nobody asks like this")
        if rest[0] != self.mark:
            raise MessageRefused("it belongs to another run: this one has another plan")
        position = int(rest[1]) + (kind == "answer")
        if position > len(self.lead.course):
            raise MessageRefused("it is beyond the end of the run")
        return position

    def _heard(self, node: str, place: int, query: Any) -> None:
        """Take an answer in."""
        data = query.payload.to_bytes() if query.payload is not None else b""
        self.tally.count(bytes_in=len(data), late=place != self.lead.place)
        if not self.lead.takes(node, place):
            self.lead.hear(node, place, Message())
            return
        awaited = awaited_at(self.lead.run, self.mark, self.lead.course[place], "answer", (node,), self._parts(), self.most_bytes)
        self.lead.hear(node, place, decode(data, awaited)[1])

    def _parts(self) -> Mapping[str, Part]:
        prepared = self.lead.state.closed.get("prepare", {}).get("*")
        return parts_of(self.lead.run, {} if prepared is None else memory_in(prepared))

    def _gone(self, node: str, now: float) -> None:
        self.lead.go(node, now)
        question = self._open.pop(node, None)
        if question is not None:
            question.query.drop()

    def _tell(self, now: float) -> None:
        """Reply to those there is something to tell."""
        for node, (query, position, since) in list(self._open.items()):
            task = self.lead.next_for(node, position)
            if task is not None:
                self._reply(query, str(task.place), self._inbox(task.place, task.inbox))
            elif self.lead.over:
                self._ended.add(node)
                self._reply(query, OVER, b"")
            elif self.lead.lacks(node, position):
                self._reply(query, AGAIN, b"")
            elif now - since > HOLD:
                self._reply(query, WAIT, b"")
            else:
                continue
            del self._open[node]

    def _inbox(self, place: int, message: Message) -> bytes:
        """Encode what nodes are sent; what is for all of them once."""
        if self._encoded is None or self._encoded[0] != place or self._encoded[1] is not message:
            step = self.lead.course[place]
            stage = self.lead.run.stages[step.stage].name
            header = Header(run=self.mark, stage=stage, round=step.round, phase=step.phase, kind="inbox", node=self.name)
            self._encoded = place, message, encode(header, message, self.precision)
        return self._encoded[2]

    def _reply(self, query: Any, what: str, payload: bytes) -> None:
        self.tally.count(bytes_out=len(payload))
        self._senders.submit(_send, query, what, payload)


def _send(query: Any, what: str, payload: bytes) -> None:
    query.reply(query.key_expr, payload, attachment=what.encode())
    query.drop()
