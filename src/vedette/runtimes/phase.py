"""One phase of a run: what a node does in it, and what the exchange after it does; the same wherever they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from vedette.detectors.network import NetworkDetector
from vedette.detectors.oneshot import Federable
from vedette.errors import DataUnusable, RecipeError
from vedette.message import Channel, Memory, Message, bytes_of
from vedette.runtimes.base import Plan, Round, Stage, stages_of
from vedette.runtimes.checkpoint import State
from vedette.runtimes.meetings import Attackers, Hearing, Meeting, meetings
from vedette.runtimes.privacy import spent_after
from vedette.runtimes.topology import TOPOLOGIES, Topology
from vedette.seeds import stream
from vedette.settings import build, validated
from vedette.strategies.base import First, Identity, Strategy, Turn
from vedette.strategies.chain.chained import plain
from vedette.training.layout import Layout, initial, layout_of
from vedette.training.task import Done, Layers, Trainer, Work
from vedette.training.trainers import TRAINERS

__all__ = ["Phase", "Run", "inbox_of", "layouts_of", "networks_of", "run_of"]


class Run(NamedTuple):
    """What a plan says."""

    detector: Federable
    stages: Sequence[Stage]
    topology: Topology
    attackers: Attackers
    trainer: Trainer
    seed: int

    def spent(self, stage: int, rounds: int) -> float | None:
        """Return the epsilon of all up to a round of a stage, where there is a budget."""
        strategies = [plain(stage.strategy) for stage in self.stages]
        privacy = next((strategy.privacy for strategy in strategies if strategy.privacy is not None), None)
        return None if privacy is None else spent_after(strategies, stage, rounds, privacy.delta)


def run_of(plan: Plan) -> Run:
    """Build what a plan names.

    Raises
    ------
    RecipeError
        It names what there is not.
    """
    detector, stages = stages_of(plan)
    return Run(
        detector,
        stages,
        build(TOPOLOGIES, plan["topology"], "plan, topology"),
        validated(Attackers, plan["attackers"], "plan, attackers"),
        build(TRAINERS, plan["trainer"], "plan, trainer"),
        int(plan["seed"]),
    )


def networks_of(detector: NetworkDetector, memory: Memory) -> Mapping[str, Layers]:
    """Return a node's networks, by role, as they follow from the scaling in its memory."""
    own = detector.restored(memory)
    assert isinstance(own, NetworkDetector)
    return own.networks(own.window.size * own.scaler.width)


def layouts_of(detector: NetworkDetector, channels: Sequence[Channel], memory: Memory) -> dict[str, Layout]:
    """Return how parameters lie on each channel, by the scaling in a memory."""
    networks = networks_of(detector, memory)
    return {c.name: layout_of(networks[c.role or detector.role]).part(c.part, c.holds) for c in channels}


