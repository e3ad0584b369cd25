"""A peer on the mesh: learns with its neighbours, without anybody who leads.

Each peer offers what it answered to a step, and asks its neighbours for theirs:

    hear/PLAN/PLACE -> the answer to a step, as soon as it is there

A reply's attachment says what it is: `ANSWER` (and it comes along), `GONE` and the step the neighbour is at, if it is no longer kept, or
`REFUSED`. A neighbour that is not there is not waited for; one that is late is waited for until the deadline.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vedette.errors import CheckpointError, MessageRefused, RecipeError
from vedette.message import Message
from vedette.runtimes.base import Plan, Round, digest
from vedette.runtimes.checkpoint import State, load_state, save_state
from vedette.runtimes.mesh.awaited import awaited_at, parts_of
from vedette.runtimes.mesh.course import Step
from vedette.runtimes.mesh.exchange import exchanged
from vedette.runtimes.mesh.lead import Quorum
from vedette.runtimes.mesh.learner import Learner
from vedette.runtimes.mesh.rules import alive, inbox, key, place_of
from vedette.runtimes.mesh.status import Condition, Status, Tally
from vedette.runtimes.mesh.wire import Header, decode, encode
from vedette.runtimes.phase import Phase, inbox_of

__all__ = ["Peer"]

log = logging.getLogger(__name__)

ANSWER, GONE, REFUSED = "answer", "gone", "refused"

KEPT = 16
"""Answers that are kept for neighbours that are behind."""

PAUSE = 0.05
"""Seconds before a neighbour that did not reply is asked again."""


class Peer:
    """One of several that learn together.

    Parameters
    ----------
    plan, learner
        The run, with a topology of peers, and this node's side of it.
    session
        From `vedette.runtimes.mesh.session.open_session`.
    run
        Name of the run in keys.
    nodes
        All peers, this one among them.
    quorum
        How many peers must be there at the beginning, and when to stop waiting.
    checkpoint
        File to keep the state of its exchanges in.
    on_round
        Called after every round.
    most_bytes
        Of a message.

    Raises
    ------
    RecipeError
        The plan's topology has a coordinator, or this node is none of the peers.
    CheckpointError
        The file is damaged or of another run.
    """

    def __init__(
        self,
        plan: Plan,
        learner: Learner,
        session: Any,
        run: str,
        nodes: Sequence[str],
        quorum: Quorum,
        checkpoint: Path | None = None,
        on_round: Callable[[Round], None] = lambda _: None,
        most_bytes: int = 64 << 20,
    ) -> None:
        self.learner, self.session, self.run_name, self.nodes = learner, session, run, tuple(sorted(nodes))
        self.quorum, self.checkpoint, self.on_round = quorum, checkpoint, on_round
        self.most_bytes, self.mark = most_bytes, digest(plan)
        if learner.run.topology.central:
            raise RecipeError("peers need a topology of peers, such as topology = 'full' or 'ring'; this one has a coordinator")
        if learner.node not in self.nodes:
            raise RecipeError(f"'{learner.node}' is none of the peers: {', '.join(self.nodes)}")
        self.state = State({})
        if checkpoint is not None and checkpoint.exists():
            self.state = load_state(checkpoint, self.mark)
            if self.state.phase > learner.position:
                raise CheckpointError(f"{checkpoint} is of a later run than the node's own state beside it: take both away")
        self.stopped = threading.Event()
        self._changed = threading.Condition()
        self._answers: dict[int, bytes] = {}
        self._waiting: list[tuple[int, Any]] = []
        self._there: set[str] = set()
        self._left: dict[str, float] = {}
        self._given_up: Any = None
        self.tally, self._doing, self._end = Tally(), "", math.nan
        self._others: tuple[str, ...] = ()
        self._came, self._late, self._refused = set[str](), set[str](), set[str]()
        if learner.answered >= 0:
            self._answers[learner.answered] = self._encoded()

    def carry_out(self, on_step: Callable[[Step], None] = lambda _: None) -> None:
        """Learn to the end of the run.

        Raises
        ------
        RecipeError
            Work that the owner's policy refuses.
        VedetteError
            See `Learner.take`.
        """
        import zenoh

        me, self._given_up = self.learner.node, zenoh.CancellationToken()
        # Who was never seen may be on its way, just as who is gone.
        self._left = dict.fromkeys(self.nodes, time.monotonic())
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(max(len(self.nodes), 1)))
            # Before it waits for the threads in it: whoever interrupts us need not wait for the deadline.
            stack.callback(self._given_up.cancel)
            stack.callback(self.stopped.set)
            seen = self.session.liveliness().declare_subscriber(alive(self.run_name), self._seen, history=True)
            stack.callback(seen.undeclare)
            asked = self.session.declare_queryable(inbox(self.run_name, me), self._asked)
            stack.callback(asked.undeclare)
            token = self.session.liveliness().declare_token(alive(self.run_name, me))
            try:
                self._gathered()
                self.tally.begin()
                while self._place() < len(self.learner.course) and not self.stopped.is_set():
                    on_step(self._step(self._place(), pool))
            finally:
                token.undeclare()
            self._linger()

    def status(self) -> Status:
        """Tell where the run stands; from any thread."""
        learner, others = self.learner, [node for node in self.nodes if node != self.learner.node]
        nodes = {node: self._condition(node) for node in others}
        online, needed = len(self._there & set(self.nodes)), 0 if self.tally.begun else self.quorum.nodes
        return Status(
            "peer",
            learner.node,
            self.run_name,
            self._doing if self.tally.begun else f"waits for peers: {online} of {needed} there",
            tuple(self.state.history),
            self.tally,
            learner.run,
            learner.course,
            self._place(),
            nodes,
            online,
            len(self._others),
            len(self._came),
            needed,
            self._end - time.monotonic(),
        )

    def _condition(self, node: str) -> Condition:
        if node in self._came:
            return "answered"
        if node in self._refused:
            return "refused"
        if node not in self._there:
            return "gone" if self._place() < len(self.learner.course) else "done"
        if node not in self._others:
            return "there"
        return "late" if node in self._late else "working"

    def _place(self) -> int:
        """Return the step that is next, or under way: it is over when its exchange is."""
        return self.state.phase

    def _step(self, place: int, pool: ThreadPoolExecutor) -> Step:
        """Do one step, and exchange."""
        learner, state = self.learner, self.state
        step = learner.course[place]
        stage = learner.run.stages[step.stage]
        self._doing, self._others, self._came, self._refused = "works", (), set(), set()
        if learner.position <= place:
            sent = state.closed.get(stage.name, state.inbox) if step.closing else state.inbox
            learner.take(place, inbox_of(sent, learner.node))
        if step.closing:
            self._kept(place + 1)
            return step
        with self._changed:
            self._answers[place] = self._encoded()
            self._answers = {at: answer for at, answer in self._answers.items() if at > place - KEPT}
            ready, self._waiting = [pair for pair in self._waiting if pair[0] <= place], [p for p in self._waiting if p[0] > place]
        for at, query in ready:
            self._reply(at, query)
        phase = Phase(learner.run, stage, step.round, step.phase, self.nodes)
        who, meeting = next(
            (who, meeting) for who, meeting in phase.meetings(phase.takes_part()).items() if learner.node in meeting.receivers
        )
        heard, ahead = self._heard(place, [node for node in meeting.members if node != learner.node], pool)
        heard[learner.node] = learner.answer
        hearing, received = exchanged(phase, heard, state, who, (learner.node,))
        if step.phase == phase.strategy.phases[-1]:
            entry = Round(stage.name, step.round + 1, phase.strategy.rounds, learner.loss, hearing.sent, received, hearing.refused)
            state.history.append(entry)
            self.tally.end(stage.name)
            self.tally.count(refused=hearing.refused)
            self.on_round(entry)
            if step.round + 1 == phase.strategy.rounds:
                state.closed[stage.name], state.exchanged[stage.name] = state.inbox, state.ours
                state.inbox, state.ours, state.groups = {}, {}, {}
        self._kept(self._after(place, ahead if len(ahead) >= len(heard) else ()))
        return step

    def _after(self, place: int, ahead: Sequence[int]) -> int:
        """Return the next step: where neighbours are that went on without us, but within the stage; there are none unless they are many."""
        if not ahead:
            return place + 1
        stage = self.learner.course[place].stage
        rounds = [at for at, step in enumerate(self.learner.course) if step.stage == stage and not step.closing]
        landing = max(place + 1, min(sorted(ahead)[len(ahead) // 2], rounds[-1]))
        if landing > place + 1:
            log.warning("left behind", extra={"at": place, "going_on_at": landing})
        return landing

    def _kept(self, place: int) -> None:
        self.state.phase = place
        if self.checkpoint is not None:
            save_state(self.checkpoint, self.state, self.mark)

    def _heard(self, place: int, others: Sequence[str], pool: ThreadPoolExecutor) -> tuple[dict[str, Message], list[int]]:
        """Ask neighbours for their answers; return those that came, and where neighbours are that went on without us."""
        self._end = end = time.monotonic() + self.quorum.deadline
        self._doing, self._others = "waits for its neighbours", tuple(others)
        found, ahead = dict[str, Message](), list[int]()
        for node, came in zip(others, pool.map(lambda node: self._answer_of(node, place, end), others), strict=True):
            if isinstance(came, Message):
                found[node] = came
            elif came is not None:
                ahead.append(came)
        lacking = [node for node in others if node not in found]
        if lacking:
            log.warning("not heard", extra={"step": place, "nodes": lacking})
        self._late, self._end = {node for node in lacking if self._condition(node) in ("late", "working")}, math.nan
        self.tally.count(late=len(self._late))
        return found, ahead

    def _answer_of(self, node: str, place: int, end: float) -> Message | int | None:
        where = key(self.run_name, node, self.learner.node, f"hear/{self.mark}/{place}")
        step = self.learner.course[place]
        while not self.stopped.is_set() and time.monotonic() < end:
            with self._changed:
                gone = node not in self._there and time.monotonic() > self._left[node] + self.quorum.grace
            if gone:
                return None
            # Not shorter: on a slow link the answer may take all that time. A link that is lost ends the question at once.
            for reply in self.session.get(where, timeout=max(0.05, end - time.monotonic()), cancellation_token=self._given_up):
                if reply.ok is None:
                    continue
                what = "" if reply.ok.attachment is None else reply.ok.attachment.to_string()
                if what == ANSWER:
                    data = reply.ok.payload.to_bytes()
                    self.tally.count(bytes_in=len(data))
                    parts = parts_of(self.learner.run, self.learner.memory)
                    try:
                        awaited = awaited_at(self.learner.run, self.mark, step, "answer", (node,), parts, self.most_bytes)
                        message = decode(data, awaited)[1]
                        self._came.add(node)
                        return message
                    except MessageRefused as error:
                        log.warning("message refused", extra={"node": node, "reason": str(error)})
                        self.tally.count(refused=[node])
                        self._refused.add(node)
                        return None
                if what.startswith(GONE):
                    at = what.removeprefix(GONE)
                    return int(at) if at.isdecimal() and len(at) < 9 else None
                if what == REFUSED:
                    log.warning("a neighbour has another plan", extra={"node": node})
                    return None
            self.stopped.wait(PAUSE)
        return None

    def _asked(self, query: Any) -> None:
        """Reply to a neighbour, or keep its question until there is something to reply."""
        place = place_of(str(query.key_expr))
        topic = [] if place is None else place.topic.split("/")
        if len(topic) != 3 or topic[0] != "hear" or topic[1] != self.mark or not topic[2].isdecimal() or len(topic[2]) > 9:
            query.reply(query.key_expr, b"", attachment=REFUSED.encode())
            query.drop()
            return
        at = int(topic[2])
        with self._changed:
            if at not in self._answers and at >= self._place():
                self._waiting = [*self._waiting[-4 * len(self.nodes) :], (at, query)]
                return
        self._reply(at, query)

    def _reply(self, place: int, query: Any) -> None:
        answer = self._answers.get(place)
        what = f"{GONE}{self._place()}" if answer is None else ANSWER
        self.tally.count(bytes_out=len(answer or b""))
        query.reply(query.key_expr, answer or b"", attachment=what.encode())
        query.drop()

    def _seen(self, sample: Any) -> None:
        import zenoh

        node = str(sample.key_expr).rpartition("/")[2]
        with self._changed:
            if sample.kind == zenoh.SampleKind.PUT:
                self._there.add(node)
            else:
                self._there.discard(node)
                self._left[node] = time.monotonic()
            self._changed.notify_all()
        log.info("peer is there" if sample.kind == zenoh.SampleKind.PUT else "peer is gone", extra={"node": node})

    def _gathered(self) -> None:
        """Wait until enough peers are there to begin; who begins again waits for nobody."""
        if self._place():
            return
        with self._changed:
            self._changed.wait_for(lambda: self.stopped.is_set() or len(self._there & set(self.nodes)) >= self.quorum.nodes)

    def _linger(self) -> None:
        """Stay until all others are through too, or the deadline is over: they may still ask for the last answer."""
        self._doing, self._others = "the run is over; stays until the others are through", ()
        others = set(self.nodes) - {self.learner.node}
        with self._changed:
            self._changed.wait_for(lambda: not self._there & others, timeout=self.quorum.deadline)

    def _encoded(self) -> bytes:
        learner = self.learner
        step = learner.course[learner.answered]
        stage = learner.run.stages[step.stage].name
        header = Header(run=self.mark, stage=stage, round=step.round, phase=step.phase, kind="answer", node=learner.node)
        return encode(header, learner.answer)
