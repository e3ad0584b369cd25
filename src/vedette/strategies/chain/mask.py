"""Masks: a coordinator learns the sum of what nodes send, and nothing of any one."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from vedette.errors import DetectorMisused, MessageRefused, RecipeError
from vedette.message import Array, Memory, Message, Vector
from vedette.strategies.base import Reply, Turn, View
from vedette.strategies.chain import secure
from vedette.strategies.chain.clip import Clip
from vedette.strategies.chain.link import Around, Link
from vedette.strategies.chain.proofs import PROOFS, demand_proven, objections, proven, stacked

__all__ = ["MEMBERS", "STEPS", "WORDS", "Mask"]

log = logging.getLogger(__name__)

WORDS = "words"
STEPS = ("keys", "shares", WORDS, "sum")
"""What a masked phase passes through; in the third the nodes do their work."""

MEMBERS = "secure.nodes"
"""How many nodes are on the roll, in a node's memory."""

BEFORE = {"shares": ("secure.seeds", "secure.keys"), WORDS: (MEMBERS, "secure.shares"), "sum": ("secure.held", "secure.heard")}
"""What the step before left in a node's memory, and the table that comes of it."""

SIZE, LAYOUT = "chain.size.", "chain.layout."
"""What a node tells of its vectors besides."""


