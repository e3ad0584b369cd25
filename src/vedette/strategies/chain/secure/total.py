"""The exchange's four steps in a secure sum: it introduces nodes, routes their parcels, adds up masked words, removes the masks.

Bonawitz et al. 2017, figure 4; `vedette.strategies.chain.secure.party` says what nodes do, and what all is safe against. Whatever does not
fit is left out as if its node had vanished. Nodes may vanish at any step, as long as each that shared its secrets has as many neighbours at
the last one as the threshold says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from vedette.errors import TooFewNodes
from vedette.message import Array, Memory, Message
from vedette.strategies.chain.secure.agreement import SEALED, SECRET, agreed, committed, public_of, stream
from vedette.strategies.chain.secure.graph import Assumed, neighbours
from vedette.strategies.chain.secure.party import KINDS
from vedette.strategies.chain.secure.roll import PREFIX, Roll, fits, forgotten
from vedette.strategies.chain.secure.shares import combined

__all__ = ["introduced", "routed", "summed", "unmasked"]


def introduced(keys: Mapping[str, Array], ours: Memory, seed: str, assumed: Assumed) -> tuple[Message, Memory]:
    """Step 1: given each node's keys, tell them all to everybody.

    Parameters
    ----------
    keys
        Node -> its table ``"secure.keys"``.
    ours
        The exchange's memory; what an earlier round left in it is dropped.
    seed, assumed
        As nodes say them in `share`.

    Raises
    ------
    RecipeError
        They are too few for what is assumed.
    """
    roll = Roll.called(keys, seed, assumed)
    return roll.message(), {**forgotten(ours), **roll.memory()}


def routed(shares: Mapping[str, Array], ours: Memory) -> tuple[dict[str, Message], Memory]:
    """Step 2: given what each node sealed for its neighbours, hand everybody what is theirs.

    Parameters
    ----------
    shares
        Node -> its table ``"secure.shares"``.
    ours
        The exchange's memory.

    Raises
    ------
    TooFewNodes
        A node has fewer neighbours left than the threshold.
    """
    roll, around = _graph(ours)
    shared = _places(roll, {name: table for name, table in shares.items() if fits(table, (roll.terms.degree, SEALED), "u1")})
    _demand_enough(roll, around, shared, shared, "shared their secrets")
    messages = {}
    for place in shared:
        senders = _among(around[place], shared)
        parcels = [shares[roll.names[sender]][np.searchsorted(around[sender], place)] for sender in senders]
        messages[roll.names[place]] = Message(tables={f"{PREFIX}from": senders, f"{PREFIX}shares": np.stack(parcels)})
    return messages, {**ours, f"{PREFIX}shared": shared}


def summed(words: Mapping[str, Array], ours: Memory, count: int, bits: Literal[32, 64]) -> tuple[Message, Memory]:
    """Step 3: given each node's masked words, add them up and tell who was heard.

    Parameters
    ----------
    words
        Node -> its table ``"secure.words"``.
    ours
        The exchange's memory.
    count, bits
        How many words, and of how many bits.

    Raises
    ------
    TooFewNodes
        A node has fewer neighbours left than the threshold.
    """
    roll, around = _graph(ours)
    dtype = f"u{bits // 8}"
    heard = _among(_places(roll, {name: table for name, table in words.items() if fits(table, (count,), dtype)}), _kept(ours, "shared"))
    _demand_enough(roll, around, heard, heard, "sent their words")
    total = np.zeros(count, dtype)
    for place in heard:
        total += words[roll.names[place]]
    return Message(tables={f"{PREFIX}heard": heard}), {**ours, f"{PREFIX}heard": heard, f"{PREFIX}total": total}


def unmasked(shares: Mapping[str, Array], ours: Memory) -> tuple[Array, Memory]:
    """Step 4: given the shares that nodes revealed, remove the masks; return the sum and the memory without its traces.

    Parameters
    ----------
    shares
        Node -> its table ``"secure.revealed"``.
    ours
        The exchange's memory.

    Raises
    ------
    TooFewNodes
        Fewer nodes revealed shares than the threshold, or so many false ones that a node's secret does not come out.
    """
    roll, around = _graph(ours)
    shared, heard, total = _kept(ours, "shared"), _kept(ours, "heard"), _kept(ours, "total").copy()
    senders = {place: _among(around[place], shared) for place in shared}
    told = {name: table for name, table in shares.items() if name in roll.names}
    answers = _among(_places(roll, told), shared)
    answers = np.array([place for place in answers if fits(told[roll.names[place]], (len(senders[place]), SECRET), "u1")], np.int64)
    _demand_enough(roll, around, shared, answers, "revealed shares")
    about = KINDS[1] + roll.digest
    for place in shared:
        lives = place in heard
        holders = _among(around[place], answers)
        parts = [told[roll.names[holder]][np.searchsorted(senders[holder], place)].tobytes() for holder in holders]
        numbers = [int(number) + 1 for number in np.searchsorted(around[place], holders)]
        secret = _secret(roll, place, lives, numbers, parts)
        if lives:
            total -= stream(secret, total)
            continue
        # The masks of pairs that survivors added with this node, which it did not live to take away.
        left = _among(around[place], heard)
        for other, key in zip(left, agreed(secret, [key.tobytes() for key in roll.keys[left, 1]], about), strict=True):
            (np.subtract if place > other else np.add)(total, stream(key, total), out=total)
    return total, forgotten(ours)


def _secret(roll: Roll, place: int, lives: bool, numbers: list[int], parts: list[bytes]) -> bytes:
    """Return a node's secret from some of its shares: others are tried where what comes out is not what it was bound to."""
    for first in range(len(parts)):
        some = [(first + step) % len(parts) for step in range(roll.terms.threshold)]
        secret = combined([numbers[one] for one in some], [parts[one] for one in some])
        if (committed(secret) if lives else public_of(secret)) == roll.keys[place, 2 if lives else 1].tobytes():
            return secret
    raise TooFewNodes(
        f"the secret of node '{roll.names[place]}' does not come out of the {len(parts)} shares that its neighbours revealed: "
        "some of them are false; this round of the secure sum gives nothing"
    )


def _graph(ours: Memory) -> tuple[Roll, Array]:
    roll = Roll.kept(ours)
    return roll, neighbours(roll.names, roll.terms.degree, roll.seed)


def _kept(ours: Memory, name: str) -> Array:
    return np.asarray(ours[f"{PREFIX}{name}"])


def _places(roll: Roll, tables: Mapping[str, Array]) -> Array:
    """Return the places of those who sent something."""
    return np.array([place for place, name in enumerate(roll.names) if name in tables], np.int64)


def _among(places: Array, others: Array) -> Array:
    """Return the places that are others' too, in their order."""
    return places[np.isin(places, others)]


def _demand_enough(roll: Roll, around: Array, nodes: Array, left: Array, did: str) -> None:
    """Refuse to go on if a node has fewer neighbours left than the threshold."""
    counts = np.isin(around[nodes], left).sum(axis=1)
    if len(nodes) == 0 or counts.min() < roll.terms.threshold:
        least = f": of the neighbours of node '{roll.names[nodes[counts.argmin()]]}' {counts.min()}" if len(nodes) else ""
        raise TooFewNodes(
            f"too few nodes for the secure sum: {len(left)} of {len(roll.names)} {did}{least}, and {roll.terms.threshold} are needed; "
            "wait longer for them, or let more vanish (vanish)"
        )
