"""Who hears whom in an exchange: a coordinator everybody, a peer its neighbours; and what compromised nodes say there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from vedette.message import Message, bytes_of
from vedette.runtimes.topology import Topology, components
from vedette.settings import Settings
from vedette.strategies.attacks import AnyAttack, NoAttack
from vedette.strategies.base import Strategy, Turn
from vedette.strategies.view import Answers
from vedette.training.task import Answered

__all__ = ["Attackers", "Hearing", "Meeting", "meetings"]


class Attackers(Settings):
    """Nodes that do not play by the rules, for drills.

    Parameters
    ----------
    nodes
        Which.
    attack
        What they do.
    """

    nodes: tuple[str, ...] = ()
    attack: AnyAttack = Field(default_factory=NoAttack)


class Meeting(NamedTuple):
    """One exchange.

    Attributes
    ----------
    members
        Whose answers are heard, sorted.
    receivers
        Whom the exchange answers.
    """

    members: tuple[str, ...]
    receivers: tuple[str, ...]


def meetings(topology: Topology, strategy: Strategy, nodes: Sequence[str], round: int, seed: int) -> dict[str, Meeting]:
    """Return the exchanges of a phase, by who carries them out.

    ``"*"`` is a coordinator. Among peers each hears its neighbours and itself; where the strategy's answers are passed on
    (`Strategy.relayed`) all that are connected come to the same, so their exchange stands here once, under its first node.
    """
    nodes = tuple(nodes)
    if topology.central:
        return {"*": Meeting(nodes, nodes)}
    neighbours = topology.neighbours(nodes, round, seed)
    if strategy.relayed:
        return {part[0]: Meeting(part, part) for part in components(neighbours)}
    return {node: Meeting(tuple(sorted((node, *neighbours[node]))), (node,)) for node in nodes}


class Hearing:
    """Collects the answers of a phase for its meetings; with one meeting and no attackers they are summed as they come.

    Parameters
    ----------
    strategy
        Whose channels there are.
    found
        The meetings, from `meetings`.
    groups
        By who carries out the exchange: node -> group, from the last reply.
    attackers
        Who answers something else than it should.

    Attributes
    ----------
    sent
        Payload bytes: an answer counts once for the coordinator, or once for each peer that hears it.
    refused
        Node -> why its answer was left out.
    """

    def __init__(
        self, strategy: Strategy, found: Mapping[str, Meeting], groups: Mapping[str, Mapping[str, str]], attackers: Attackers
    ) -> None:
        self.strategy, self.meetings, self.groups, self.attackers = strategy, found, groups, attackers
        self.sent, self.refused = 0, dict[str, str]()
        self._copies = Counter[str]()
        for who, meeting in found.items():
            self._copies.update({node: 1 if who == "*" else len(set(meeting.receivers) - {node}) for node in meeting.members})
        self._kept: dict[str, Message] = {}
        self._sum = self._view(next(iter(found))) if len(found) == 1 and not attackers.nodes else None

    def hear(self, node: str, message: Message) -> None:
        """Take a node's answer in; add them in the order of node ids."""
        self.sent += bytes_of(message) * self._copies[node]
        if self._sum is not None:
            self._sum.add(node, message)
        else:
            self._kept[node] = message

    @property
    def sums(self) -> bool:
        """Whether answers are summed as they come."""
        return self._sum is not None

    def hear_all(self, answered: Answered) -> None:
        """Take the answers of several nodes in, in the order of node ids; only where they are summed."""
        assert self._sum is not None
        self.sent += bytes_of(answered.first()) * sum(map(self._copies.__getitem__, answered.nodes))
        self._sum.add_all(answered)

    def views(self, turn: Turn, starts: Mapping[str, Message]) -> Iterator[tuple[str, Meeting, Answers]]:
        """Yield who carries out an exchange, among whom, and what it sees.

        Parameters
        ----------
        turn
            Of the exchange.
        starts
            Where the networks of compromised nodes set out from.
        """
        forged = self._forged(turn, starts)
        for who, meeting in self.meetings.items():
            view = self._sum or self._view(who)
            for node in meeting.members if self._sum is None else ():
                view.add(node, forged.get(node, self._kept[node]))
            self.refused |= view.refused
            yield who, meeting, view

    def _view(self, who: str) -> Answers:
        return Answers(self.strategy.channels, self.groups.get(who, {}))

    def _forged(self, turn: Turn, starts: Mapping[str, Message]) -> dict[str, Message]:
        """Return what compromised nodes send: they have seen what all others do."""
        compromised = [node for node in self._kept if node in self.attackers.nodes]
        honest = [message for node, message in self._kept.items() if node not in compromised]
        forge = self.attackers.attack.forged
        return {
            node: forge(turn._replace(node=node), self._kept[node], starts.get(node, Message()), honest, len(compromised))
            for node in compromised
        }
