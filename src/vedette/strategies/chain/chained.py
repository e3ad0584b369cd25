"""A strategy with a chain around it: clip, noise, compress, mask."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vedette.errors import RecipeError, TooFewNodes
from vedette.message import Array, Channel, Memory, Message, Vector, packed, unpacked
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.strategies.chain.link import Around, Link, Seen
from vedette.strategies.chain.mask import STEPS, WORDS, Mask
from vedette.strategies.chain.standing import LAST, last_sent
from vedette.training.task import Done, Work

__all__ = ["chained", "goes_on", "plain", "received", "too_few", "unheard"]

log = logging.getLogger(__name__)

SENT = "chain.sent."
"""What a node was sent last, by channel: what differences count from, the same numbers as stand in what the exchange sent last."""

HELD, GOT = "chain.held.", "chain.got."
"""Messages in a node's memory: what it works from, and what it got for this step."""

FORGET = "forget"
"""A closing phase in which nodes drop what the chain left with them, where the strategy has none."""

OURS = ("chain.", "secure.")
"""What the chain keeps in a memory begins like this; all else is the strategy's."""


class _Chained(Strategy):
    """Does to what nodes send what the links say, one after the other, and undoes it where it arrives, in reverse.

    Where a link is about what a node has changed, nodes send differences to what all of them were sent before, and what they are sent are
    differences to the first weights, which each draws from the seed: so no exchange needs to know these, and an average of differences
    stands for that of the parameters.

    Behind a mask each phase of the strategy becomes several: see `STEPS`. If too few nodes get to the end of them the round comes to
    nothing: all go on from what they were sent before. Where there is one round only there is nothing to go on from, and `TooFewNodes`
    is raised instead.

    Where nodes are in groups each group has a chain of its own: all nodes of a group are sent the same.

    Parameters
    ----------
    inner
        The strategy, or what each group of its nodes does.
    """

    inner: Strategy

    begins_anew = property(lambda self: self.inner.begins_anew)
    shards = property(lambda self: self.inner.shards)

    def model_post_init(self, context: Any) -> None:
        reason = next((reason for link in self.links if (reason := link.refuses(self.around))), None)
        if reason is None and self.apart and not self.inner.common:
            reason = f"{type(self.inner).__name__} does not send all nodes the same, so there is nothing that changes could be told from"
        if reason:
            raise RecipeError(f"chain: {reason}")

    @property
    def links(self) -> tuple[Link, ...]:
        """What is done, in the order in which a node does it."""
        return tuple(link for link in self.chain if isinstance(link, Link))

    @property
    def mask(self) -> Mask | None:
        """What hides each node's part in the sum."""
        return next((link for link in self.links if isinstance(link, Mask)), None)

    @property
    def apart(self) -> bool:
        """Whether differences travel."""
        return any(link.apart for link in self.links) and not self.inner.bounded

    @property
    def around(self) -> Around:
        """What its links stand in."""
        return Around(self.links, self.inner.channels, self.sample, self.inner.draw)

    @property
    def phases(self) -> tuple[str, ...]:
        if self.mask is None:
            return self.inner.phases
        # What is drawn for a phase goes by its name, so that in which nodes work keeps it.
        return tuple(phase if step == WORDS else f"{phase}:{step}" for phase in self.inner.phases for step in STEPS)

    @property
    def closing(self) -> tuple[str, ...]:
        return self.inner.closing or (FORGET,)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return self.inner.channels

    @property
    def laps(self) -> int:
        return self.inner.laps

    @property
    def arrivals(self) -> Sequence[str] | None:
        return self.inner.arrivals

    def takes_part(self, nodes: Sequence[str], rng: Callable[[], np.random.Generator]) -> Sequence[str]:
        return self.inner.takes_part(nodes, rng)

    def too_few(self, nodes: int) -> str | None:
        """Say why no round is to be had with so many nodes there, or None."""
        return None if self.mask is None else self.mask.too_few(round(self.sample * nodes))

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        if turn.phase == FORGET:
            return Work()
        turn, step = self._taken_apart(turn)
        if step == "keys":
            return Work(keep=packed(inbox, HELD))
        if step and not (step == WORDS and self._is_ready(inbox, mine)):
            return Work(keep=packed(inbox, GOT))
        got: Memory = {}
        if step:
            got, inbox = packed(inbox, GOT), unpacked(mine, HELD)
        told = {name: fact for name, fact in inbox.facts.items() if name.startswith(OURS)}
        inbox = inbox._replace(facts={name: fact for name, fact in inbox.facts.items() if name not in told})
        sent: Memory = {}
        if self.apart:
            sent = {f"{SENT}{name}": vector.values for name, vector in inbox.vectors.items()}
            inbox = inbox._replace(vectors=self.received(turn, inbox))
        work = self.inner.work(turn, inbox, mine)
        return work._replace(keep={**work.keep, **got, **told, **sent})

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        if turn.phase in self.closing:
            message, mine = (Message(), mine) if turn.phase == FORGET else self.inner.answer(turn, done, mine)
            return message, {name: value for name, value in mine.items() if not name.startswith(OURS)}
        turn, step = self._taken_apart(turn)
        got = unpacked(mine, GOT)
        mine = {name: value for name, value in mine.items() if not name.startswith(GOT)}
        if self.mask is not None and step != WORDS:
            return self.mask.sent(turn, step, got, mine)
        if self.mask is not None and not self._is_ready(got, mine):
            return Message(), mine
        message, mine = self.inner.answer(turn, done, mine)
        if self.apart:
            message = message._replace(vectors={name: self._changed(turn, name, vector, mine) for name, vector in message.vectors.items()})
        for link in self.links:
            message, mine = link.outgoing(turn, message, mine, self.around)
        return (message, mine) if self.mask is None else self.mask.worded(turn, message, got, mine, self.around)

    def received(self, turn: Turn, inbox: Message) -> Mapping[str, Vector]:
        """Return the parameters that a node was sent, of which the differences to the first ones may travel."""
        if not self.apart:
            return inbox.vectors
        first = turn.first()
        return {name: _moved(vector, first[name].vector) for name, vector in inbox.vectors.items()}

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        if turn.node and (self.apart or self.mask is not None):
            raise RecipeError("the chain needs a coordinator that sends all nodes the same: take topology = 'server', or another chain")
        turn, step = self._taken_apart(turn)
        if self.mask is None:
            return self._exchanged(turn, view, ours)
        if "secure.lost" in ours and step != "keys":
            return self._lost(step, ours)
        try:
            reply, total = self.mask.received(
                turn, step, view, {name: value for name, value in ours.items() if name != "secure.lost"}, self.around
            )
        except (TooFewNodes, RecipeError) as error:
            if not turn.round and isinstance(error, RecipeError) and (step != STEPS[0] or self.too_few(turn.candidates)):
                raise
            if self.rounds == 1:
                # There is no round after it, and nothing to go on from.
                raise TooFewNodes(str(error)) from None
            log.warning("round lost", extra={"round": turn.round + 1, "reason": str(error)})
            return self._lost(step, ours)
        return reply if total is None else self._exchanged(turn, total, reply.memory or {})

    def _taken_apart(self, turn: Turn) -> tuple[Turn, str]:
        """Return the turn as the strategy knows it, and the step of the secure sum, if there is one."""
        phase, _, step = turn.phase.partition(":")
        return turn._replace(phase=phase), "" if self.mask is None or phase in self.closing else step or WORDS

    def _is_ready(self, parcels: Message, mine: Memory) -> bool:
        return self.mask is not None and self.mask.takes_part(WORDS, parcels, mine)

    def _changed(self, turn: Turn, name: str, vector: Vector, mine: Memory) -> Vector:
        """Return what a node has changed since it was sent parameters."""
        return _moved(vector, turn.first()[name].vector, np.asarray(mine.get(f"{SENT}{name}", 0.0)), by=-1.0)

    def _exchanged(self, turn: Turn, view: View, ours: Memory) -> Reply:
        """Exchange what arrived."""
        told = {name: fact for link in self.links for name, fact in link.told(turn, view, ours, self.around).items()}
        for link in reversed(self.links):
            view = link.arrived(turn, view, ours, self.around)
        if self.apart:
            view = _Placed(view, {name: vector.values for name, vector in last_sent(ours).vectors.items()})
        chain = {name: value for name, value in ours.items() if name.startswith(OURS)}
        inner = {name: value for name, value in ours.items() if name not in chain}
        reply = self.inner.exchange(turn, view, inner)
        messages = reply.messages
        if messages is not None and (self.apart or self.mask is not None):
            if set(messages) != {"*"}:
                raise RecipeError(f"chain: {type(self.inner).__name__} does not send all nodes the same")
            messages = {"*": messages["*"]._replace(facts={**messages["*"].facts, **told})}
            chain |= packed(messages["*"], LAST)
        return Reply(messages, {**(inner if reply.memory is None else reply.memory), **chain, **told}, reply.groups)

    def _lost(self, step: str, ours: Memory) -> Reply:
        """Go on to the end of a round that comes to nothing, and begin the next where this one began."""
        kept = {name: value for name, value in ours.items() if not name.startswith("secure.")}
        if step == STEPS[-1]:
            return Reply({"*": last_sent(ours)}, kept)
        return Reply({"*": Message()}, {**kept, "secure.lost": 1.0})


