"""What leads a run among nodes that come and go: who is asked for what, when enough have answered, and the exchange."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from vedette.errors import TooFewNodes
from vedette.message import Message
from vedette.runtimes.base import Plan, Round, digest
from vedette.runtimes.checkpoint import State, load_state, save_state
from vedette.runtimes.mesh.course import course_of
from vedette.runtimes.mesh.exchange import exchanged
from vedette.runtimes.phase import Phase, inbox_of, run_of
from vedette.strategies.base import Identity
from vedette.strategies.chain.chained import goes_on, plain, too_few

__all__ = ["Lead", "Quorum", "Task"]

log = logging.getLogger(__name__)


class Quorum(NamedTuple):
    """When a phase is over.

    Attributes
    ----------
    nodes
        How many must have joined before the run begins.
    share
        Share of those asked that must have answered when the deadline is over; until then all are waited for that are there.
    deadline
        Seconds from the beginning of a phase; with too few answers it begins anew.
    grace
        Seconds that a node which is gone is still waited for: it may be on its way back.
    discount
        What an answer to an earlier round still weighs, to the power of the rounds it is late, where a mean is weighted and nodes have no
        chain; 0 leaves it out.
    """

    nodes: int = 1
    share: float = 2 / 3
    deadline: float = 60.0
    grace: float = 10.0
    discount: float = 0.0


class Task(NamedTuple):
    """What a node is told to do next.

    Attributes
    ----------
    place
        Number of the step in the course.
    inbox
        What it is sent.
    """

    place: int
    inbox: Message


class Lead:
    """Leads a run: knows who is there, tells each what comes next, exchanges what they answer.

    Nothing here waits: who calls says what time it is.

    Parameters
    ----------
    plan
        Of the run; with a coordinator.
    quorum
        When a phase is over.
    checkpoint
        File to keep the state in after each exchange; who begins again goes on from there.
    on_round
        Called after every round.
    identity
        By which nodes are asked to prove whose keys they send; None where nobody has a certificate.

    Attributes
    ----------
    place
        The step that all are at: one that ends in an exchange, or the number of steps when the run is over.
    present
        Who is there.
    asked
        Who works in this phase; empty until the run has begun.
    heard
        What was answered in it, by node.

    Raises
    ------
    CheckpointError
        The file is damaged or of another run.
    RecipeError
        The plan names what there is not.
    """

    def __init__(
        self,
        plan: Plan,
        quorum: Quorum,
        checkpoint: Path | None = None,
        on_round: Callable[[Round], None] = lambda _: None,
        identity: Identity | None = None,
    ) -> None:
        self.identity = identity
        self.run, self.quorum, self.checkpoint, self.on_round = run_of(plan), quorum, checkpoint, on_round
        self.course, self._mark = course_of(self.run), digest(plan)
        self.state = State({})
        if checkpoint is not None and checkpoint.exists():
            self.state = load_state(checkpoint, self._mark)
        self.present = set[str]()
        self._left: dict[str, float] = {}
        self.asked: tuple[str, ...] = ()
        self.heard: dict[str, Message] = {}
        self._late: dict[str, tuple[int, Message]] = {}
        self._counted: dict[str, int] = {}
        self.place = self._place()
        # What was answered before, another may have counted.
        self._first = self.place - 1
        self._begun = 0.0
        self._entry: Round | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left to exchange."""
        return self.place >= len(self.course)

    @property
    def known(self) -> set[str]:
        """Who was ever there, or asked."""
        return {*self.present, *self._left, *self.asked}

    @property
    def needed(self) -> int:
        """How many must have answered at the deadline, 0 if it goes on with whoever has; before the run begins, how many must be there."""
        if not self.asked:
            return self.quorum.nodes
        return 0 if self._goes_on else max(1, math.ceil(self.quorum.share * len(self.asked)))

    @property
    def deadline(self) -> float:
        """When those that have not answered are waited for no longer."""
        return self._begun + self.quorum.deadline

    def come(self, node: str, now: float) -> None:
        """Count a node in: from the next phase on, and in this one if it was asked before."""
        if node in self.present:
            return
        log.info("node is there", extra={"node": node})
        if not self.present and not self.asked:
            self._begun = now
        self.present.add(node)
        self._left.pop(node, None)
        if not self.asked and not self.over and len(self.present) >= self.quorum.nodes:
            self._begin(now)

    def go(self, node: str, now: float) -> None:
        """Count a node out: its answer is not waited for much longer."""
        if node in self.present:
            self.present.discard(node)
            self._left[node] = now
            log.log(logging.INFO if self.over else logging.WARNING, "node is gone", extra={"node": node})

    def next_for(self, node: str, position: int) -> Task | None:
        """Return what a node does next that has done all before a position; None if there is nothing yet, or nothing any more."""
        for place in range(position, min(self.place, len(self.course))):
            step = self.course[place]
            if step.closing:
                return Task(place, inbox_of(self.state.closed.get(self.run.stages[step.stage].name, {}), node))
        if self.over or position > self.place or node not in self.asked:
            return None
        return Task(self.place, inbox_of(self.state.inbox, node))

    def lacks(self, node: str, position: int) -> bool:
        """Tell whether a node that is at a position has answered what is not here: it shall say it again."""
        return position == self.place + 1 and node in self.asked and node not in self.heard

    def takes(self, node: str, place: int) -> bool:
        """Tell whether a node's answer to a step would be used: it is the step under way, or one of which late answers still count."""
        if self.over or not place < len(self.course) or self._counted.get(node, self._first) >= place:
            return False
        return node in self.asked if place == self.place else self._late_by(place) > 0

    def _late_by(self, place: int) -> int:
        """Return by how many rounds an answer to a step is late, if it may be weighed by that; else 0."""
        then, now = self.course[place], self.course[self.place]
        stage = self.run.stages[now.stage]
        channels = stage.strategy.channels
        weighed = bool(channels) and all(channel.combine == "mean" and all(channel.weights) for channel in channels)
        # What a chain sends belongs to its round: differences to what was sent then, masks that cancel out there, noise that is counted.
        weighed = weighed and plain(stage.strategy) is stage.strategy
        like = (then.stage, then.phase, then.closing) == (now.stage, now.phase, now.closing)
        return now.round - then.round if self.quorum.discount and stage.name == "rounds" and weighed and like else 0

    def hear(self, node: str, place: int, message: Message) -> str | None:
        """Take an answer in; return why it was left out, or None."""
        if self._counted.get(node) == place:
            # A node that is begun again says its last answer once more.
            return None
        if place != self.place and self.takes(node, place):
            age = self._late_by(place)
            self._late[node] = age, message
            log.warning("answer late", extra={"node": node, "rounds": age, "weight": self.quorum.discount**age})
            return None
        if place != self.place or self.over:
            reason = f"its answer to step {place} came late: step {self.place} is under way"
        elif node not in self.asked:
            reason = "it was not asked in this phase"
        else:
            self.heard.setdefault(node, message)
            return None
        log.warning("answer left out", extra={"node": node, "reason": reason})
        return reason

    def advance(self, now: float) -> bool:
        """Exchange if it is time to; return whether anything moved."""
        if self.over:
            return False
        if not self.asked:
            # Of those that there were before this one led, or before all were gone, some may be lost for good.
            least = max(1, math.ceil(self.quorum.share * self.quorum.nodes)) if self.place else self.quorum.nodes
            if len(self.present) >= least and now >= self.deadline:
                self._begin(now)
            return False
        awaited = [node for node in self.asked if node not in self.heard and self._may_come(node, now)]
        late, enough = now >= self.deadline, len(self.heard) >= self.needed
        if not (enough if late else (self.heard or self._goes_on) and enough and not awaited):
            if late or not (awaited or self.heard):
                self._begin_again(now, late)
            return False
        if awaited:
            log.warning("deadline over", extra={"missing": awaited})
        try:
            self._exchange()
        except TooFewNodes as error:
            # Until somebody comes, or the deadline: then all are asked again.
            log.warning("too few nodes", extra={"reason": str(error)})
            self.asked, self.heard, self._begun = (), {}, now
            return False
        self._begin(now)
        return True

    def _may_come(self, node: str, now: float) -> bool:
        return node in self.present or now - self._left.get(node, -math.inf) < self.quorum.grace

    def _begin(self, now: float) -> None:
        """Ask who is there, or may be on its way back, for what comes next."""
        self.heard, self._late, self._begun = {}, {}, now
        if self.over or not self.present:
            self.asked = ()
        elif not self._goes_on:
            self._ask({*self.present, *(node for node in self._left if self._may_come(node, now))})
        else:
            self.asked = tuple(sorted(node for node, about in self.state.memories.items() if about["asked"]))
            # Of a run that is begun again some may be on their way.
            self._left = {**dict.fromkeys(set(self.asked) - self.present, now), **self._left}

    def _begin_again(self, now: float, late: bool) -> None:
        """Wait on; who came meanwhile is asked too."""
        if late:
            log.warning("too few answers", extra={"answers": len(self.heard), "asked": len(self.asked)})
        self._begun = now
        if len(self.present) >= self.quorum.nodes:
            self._ask(self.present | set(self.heard))

    def _ask(self, members: Iterable[str]) -> None:
        """Ask those of the members who take part, and whoever has answered."""
        phase = self._phase(sorted(members))
        reason = too_few(phase.strategy, len(phase.turn.receivers))
        if reason is not None:
            log.warning("too few nodes", extra={"reason": reason})
        self.asked = () if reason is not None else tuple(sorted({*phase.takes_part(), *self.heard}))
        # Kept with the state: a secure sum is for those it began with, whoever comes, goes or leads.
        self.state.memories = {node: {"asked": float(node in self.asked)} for node in phase.turn.receivers}

    @property
    def _goes_on(self) -> bool:
        """Whether the phase goes on with a secure sum."""
        # Whoever looks on from another thread may see the run end meanwhile.
        step = next(iter(self.course[self.place : self.place + 1]), None)
        return step is not None and goes_on(self.run.stages[step.stage].strategy, step.phase)

    def _phase(self, nodes: Iterable[str]) -> Phase:
        step = self.course[self.place]
        return Phase(self.run, self.run.stages[step.stage], step.round, step.phase, tuple(nodes), identity=self.identity)

    def _exchange(self) -> None:
        """Exchange what was heard, and move on to the next step that ends in an exchange."""
        step = self.course[self.place]
        stage, state = self.run.stages[step.stage], self.state
        # Who has answered this step too is heard with that.
        late = {node: said for node, said in self._late.items() if node not in self.heard}
        heard = {**self.heard, **{node: self._weighed(message, age) for node, (age, message) in late.items()}}
        phase = self._phase(sorted(heard))
        phase.turn = phase.turn._replace(staleness={node: age for node, (age, _) in late.items()}, candidates=len(state.memories))
        hearing, received = exchanged(phase, heard, state)
        self._counted |= dict.fromkeys(heard, self.place)
        entry = Round(stage.name, step.round + 1, stage.strategy.rounds, self._loss(), hearing.sent, received, hearing.refused)
        self._entry = entry if self._entry is None else self._entry.plus(entry)
        state.phase += 1
        if state.phase == len(stage.strategy.phases):
            state.phase, state.round = 0, state.round + 1
            state.history.append(self._entry._replace(epsilon=self.run.spent(state.stage, state.round)))
            self.on_round(state.history[-1])
            self._entry = None
        if state.round >= stage.strategy.rounds:
            state.closed[stage.name], state.exchanged[stage.name] = state.inbox, state.ours
            state.stage, state.round, state.inbox, state.ours, state.groups = state.stage + 1, 0, {}, {}, {}
        self.place = self._place()
        if self.checkpoint is not None:
            save_state(self.checkpoint, state, self._mark)

    def _weighed(self, message: Message, age: int) -> Message:
        """Return a late answer with less weight."""
        weights = {weight for channel in self.run.stages[self.state.stage].strategy.channels for weight in channel.weights}
        less = {
            name: fact * self.quorum.discount**age for name, fact in message.facts.items() if name in weights and not isinstance(fact, str)
        }
        return message._replace(facts={**message.facts, **less})

    def _loss(self) -> float | None:
        """Return the mean of what nodes say of their training, weighted by rows."""
        told = [(message.facts.get("loss"), message.facts.get("rows")) for message in self.heard.values()]
        known = [(loss, rows) for loss, rows in told if isinstance(loss, float) and isinstance(rows, float) and rows > 0]
        return sum(loss * rows for loss, rows in known) / sum(rows for _, rows in known) if known else None

    def _place(self) -> int:
        """Return where the state stands in the course."""
        state = self.state
        while state.stage < len(self.run.stages) and state.round >= self.run.stages[state.stage].strategy.rounds:
            # A stage without rounds leaves nothing.
            state.stage, state.round = state.stage + 1, 0
        for place, step in enumerate(self.course):
            if (step.stage, step.round) == (state.stage, state.round) and not step.closing:
                return place + state.phase
        return len(self.course)