class Mask(Link):
    """Add masks to what is sent that cancel out in the sum of all (Bonawitz et al. 2017; on a sparse graph Bell et al. 2020).

    It takes three messages of each node besides its answer; nodes may vanish at any of them. `vedette.strategies.chain.secure` says how it
    is done, and what it is safe against.

    Parameters
    ----------
    limit
        Largest change of a parameter; what is larger is cut.
    heaviest
        Largest weight of a node, such as its number of rows; with noise in the chain all weigh 1.
    bits
        Of a number on its way: with 32 half as much is sent, and weights cost precision.
    vanish, corrupt
        Share of the nodes that may vanish in a round, and of those that may tell the coordinator all they know.
    lies
        Whether it is safe against a coordinator that tells nodes different things of who was heard too. Among 32 nodes and fewer it always
        is; among more each then masks with many more, which takes several times as long.
    """

    limit: float = Field(default=64.0, gt=0)
    heaviest: float = Field(default=1e6, gt=0)
    bits: Literal[32, 64] = 64
    vanish: float = Field(default=0.3, ge=0, lt=1)
    corrupt: float = Field(default=0.01, ge=0, lt=1)
    lies: bool = False

    def refuses(self, around: Around) -> str | None:
        if around.links[-1] is not self:
            return "'mask' comes last: what is masked cannot be clipped, noised or compressed any more"
        gathered = next((channel.name for channel in around.channels if channel.combine != "mean"), None)
        if gathered is not None:
            return (
                f"the exchange wants to see each node's '{gathered}' (to take a median, to choose by Krum, to match weights), and behind a "
                "mask there is only their sum: take aggregator = 'mean', or another strategy"
            )
        if any(len(channel.weights) != 1 for channel in around.channels):
            return "behind a mask there is one sum, and this strategy weighs nodes in several ways"
        if any(isinstance(link, Clip) and link.quantile is not None for link in around.links):
            return "a length that adapts needs to know which nodes were clipped: take a fixed one"
        if any(link.packs for link in around.links):
            return "compressed numbers cannot be added behind a mask: take 'compress' or 'mask'"
        return None

    def staying(self, members: float) -> int:
        """Return how many of the members of a round must be heard: a sum of fewer is not laid open."""
        return round(members) - math.floor(self.vanish * members + 1e-9)

    def honest(self, members: float) -> int:
        """Return how many of these keep their part of the noise to themselves."""
        return self.staying(members) - math.floor(self.corrupt * members + 1e-9)

    def sent(self, turn: Turn, step: str, inbox: Message, mine: Memory) -> tuple[Message, Memory]:
        """Return what a node sends at a step at which it does no work, and what it keeps."""
        steps: dict[str, Callable[[], tuple[Message, Memory]]] = {
            "keys": lambda: self._advertised(turn, mine),
            "shares": lambda: self._shared(turn, inbox, mine),
            "sum": lambda: self._revealed(inbox, mine),
        }
        ready = step == "keys" or self.takes_part(step, inbox, mine)
        message, mine = self._willing(turn, steps[step], mine) if ready else (Message(), mine)
        # Secrets are for one round.
        return message, secure.forgotten(mine) if step == "sum" else mine

    def takes_part(self, step: str, inbox: Message, mine: Memory) -> bool:
        """Tell whether a node took the step before, and was heard there."""
        left, came = BEFORE[step]
        return left in mine and came in inbox.tables

    def too_few(self, nodes: int) -> str | None:
        """Say why there is no sum of so many nodes, or None."""
        try:
            secure.terms_for(nodes, self._assumed)
        except RecipeError as error:
            return str(error)
        return None

    def worded(self, turn: Turn, message: Message, parcels: Message, mine: Memory, around: Around) -> tuple[Message, Memory]:
        """Return what came of a node's work behind masks.

        Raises
        ------
        DetectorMisused
            The strategy sends tables, which are no sum.
        """
        if message.tables:
            raise DetectorMisused(f"masks cover sums of parameters, and the strategy sends tables: {', '.join(sorted(message.tables))}")
        (weight,) = {weight for channel in around.channels for weight in channel.weights}
        cut = {name: np.clip(vector.values, -self.limit, self.limit) for name, vector in message.vectors.items()}
        fixed = self._fixed(sorted(cut), int(float(np.asarray(mine[MEMBERS]))), around)
        words = fixed.words(cut, float(message.facts[weight]) if weight else 1.0)
        sent, mine = self._willing(turn, lambda: secure.masked(parcels, mine, words), mine)
        facts: dict[str, float | str] = {f"{LAYOUT}{name}": vector.layout for name, vector in message.vectors.items()}
        facts |= {f"{SIZE}{name}": float(vector.values.size) for name, vector in message.vectors.items()}
        return sent._replace(facts=facts) if sent.tables else sent, mine

    def received(self, turn: Turn, step: str, view: View, ours: Memory, around: Around) -> tuple[Reply, View | None]:
        """Return what an exchange replies after a step, and, after the last one, the view of the sum."""
        if step == "keys":
            keys = _fitting("keys", view, lambda _, table: _are_keys(table))
            proofs = view.tables(PROOFS)
            for node, reason in objections(turn, keys, proofs).items():
                log.warning("answer refused", extra={"node": node, "reason": f"its keys are not shown to be its own: {reason}"})
                del keys[node]
            message, ours = secure.introduced(keys, ours, _graph_of(turn), self._assumed)
            tables = {**message.tables, PROOFS: stacked(sorted(keys), proofs)} if proofs else message.tables
            return Reply({"*": message._replace(tables=tables)}, ours), None
        if step == "shares":
            from vedette.strategies.chain.secure.agreement import SEALED

            each = (int(float(np.asarray(ours["secure.degree"]))), SEALED)
            shares = _fitting("shares", view, lambda _, table: table.shape == each and table.dtype == np.uint8)
            messages, ours = secure.routed(shares, ours)
            return Reply(messages, ours), None
        if step == WORDS:
            facts = [(name, view.facts(name)) for prefix in (SIZE, LAYOUT) for name in view.told(prefix)]
            told = {node: tuple((name, said[node]) for name, said in facts if node in said) for node in view.tables("secure.words")}
            most = dict(max(Counter(told.values()).items(), key=lambda item: item[1])[0]) if told else {}
            count = int(sum(float(said) for name, said in most.items() if name.startswith(SIZE))) + 1
            words = _fitting(
                "words", view, lambda node, table: (dict(told[node]), table.shape, 8 * table.itemsize) == (most, (count,), self.bits)
            )
            message, ours = secure.summed(words, ours, count, self.bits)
            return Reply({"*": message}, {**ours, **most}), None
        members = len(np.asarray(ours["secure.keys"]))
        total, ours = secure.unmasked(view.tables("secure.revealed"), ours)
        sizes = {name.removeprefix(SIZE): int(float(np.asarray(said))) for name, said in ours.items() if name.startswith(SIZE)}
        means, _ = self._fixed(sorted(sizes), members, around).means(total, sizes)
        vectors = {name: Vector(values.astype(np.float32), str(ours[f"{LAYOUT}{name}"])) for name, values in means.items()}
        return Reply(memory=ours), _Summed(view.nodes, vectors)

    @property
    def _assumed(self) -> secure.Assumed:
        return secure.Assumed(self.vanish, self.corrupt, self.lies)

    def _fixed(self, names: Sequence[str], members: int, around: Around) -> secure.Fixed:
        heaviest = 1.0 if any(link.equal for link in around.links) or around.channels[0].weights == ("",) else self.heaviest
        return secure.Fixed(dict.fromkeys(names, self.limit), members, self.bits, heaviest)

    def _advertised(self, turn: Turn, mine: Memory) -> tuple[Message, Memory]:
        message, mine = secure.advertise(turn.node, mine)
        return proven(turn, message), mine

    def _shared(self, turn: Turn, inbox: Message, mine: Memory) -> tuple[Message, Memory]:
        """Share secrets with those whose keys are shown to be their own."""
        demand_proven(turn, inbox)
        return secure.share(inbox, mine, _graph_of(turn), self._assumed)

    def _revealed(self, inbox: Message, mine: Memory) -> tuple[Message, Memory]:
        """Give shares away if enough were heard, so that their noise hides each of them."""
        heard, members = len(inbox.tables.get("secure.heard", ())), float(np.asarray(mine[MEMBERS]))
        if heard < self.staying(members):
            raise MessageRefused(f"{heard} of {members:g} nodes were heard, and {self.staying(members)} must be before any mask is removed")
        return secure.revealed(inbox, mine)

    def _willing(self, turn: Turn, step: Callable[[], tuple[Message, Memory]], mine: Memory) -> tuple[Message, Memory]:
        """Take a step, or vanish from the round, aloud."""
        try:
            return step()
        except MessageRefused as error:
            log.warning("no part in the secure sum", extra={"node": turn.node, "reason": str(error)})
            return Message(), secure.forgotten(mine)


