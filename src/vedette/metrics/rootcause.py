"""How well explanations name the features that an incident was seen in."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from vedette.message import Array

__all__ = ["hit_rate", "ndcg"]


def hit_rate(shares: Array, truth: Collection[int], percent: float = 100.0) -> float:
    """Return HitRate@P%: the share of the true features among as many of the first as P % of their number (Su et al. 2019, section 4.4).

    Parameters
    ----------
    shares
        [features], higher = more to answer for.
    truth
        Places of the true features, at least one.
    percent
        100 looks at as many features as are true, 150 at half as many more.
    """
    true = set(truth)
    first = np.argsort(-np.asarray(shares, dtype=np.float64), kind="stable")[: int(len(true) * percent / 100)]
    return len(true & set(first.tolist())) / len(true)


def ndcg(shares: Array, truth: Collection[int], first: int = 5) -> float:
    """Return NDCG@k with relevance 1 for true features (Järvelin and Kekäläinen 2002): how early they come among the first k.

    Parameters
    ----------
    shares
        [features], higher = more to answer for.
    truth
        Places of the true features, at least one.
    first
        k.
    """
    true = set(truth)
    order = np.argsort(-np.asarray(shares, dtype=np.float64), kind="stable")[:first].tolist()
    gain = sum(1 / np.log2(place + 2) for place, feature in enumerate(order) if feature in true)
    best = sum(1 / np.log2(place + 2) for place in range(min(first, len(true))))
    return float(gain / best)
