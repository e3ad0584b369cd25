"""What a link of the chain is: one thing that is done to what nodes send, and undone, as far as it can be, where it arrives."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

from vedette.message import Array, Channel, Memory, Message, Vector
from vedette.settings import Settings
from vedette.strategies.base import Turn, View

__all__ = ["Around", "Link", "Seen"]


class Seen(View):
    """A view through which some of what a strategy asks for is seen differently.

    Parameters
    ----------
    view
        The one behind it.
    """

    def __init__(self, view: View) -> None:
        self.view = view

    @property
    def nodes(self) -> Sequence[str]:
        return self.view.nodes

    @property
    def groups(self) -> Mapping[str, View]:
        return {group: self.like(view) for group, view in self.view.groups.items()}

    def like(self, view: View) -> View:
        """Return another view, seen as this one is."""
        return type(self)(view)

    def mean(self, channel: str, weight: str = "rows") -> Vector:
        return self.view.mean(channel, weight)

    def each(self, channel: str) -> tuple[Sequence[str], Array]:
        return self.view.each(channel)

    def layout(self, channel: str) -> str:
        return self.view.layout(channel)

    def facts(self, name: str) -> Mapping[str, float | str]:
        return self.view.facts(name)

    def told(self, prefix: str) -> Sequence[str]:
        return self.view.told(prefix)

    def tables(self, name: str) -> Mapping[str, Array]:
        return self.view.tables(name)


class Around(NamedTuple):
    """What a link stands in.

    Attributes
    ----------
    links
        All of the chain, this one among them.
    channels
        Of the strategy.
    share, draw
        Of the nodes that take part in a round, and how they are drawn (`vedette.strategies.base.Strategy`).
    """

    links: Sequence[Link]
    channels: Sequence[Channel]
    share: float
    draw: Literal["fixed", "poisson"]


class Link(Settings, ABC):
    """Base of links: pure functions, as strategies are.

    What a link gets are the differences of a node's parameters to those that all nodes were sent before (`apart`), or, in a chain of which
    no link needs that, the parameters themselves.
    """

    apart: ClassVar[bool] = True
    """Whether it is about what a node has changed, which takes a coordinator that sends all nodes the same."""
    equal: ClassVar[bool] = False
    """Whether all nodes weigh the same once they went through it."""
    packs: ClassVar[bool] = False
    """Whether numbers that went through it can no longer be added."""

    def refuses(self, around: Around) -> str | None:
        """Say in one sentence why it cannot be done to these channels in this chain, or None."""
        return None

    def outgoing(self, turn: Turn, message: Message, mine: Memory, around: Around) -> tuple[Message, Memory]:
        """Return what a node sends instead of a message, and what it keeps.

        Parameters
        ----------
        turn, message
            The node's, and what it would send.
        mine
            Its memory; names of what the chain keeps there begin with ``chain.``.
        """
        return message, mine

    def arrived(self, turn: Turn, view: View, ours: Memory, around: Around) -> View:
        """Return what the exchange sees of what was sent.

        Parameters
        ----------
        turn, view
            The exchange's, and what arrived.
        ours
            Its memory.
        """
        return view

    def told(self, turn: Turn, view: View, ours: Memory, around: Around) -> dict[str, float]:
        """Return what the exchange and all nodes are to remember for the next round, by name (``chain.…``); see `arrived`."""
        return {}

    def on_count(self, turn: Turn) -> float:
        """Return what is added to a count of nodes."""
        return 0.0