class _Placed(Seen):
    """Sees differences as what they lead to."""

    def __init__(self, view: View, at: Mapping[str, Array]) -> None:
        super().__init__(view)
        self.at = at

    def like(self, view: View) -> View:
        return _Placed(view, self.at)

    def mean(self, channel: str, weight: str = "rows") -> Vector:
        return _moved(self.view.mean(channel, weight), np.asarray(self.at.get(channel, 0.0)))

    def each(self, channel: str) -> tuple[Sequence[str], Array]:
        nodes, matrix = self.view.each(channel)
        return nodes, (matrix + np.asarray(self.at.get(channel, 0.0), dtype=np.float64)).astype(np.float32)


def _moved(vector: Vector, *ways: Array | Vector, by: float = 1.0) -> Vector:
    """Return a vector moved along others, or back."""
    values = vector.values.astype(np.float64)
    for way in ways:
        values = values + by * (way.values if isinstance(way, Vector) else way)
    return Vector(values.astype(np.float32), vector.layout)


def chained(strategy: Strategy) -> Strategy:
    """Return a strategy within its chain, or as it is if it has none.

    Raises
    ------
    RecipeError
        A link that does not fit the strategy, or the rest of the chain.
    """
    if not strategy.chain:
        return strategy
    return strategy.with_core(_Chained(inner=strategy.core, chain=strategy.chain, rounds=strategy.rounds, sample=strategy.sample))


