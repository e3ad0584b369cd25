"""Proofs of who keys of a secure sum belong to: signed by the nodes' certificates, so that no exchange can put others in their place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from vedette.errors import MessageRefused
from vedette.message import Array, Message
from vedette.strategies.base import Turn

__all__ = ["PROOFS", "demand_proven", "objections", "proven", "stacked"]

KEYS, NAMES, PROOFS = "secure.keys", "secure.names", "secure.proofs"


def proven(turn: Turn, message: Message) -> Message:
    """Return a message with a node's keys, and, where nodes have certificates, with the proof that they are its own."""
    if turn.identity is None or KEYS not in message.tables:
        return message
    proof = turn.identity.proof(_said(turn, turn.node, np.asarray(message.tables[KEYS])))
    return message._replace(tables={**message.tables, PROOFS: np.frombuffer(proof, np.uint8)})


def objections(turn: Turn, keys: Mapping[str, Array], proofs: Mapping[str, Array]) -> dict[str, str]:
    """Return, by node, why keys are not shown to be its own; where nodes have no certificates nobody asks."""
    found = {}
    for node, table in keys.items() if turn.identity is not None else ():
        proof = proofs.get(node)
        assert turn.identity is not None
        reason = turn.identity.objection(node, _said(turn, node, table), b"" if proof is None else np.asarray(proof).tobytes())
        if reason is not None:
            found[node] = reason
    return found


def stacked(names: Sequence[str], proofs: Mapping[str, Array]) -> Array:
    """Return the proofs of nodes as a table [nodes, bytes] uint8, filled up with zeros."""
    table = np.zeros((len(names), max((len(proofs[name]) for name in names if name in proofs), default=0)), np.uint8)
    for place, name in enumerate(names):
        table[place, : len(proofs.get(name, ()))] = proofs.get(name, ())
    return table


def demand_proven(turn: Turn, roll: Message) -> None:
    """Refuse a roll in which some node's keys are not shown to be its own.

    All are looked at, not a node's neighbours alone: how much noise each adds depends on how many there are.

    Raises
    ------
    MessageRefused
        Some are not.
    """
    if turn.identity is None:
        return
    try:
        names = [str(name) for name in json.loads(str(roll.facts[NAMES]))]
        keys, proofs = (dict(zip(names, np.asarray(roll.tables[name]), strict=True)) for name in (KEYS, PROOFS))
    except (KeyError, ValueError, TypeError, RecursionError):
        raise MessageRefused("the secure sum's roll does not prove whose keys it has") from None
    for node, reason in objections(turn, keys, proofs).items():
        raise MessageRefused(f"the keys that the secure sum's roll gives for node '{node}' are not its own: {reason}")


def _said(turn: Turn, node: str, keys: Array) -> bytes:
    """Return what a node signs: these keys are mine, in this step of this round."""
    return json.dumps(["secure sum", turn.seed, turn.round, turn.phase, node]).encode() + np.ascontiguousarray(keys).tobytes()