class _Summed(View):
    """Sees the mean of all, and nothing of any one."""

    def __init__(self, nodes: Sequence[str], means: Mapping[str, Vector]) -> None:
        self._nodes, self._means = nodes, means

    @property
    def nodes(self) -> Sequence[str]:
        return self._nodes

    @property
    def groups(self) -> Mapping[str, View]:
        return {}

    def mean(self, channel: str, weight: str = "rows") -> Vector:
        return self._means[channel]

    def each(self, channel: str) -> tuple[Sequence[str], Array]:
        raise DetectorMisused(f"behind a mask nobody's '{channel}' is seen, only the sum of all")

    def layout(self, channel: str) -> str:
        return self._means[channel].layout

    def facts(self, name: str) -> Mapping[str, float | str]:
        return {}

    def told(self, prefix: str) -> Sequence[str]:
        return []

    def tables(self, name: str) -> Mapping[str, Array]:
        return {}


def _graph_of(turn: Turn) -> str:
    """Return what the graph of a round is drawn from: all know it, and nobody can choose it."""
    return f"{turn.seed} {turn.round} {turn.phase}"


def _fitting(what: str, view: View, fits: Callable[[str, Array], bool]) -> dict[str, Array]:
    """Return what nodes sent for a step, and name those who sent what does not fit."""
    tables = view.tables(f"secure.{what}")
    fitting = {node: table for node, table in tables.items() if fits(node, table)}
    for node in sorted(tables.keys() - fitting.keys()):
        log.warning("answer refused", extra={"node": node, "reason": f"its {what} do not fit the secure sum"})
    return fitting


def _are_keys(table: Array) -> bool:
    """Tell whether these are public keys that somebody could have made honestly: one that is none would stop all others."""
    from vedette.strategies.chain.secure.agreement import SECRET, agreed
    from vedette.strategies.chain.secure.roll import KEYS, fits

    if not fits(table, KEYS, "u1"):
        return False
    try:
        return bool(agreed(bytes(SECRET), [key.tobytes() for key in table[:2]], b""))
    except ValueError:
        return False