def plain(strategy: Strategy) -> Strategy:
    """Return a strategy without the chain around it."""
    core = strategy.core
    return strategy.with_core(core.inner) if isinstance(core, _Chained) else strategy


def too_few(strategy: Strategy, nodes: int) -> str | None:
    """Say why a strategy has no round with so many nodes there, or None."""
    core = strategy.core
    return core.too_few(nodes) if isinstance(core, _Chained) else None


def goes_on(strategy: Strategy, phase: str) -> bool:
    """Tell whether a phase goes on with a secure sum: for those alone who took part in its first, and with however few of them answer."""
    core = strategy.core
    return isinstance(core, _Chained) and core.mask is not None and phase in core.phases and not phase.endswith(f":{STEPS[0]}")


def received(strategy: Strategy, turn: Turn, inbox: Message) -> Mapping[str, Vector]:
    """Return the parameters that a node was sent, whatever a chain made of them on their way."""
    core = strategy.core
    return core.received(turn, inbox) if isinstance(core, _Chained) else inbox.vectors


def unheard(strategy: Strategy, turn: Turn, view: View, ours: Memory) -> Reply | None:
    """Return what an exchange replies to a group of which nobody was heard: all go on from what they were sent. None without a chain."""
    core = strategy.core
    if not isinstance(core, _Chained):
        return None
    # A secure sum comes to nothing by itself.
    return Reply({"*": last_sent(ours)}) if core.mask is None else core.exchange(turn, view, ours)
