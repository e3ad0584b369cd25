"""Who masks with whom, and how many shares give a secret.

Up to `COMPLETE` nodes, all mask with all (Bonawitz et al. 2017). Above, each masks with k others (SecAgg+: Bell, Bonawitz, Gascón, Lepoint
and Raykova, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS 2020): nodes stand in a ring in the order of the hash
of a public seed with their name, and each masks with the k/2 before and behind it, a Harary graph of randomly placed nodes. Everybody
works out the same graph.

Of n nodes C are corrupt (they tell the exchange all they know) and D vanish. With H(N, K, k) the hypergeometric law (of k drawn from N, of
which K count) degree k and threshold t are the least for which these hold, where each line sums the failures of all nodes (union bound):

(1) n P[H(n-1, C, k) >= a] <= 2^-(security + 1), where a = t, or a = 2 t - k if the exchange may tell nodes different lists of who was
    heard: it gets the corrupt neighbours' shares of both kinds and one share of one kind from each of the others, so 2 t > k + corrupt
    neighbours keeps it from having t of both;
(2) (n choose 2) (n - k choose C + D - k) / (n choose C + D) <= 2^-(security + 1): a ring falls apart only where two runs of k/2 neighbours
    are lost, and a part that stands alone would have its sum revealed;
(3) n P[H(n-1, D, k) > k - t] <= 2^-liveness: too few are left to give back some node's secret, and the round ends with an error.

These are the three events of a good graph in Bell et al. (not too many corrupt neighbours, connected, enough survivors), worked out
exactly in place of their closed bounds. On a complete graph nothing is left to chance, and lies are always allowed for: t > (n - 1 + C) / 2
and t <= n - 1 - D.

All this is for corrupt nodes that were corrupt before the seed was known, and for nodes that vanish by chance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from math import ceil, floor
from typing import NamedTuple

import numpy as np

from vedette.errors import RecipeError
from vedette.message import Array

__all__ = ["COMPLETE", "LEAST", "Assumed", "Terms", "neighbours", "terms_for"]

COMPLETE = 32
"""So many nodes mask with all others."""
LEAST = 3
"""Of two nodes each would know what the other sent."""


class Assumed(NamedTuple):
    """What a secure sum is safe against.

    Attributes
    ----------
    vanish
        Share of the nodes that may vanish in a round, at whatever step.
    corrupt
        Share of the nodes that may tell the exchange all they know.
    lies
        Whether the exchange may tell nodes different lists of who was heard.
    security, liveness
        On a sparse graph it fails to protect somebody with probability 2^-security, and to give a sum with 2^-liveness.
    """

    vanish: float = 0.3
    corrupt: float = 0.1
    lies: bool = True
    security: int = 40
    liveness: int = 10


class Terms(NamedTuple):
    """With how many neighbours each masks, and how many of their shares give a secret."""

    degree: int
    threshold: int


@lru_cache(maxsize=64)
def terms_for(nodes: int, assumed: Assumed) -> Terms:
    """Return the least degree and threshold that are safe.

    Raises
    ------
    RecipeError
        None are: more may vanish, or be corrupt, than so many nodes can bear.
    """
    vanish, corrupt = (floor(share * nodes + 1e-9) for share in (assumed.vanish, assumed.corrupt))
    if nodes > COMPLETE:
        for degree in range(2, nodes - 1, 2):
            threshold = _threshold(nodes, degree, vanish, corrupt, assumed)
            if threshold:
                return Terms(degree, threshold)
    degree = nodes - 1
    threshold = max(2, (degree + corrupt) // 2 + 1)
    if nodes < LEAST or threshold > degree - vanish:
        raise RecipeError(
            f"no secure sum of {nodes} nodes bears {vanish} that vanish and {corrupt} that are corrupt; "
            f"take at least {LEAST} nodes, and smaller shares of them (vanish, corrupt)"
        )
    return Terms(degree, threshold)


def neighbours(names: Sequence[str], degree: int, seed: str) -> Array:
    """Return [nodes, degree] int64: the places of each node's neighbours, ascending.

    Parameters
    ----------
    names
        Of all nodes.
    degree
        Of each: even, or all the others.
    seed
        Public; a new one for every round.
    """
    count = len(names)
    ring = np.array(sorted(range(count), key=lambda place: hashlib.sha256(f"{seed}\n{names[place]}".encode()).digest()))
    # With an odd number of others the one opposite comes from one side only.
    steps = np.array([step for step in range(-(degree // 2), degree - degree // 2 + 1) if step])
    found = np.empty((count, degree), np.int64)
    found[ring] = np.sort(ring[(np.arange(count)[:, None] + steps) % count], axis=1)
    return found


def _threshold(nodes: int, degree: int, vanish: int, corrupt: int, assumed: Assumed) -> int | None:
    """Return the least threshold that is safe at a degree."""
    allowed = 2.0 ** -(assumed.security + 1)
    lost = min(vanish + corrupt, nodes)
    if lost >= degree:
        apart = _choose(nodes, 2) + _choose(nodes - degree, lost - degree) - _choose(nodes, lost)
        if np.exp(apart) > allowed:
            return None
    most = int(np.flatnonzero(nodes * _tails(nodes - 1, corrupt, degree) <= allowed)[0])
    threshold = max(2, ceil((degree + most) / 2) if assumed.lies else most)
    fails = threshold > degree or nodes * _tails(nodes - 1, vanish, degree)[degree - threshold + 1] > 2.0**-assumed.liveness
    return None if fails else threshold


def _tails(nodes: int, counting: int, drawn: int) -> Array:
    """Return [drawn + 2] P[H >= a] for a = 0, 1, … of the hypergeometric law."""
    hits = np.arange(max(0, drawn - (nodes - counting)), min(counting, drawn) + 1)
    chances = np.zeros(drawn + 2)
    chances[hits] = np.exp(_choose(counting, hits) + _choose(nodes - counting, drawn - hits) - _choose(nodes, drawn))
    tails: Array = np.cumsum(chances[::-1])[::-1]
    return tails


def _choose(total: int, some: int | Array) -> Array:
    """Return the logarithm of how many ways there are to choose some of all."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    found: Array = factorials[total] - factorials[some] - factorials[total - some]
    return found