class Phase:
    """A phase of a round, or one that closes a stage, where nothing is exchanged.

    Parameters
    ----------
    run
        What the plan says.
    stage, round
        Where the run stands; rounds count from 0.
    name
        One of the strategy's phases, or of those that close the stage.
    nodes
        Of the run, sorted.
    closing
        Which of both.
    identity
        Of the party, to others; None where nobody has a certificate.
    """

    def __init__(
        self,
        run: Run,
        stage: Stage,
        round: int,
        name: str,
        nodes: Sequence[str],
        closing: bool = False,
        identity: Identity | None = None,
    ) -> None:
        self.run, self.stage, self.round, self.name, self.closing = run, stage, round, name, closing
        self._firsts: dict[str, Mapping[str, First]] = {}
        self._path = run.seed, "stage", stage.name, "round", round
        rng = self._stream("exchange", name)
        self.turn = Turn(round, name, tuple(nodes), {}, rng, seed=run.seed, candidates=len(nodes), identity=identity)

    def _stream(self, *path: Any) -> Any:
        return partial(stream, *self._path, *path)

    def _first(self, memory: Memory) -> Mapping[str, First]:
        """Return the first weights of a node's networks, by channel; nodes that scale alike share them."""
        detector, about = self.run.detector, str(memory["scaling.about"])
        assert isinstance(detector, NetworkDetector)
        if about not in self._firsts:
            networks, found = networks_of(detector, memory), dict[str, First]()
            for channel in self.strategy.channels:
                layers = networks[channel.role or detector.role]
                whole, layout = initial(layers, stream(self.run.seed, "initial", channel.role or detector.role)), layout_of(layers)
                part = layout.part(channel.part, channel.holds)
                found[channel.name] = First(part.flat(layout.arrays(whole)), [entry.shape for entry in part.entries])
            self._firsts[about] = found
        return self._firsts[about]

    @property
    def strategy(self) -> Strategy:
        """Whose phase it is."""
        return self.stage.strategy

    @property
    def forgets(self) -> bool:
        """Whether what a coordinator sends next takes the place of a node's own network, which need not be kept then."""
        return self.strategy.begins_anew and self.run.topology.central and not self.closing

    @property
    def attackers(self) -> Attackers:
        """Who does not play by the rules."""
        return self.run.attackers if self.stage.name == "rounds" and not self.closing else Attackers()

    def takes_part(self) -> tuple[str, ...]:
        """Return the nodes that work.

        Raises
        ------
        RecipeError
            An order of arrivals that names somebody else.
        """
        nodes, order = self.turn.receivers, self.strategy.arrivals
        if self.closing:
            return nodes
        if order:
            if order[self.round] not in nodes:
                raise RecipeError(
                    f"an answer of '{order[self.round]}' shall arrive in round {self.round + 1}, which is no node of this run"
                )
            return (order[self.round],)
        return tuple(self.strategy.takes_part(nodes, self._stream("sample")))

    def as_sent(self, node: str, history: Sequence[Round]) -> Phase:
        """Return the phase as it was when a node was sent what it sets out from: in the round after its last answer.

        Where answers are taken in one by one a node does not know in which round its own will be.
        """
        mine = (entry.number for entry in reversed(history) if entry.stage == self.stage.name and node in entry.late)
        return Phase(self.run, self.stage, next(mine, 0), self.name, self.turn.receivers)

    def meetings(self, members: Sequence[str]) -> dict[str, Meeting]:
        """Return the exchanges among those that take part; a peer that does not meets nobody."""
        if self.closing:
            return {}
        found = meetings(self.run.topology, self.strategy, self.turn.receivers, self.round, self.run.seed)
        if len(members) == len(self.turn.receivers):
            return found
        known = set(members)
        there = {who: meeting._replace(members=tuple(node for node in meeting.members if node in known)) for who, meeting in found.items()}
        return {who: meeting for who, meeting in there.items() if who == "*" or (who in known and meeting.members)}

    def work(self, node: str, inbox: Message, memory: Memory) -> Work:
        """Say what a node shall do.

        Raises
        ------
        RecipeError
            The plan's trainer cannot do it.
        """
        own = self.turn._replace(node=node, rng=self._stream(self.name, "work", node), first=partial(self._first, memory))
        return self.demand_doable(self.strategy.work(own, inbox, memory))

    def demand_doable(self, work: Work) -> Work:
        """Return a work if the plan's trainer can do it."""
        reason = self.run.trainer.refuses(self.run.detector, work)
        if reason:
            raise RecipeError(reason)
        return work

    def answer(self, node: str, done: Done, memory: Memory) -> tuple[Message, Memory]:
        """Return what a node sends and what it keeps.

        Raises
        ------
        DataUnusable
            Its rows are good for no answer.
        """
        own = self.turn._replace(node=node, rng=self._stream(self.name, "answer", node), first=partial(self._first, memory))
        try:
            message, memory = self.strategy.answer(own, done, memory)
        except DataUnusable as error:
            raise DataUnusable(f"node '{node}': {error}") from None
        if self.forgets:
            memory = {key: value for key, value in memory.items() if not key.startswith(("network.", "layout."))}
        return message, memory

    def exchange(self, hearing: Hearing, starts: Mapping[str, Message], state: State) -> int:
        """Let every meeting exchange, into the run's state; return the bytes that a coordinator sent back."""
        inbox, ours, groups = dict(state.inbox), dict(state.ours), dict(state.groups)
        received = 0
        for who, meeting, view in hearing.views(self.turn, starts):
            if who != "*" and not view.nodes:
                # All that a peer heard was refused: it goes on with what it has.
                inbox |= dict.fromkeys(meeting.receivers, Message())
                continue
            own = self.turn._replace(receivers=meeting.receivers)
            if who != "*":
                own = own._replace(node=who, rng=self._stream("exchange", self.name, who))
            reply = self.strategy.exchange(own, view, state.ours.get(who, {}))
            # What a reply leaves out stays as it was.
            if reply.memory is not None:
                ours[who] = reply.memory
            if reply.groups is not None:
                groups[who] = reply.groups
            if reply.messages is None:
                continue
            if who == "*":
                # Who took no part keeps what it was sent before.
                stays = self.strategy.sample < 1 and "*" not in reply.messages
                inbox = {**inbox, **reply.messages} if stays else dict(reply.messages)
                for_all = bytes_of(inbox["*"]) if "*" in inbox else 0
                received += sum(bytes_of(inbox[node]) if node in inbox else for_all for node in meeting.receivers)
            else:
                inbox |= {node: inbox_of(reply.messages, node) for node in meeting.receivers}
        state.inbox, state.ours, state.groups = inbox, ours, groups
        return received


def inbox_of(messages: Mapping[str, Message], node: str) -> Message:
    """Return what a node was sent."""
    return messages.get(node, messages.get("*", Message()))
