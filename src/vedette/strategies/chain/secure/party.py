"""A node's four steps in a secure sum: it advertises keys, shares its secrets, masks its words, reveals what removes masks.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017, figure 4, on the graph of
`vedette.strategies.chain.secure.graph`. With keys s_uv that nodes u and v agreed on and a seed b_u of u's own, u sends

    y_u = x_u + PRG(b_u) + sum over neighbours v > u of PRG(s_uv) - sum over neighbours v < u of PRG(s_uv)   (mod 2^bits).

In the sum of all y the masks of pairs cancel out. Those of nodes that vanished remain, and the b_u: t neighbours give a share of b_u each
if u was heard, and a share of the key u agreed with if it was not. Both kinds would lay x_u open, so a node gives one of them, once.

What it is safe against: an exchange that follows the protocol but looks at all it gets, together with the corrupt nodes of `Assumed`; it
learns who took part and the sum of the others, and nothing else. From one that does not follow it:

- asking again with other lists, parcels or words, naming strangers, or too few survivors, is refused (`MessageRefused`); where
  `Assumed.lies`, telling each node other lists gains it nothing;
- other keys for different nodes: what a node seals is sealed to the whole roll, so that a neighbour with another roll cannot open it, and
  says so before it sends any words.

By itself it is not safe against an exchange that shows a node nothing but keys of its own making, or names nodes that do not exist: whoever
runs the steps has nodes sign their keys with their certificates (`vedette.strategies.chain.proofs`; figure 4 as it is against active
adversaries, but that thresholds stand in for signatures under the list of who was heard). It is not safe against one that leaves out honest
nodes until corrupt ones are the most. One neighbour that seals nonsense keeps its neighbours from taking part, and nobody sees what words a
dishonest node adds.

Secrets come from the operating system, never from seeded streams; the sum does not depend on them. They stand in a node's memory from step
to step, so whoever reads its checkpoint during a round could unmask it. A node that masks, is killed before its memory is kept, and then
masks other words than before would give their difference away: begun again, it must train to the same words, or take no part.
Likewise a round that is begun again from its first step sums the same words once more, and two sums that differ by one node give that node
away: whoever runs the steps lets an exchange begin a round again only if the first attempt came to nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import NamedTuple

import numpy as np

from vedette.errors import MessageRefused
from vedette.message import Array, Memory, Message
from vedette.strategies.chain.secure.agreement import SEALED, SECRET, agreed, committed, opened, public_of, sealed, stream
from vedette.strategies.chain.secure.graph import Assumed, neighbours
from vedette.strategies.chain.secure.roll import KEYS, PREFIX, Roll, fits, forgotten
from vedette.strategies.chain.secure.shares import split

__all__ = ["advertise", "masked", "revealed", "share"]


KINDS = (b"vedette parcel", b"vedette mask")
"""What the two keys are for that two nodes agree on."""


class Neighbourhood(NamedTuple):
    """What a node knows of itself and its neighbours after it has seen the roll.

    Attributes
    ----------
    place
        Its own.
    nodes
        How many there are.
    places, names
        Its neighbours'.
    agreed
        [neighbours, 2, 16] uint8: the keys for parcels and for masks.
    """

    place: int
    nodes: int
    threshold: int
    digest: bytes
    places: Array
    names: list[str]
    agreed: Array

    @classmethod
    def of(cls, mine: Memory) -> Neighbourhood:
        place, nodes, threshold = (int(np.asarray(_due(mine, name))) for name in ("place", "nodes", "threshold"))
        digest, places, keys = (np.asarray(_due(mine, name)) for name in ("digest", "peers", "agreed"))
        return cls(place, nodes, threshold, digest.tobytes(), places, json.loads(str(_due(mine, "peer_names"))), keys)

    def about(self, sender: int, receiver: int) -> bytes:
        """Return what a parcel is bound to: the roll, and its way."""
        return self.digest + f"{sender} {receiver}".encode()


def advertise(name: str, mine: Memory) -> tuple[Message, Memory]:
    """Step 1: draw secrets for this round and send the public keys.

    Parameters
    ----------
    name
        The node's, as the exchange knows it.
    mine
        The node's memory; what an earlier round left in it is dropped.
    """
    seeds = np.frombuffer(os.urandom(3 * SECRET), np.uint8).reshape(3, SECRET)
    keys = np.frombuffer(_advertised([seed.tobytes() for seed in seeds]), np.uint8).reshape(KEYS)
    return Message(tables={f"{PREFIX}keys": keys}), {**forgotten(mine), f"{PREFIX}name": name, f"{PREFIX}seeds": seeds}


def share(inbox: Message, mine: Memory, seed: str, assumed: Assumed) -> tuple[Message, Memory]:
    """Step 2: given all public keys, seal shares of the mask key and of the self-mask for each neighbour.

    Parameters
    ----------
    inbox
        The roll.
    mine
        The node's memory.
    seed
        Public; what the graph of this round is drawn from. All parties say the same.
    assumed
        What the sum is safe against. All parties say the same.

    Raises
    ------
    MessageRefused
        It is no roll, names too few for what is assumed, has not this node's keys, or is another than before.
    """
    name, secrets = str(_due(mine, "name")), [seed.tobytes() for seed in np.asarray(_due(mine, "seeds"))]
    roll = Roll.told(inbox, seed, assumed)
    place = roll.names.index(name) if name in roll.names else None
    if place is None or roll.keys[place].tobytes() != _advertised(secrets):
        raise MessageRefused(f"the secure sum's roll has not the keys that node '{name}' advertised; it takes no part")
    known = _once(mine, "digest", np.frombuffer(roll.digest, np.uint8))
    peers = neighbours(roll.names, roll.terms.degree, seed)[place]
    try:
        pairs = [agreed(secrets[i], [key.tobytes() for key in roll.keys[peers, i]], KINDS[i] + roll.digest) for i in (0, 1)]
    except ValueError:
        raise MessageRefused("the secure sum's roll gives a neighbour a public key that is none") from None
    known |= {
        f"{PREFIX}place": float(place),
        f"{PREFIX}nodes": float(len(roll.names)),
        f"{PREFIX}threshold": float(roll.terms.threshold),
        f"{PREFIX}peers": peers,
        f"{PREFIX}peer_names": json.dumps([roll.names[peer] for peer in peers]),
        f"{PREFIX}agreed": np.frombuffer(b"".join(pairs[0] + pairs[1]), np.uint8).reshape(2, len(peers), SECRET).swapaxes(0, 1),
    }
    around = Neighbourhood.of(known)
    of_key, of_mask = (split(secret, roll.terms.threshold, len(peers)) for secret in secrets[1:])
    parcels = [
        sealed(key, first.tobytes() + second.tobytes(), around.about(place, peer))
        for key, first, second, peer in zip(pairs[0], of_key, of_mask, peers, strict=True)
    ]
    table = np.frombuffer(b"".join(parcels), np.uint8).reshape(len(peers), SEALED)
    return Message(tables={f"{PREFIX}shares": table}), known


def masked(inbox: Message, mine: Memory, words: Array) -> tuple[Message, Memory]:
    """Step 3: open what neighbours sealed, and send the masked words.

    Parameters
    ----------
    inbox
        Parcels of the neighbours that sent some.
    mine
        The node's memory.
    words
        [words] uint32 or uint64: what is added up (`Fixed.words`).

    Raises
    ------
    MessageRefused
        A parcel was altered, or sealed by a neighbour that was told other keys; it comes from a stranger; fewer neighbours than the
        threshold sent one; or the node has masked other words in this round, or with other neighbours.
    """
    around = Neighbourhood.of(mine)
    senders, parcels = (inbox.tables.get(f"{PREFIX}{name}") for name in ("from", "shares"))
    if senders is None or not fits(senders, (senders.size,), "i8") or not fits(parcels, (senders.size, SEALED), "u1"):
        raise MessageRefused("the secure sum's parcels are not as many as their senders")
    if (np.diff(senders) <= 0).any() or not np.isin(senders, around.places).all():
        raise MessageRefused("the secure sum's parcels come from strangers, or two from one node")
    if len(senders) < around.threshold:
        raise MessageRefused(f"{len(senders)} neighbours sent shares for the secure sum, and {around.threshold} are needed")
    said = hashlib.sha256(words.tobytes() + senders.tobytes() + np.asarray(parcels).tobytes()).digest()
    mine = _once(mine, "sent", np.frombuffer(said, np.uint8))
    at = np.searchsorted(around.places, senders)
    held = []
    for sender, place, parcel in zip(senders, at, np.asarray(parcels), strict=True):
        secrets = opened(around.agreed[place, 0].tobytes(), parcel.tobytes(), around.about(sender, around.place))
        if secrets is None or len(secrets) != 2 * SECRET:
            raise MessageRefused(
                f"what node '{around.names[place]}' sealed for this one does not open: it was altered, or the exchange told the two "
                "of them different keys; nothing was sent"
            )
        held.append(secrets)
    total = words + stream(np.asarray(_due(mine, "seeds"))[2].tobytes(), words)
    for sender, place in zip(senders, at, strict=True):
        (np.add if sender > around.place else np.subtract)(total, stream(around.agreed[place, 1].tobytes(), words), out=total)
    kept = np.frombuffer(b"".join(held), np.uint8).reshape(len(held), 2, SECRET)
    return Message(tables={f"{PREFIX}words": total}), {**mine, f"{PREFIX}senders": senders, f"{PREFIX}held": kept}


def revealed(inbox: Message, mine: Memory) -> tuple[Message, Memory]:
    """Step 4: given who was heard, send a share of each neighbour's self-mask or of its key.

    Parameters
    ----------
    inbox
        The places of those who were heard.
    mine
        The node's memory.

    Raises
    ------
    MessageRefused
        The list is none, names strangers, has fewer neighbours than the threshold, or is another than the one answered before.
    """
    around, senders, held = Neighbourhood.of(mine), np.asarray(_due(mine, "senders")), np.asarray(_due(mine, "held"))
    heard = inbox.tables.get(f"{PREFIX}heard")
    if heard is None or not fits(heard, (heard.size,), "i8") or (np.diff(heard) <= 0).any():
        raise MessageRefused("the secure sum's list of who was heard is none, or not sorted")
    strangers = np.isin(heard, around.places) & ~np.isin(heard, senders)
    if strangers.any() or (heard < 0).any() or (heard >= around.nodes).any():
        raise MessageRefused("the secure sum's list of who was heard names strangers: nodes that never shared their secrets")
    lives = np.isin(senders, heard)
    if lives.sum() < around.threshold:
        raise MessageRefused(
            f"{lives.sum()} neighbours of this node are said to have been heard; it reveals nothing unless {around.threshold} were"
        )
    mine = _once(mine, "heard", heard)
    return Message(tables={f"{PREFIX}revealed": held[np.arange(len(held)), lives.astype(np.int64)]}), mine


def _advertised(seeds: list[bytes]) -> bytes:
    """Return what a node tells of its seeds: two public keys and what binds it to its self-mask."""
    return public_of(seeds[0]) + public_of(seeds[1]) + committed(seeds[2])


def _once(mine: Memory, name: str, said: Array) -> dict[str, Array | float | str]:
    """Return a memory in which stands what was asked, unless something else stood there."""
    before = mine.get(f"{PREFIX}{name}")
    if before is not None and not np.array_equal(np.asarray(before), said):
        raise MessageRefused(
            "a step of the secure sum is asked for twice, and the second time for something else; nothing more is answered"
        )
    return {**mine, f"{PREFIX}{name}": said}


def _due(mine: Memory, name: str) -> Array | float | str:
    """Return what an earlier step left."""
    if f"{PREFIX}{name}" not in mine:
        raise MessageRefused("a step of the secure sum comes before its turn: this node has not taken the one before")
    return mine[f"{PREFIX}{name}"]
