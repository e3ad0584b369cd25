"""Checkpoints: a run's whole state in one file after every round, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vedette.errors import CheckpointError
from vedette.files import read_memory, write_memory
from vedette.message import Array, Memory, Message, packed, unpacked
from vedette.runtimes.base import Round

__all__ = ["State", "load_state", "save_state"]

SCHEMA = "vedette.checkpoint/4"

LONG = 64
"""Characters of a text that is written once, however many nodes hold it; arrays always are."""


@dataclass
class State:
    """Where a run stands: all that is needed to go on as if nothing had happened.

    Attributes
    ----------
    memories
        By node.
    inbox
        What the last exchange gave each receiver (``"*"`` for all).
    ours
        By who carries the exchange out (``"*"`` a coordinator, else a peer): its own state.
    groups
        By the same: node -> group, from the last reply.
    exchanged
        By stage that is done: what each exchange remembered last.
    stage, round, phase
        What comes next; phases count within a round.
    history
        What was.
    closed
        By stage that is done: what nodes were sent last, for whoever comes late.
    """

    memories: dict[str, Memory]
    inbox: Mapping[str, Message] = field(default_factory=dict)
    ours: Mapping[str, Memory] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    exchanged: dict[str, Mapping[str, Memory]] = field(default_factory=dict)
    stage: int = 0
    round: int = 0
    phase: int = 0
    history: list[Round] = field(default_factory=list)
    closed: dict[str, Mapping[str, Message]] = field(default_factory=dict)


def save_state(path: Path, state: State, plan: str) -> None:
    """Write a state atomically; the file before it stays whole until then.

    Parameters
    ----------
    path
        The checkpoint file.
    state
        What to keep.
    plan
        Digest of the plan.

    Raises
    ------
    StorageError
        The disk is full or not writable.
    """
    flat = _Once()
    nodes, receivers = sorted(state.memories), sorted(state.inbox)
    firsts: dict[Hashable, int] = {}
    like = [firsts.setdefault(_marks(state.memories[node]), number) for number, node in enumerate(nodes)]
    for number in firsts.values():
        flat.put(f"node/{number}", state.memories[nodes[number]])
    for number, receiver in enumerate(receivers):
        flat.put(f"inbox/{number}", packed(state.inbox[receiver]))
    exchangers = sorted(state.ours)
    for number, who in enumerate(exchangers):
        flat.put(f"ours/{number}", state.ours[who])
    exchanged = [(stage, who) for stage in sorted(state.exchanged) for who in sorted(state.exchanged[stage])]
    for number, (stage, who) in enumerate(exchanged):
        flat.put(f"exchanged/{number}", state.exchanged[stage][who])
    closed = [(stage, receiver) for stage in sorted(state.closed) for receiver in sorted(state.closed[stage])]
    for number, (stage, receiver) in enumerate(closed):
        flat.put(f"closed/{number}", packed(state.closed[stage][receiver]))
    about = {
        "schema": SCHEMA,
        "plan": plan,
        "nodes": nodes,
        "like": like,
        "receivers": receivers,
        "exchangers": exchangers,
        "exchanged": exchanged,
        "groups": {who: dict(groups) for who, groups in state.groups.items()},
        "closed": closed,
        "stage": state.stage,
        "round": state.round,
        "phase": state.phase,
        "history": [list(entry) for entry in state.history],
        "same": flat.same,
    }
    # What nodes send, and their secrets in a secure sum, are nobody else's business.
    write_memory(path, flat.held, about, 0o600)


def _marks(memory: Memory) -> Hashable:
    """Return what two memories have in common only if they hold the same: the same arrays, equal numbers and text."""
    return tuple([(name, id(value) if isinstance(value, np.ndarray) else value) for name, value in memory.items()])


class _Once:
    """Collects what is to be written: an array or a long text that several parties share stands there once."""

    def __init__(self) -> None:
        self.held: dict[str, Array | float | str] = {}
        self.same: dict[str, str] = {}
        self._first: dict[int | str, str] = {}

    def put(self, party: str, memory: Mapping[str, Array | float | str]) -> None:
        """Add what a party holds."""
        for name, value in memory.items():
            key = f"{party}/{name}"
            mark = id(value) if isinstance(value, np.ndarray) else value if isinstance(value, str) and len(value) > LONG else None
            if mark is not None and self._first.setdefault(mark, key) != key:
                self.same[key] = self._first[mark]
            else:
                self.held[key] = value


def load_state(path: Path, plan: str) -> State:
    """Read a state.

    Raises
    ------
    CheckpointError
        The file is damaged, of another version, or belongs to another plan.
    """
    flat, about = read_memory(path)
    if about.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} is no checkpoint this version can read; start anew with another --out")
    if about.get("plan") != plan:
        raise CheckpointError(f"{path} belongs to a run with other settings; resume with the same recipe and options or take another --out")
    try:
        return _state(flat, about)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); start anew with another --out") from None


def _state(flat: Memory, about: Mapping[str, Any]) -> State:
    parts: dict[str, dict[str, Any]] = {}
    for key, value in {**flat, **{key: flat[first] for key, first in about["same"].items()}}.items():
        kind, number, name = key.split("/", 2)
        parts.setdefault(f"{kind}/{number}", {})[name] = value
    numbers = range(len(about["nodes"]))
    exchanged: dict[str, dict[str, Memory]] = {}
    for place, (stage, who) in enumerate(about["exchanged"]):
        exchanged.setdefault(stage, {})[who] = parts.get(f"exchanged/{place}", {})
    closed: dict[str, dict[str, Message]] = {}
    for place, (stage, receiver) in enumerate(about["closed"]):
        closed.setdefault(stage, {})[receiver] = unpacked(parts.get(f"closed/{place}", {}))
    return State(
        memories={node: dict(parts.get(f"node/{numbers[like]}", {})) for node, like in zip(about["nodes"], about["like"], strict=True)},
        inbox={receiver: unpacked(parts.get(f"inbox/{number}", {})) for number, receiver in enumerate(about["receivers"])},
        ours={who: parts.get(f"ours/{number}", {}) for number, who in enumerate(about["exchangers"])},
        exchanged=dict(exchanged),
        groups=about["groups"],
        stage=about["stage"],
        round=about["round"],
        phase=about["phase"],
        closed=dict(closed),
        history=[Round(*entry) for entry in about["history"]],
    )
