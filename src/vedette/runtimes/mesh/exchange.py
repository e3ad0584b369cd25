"""The exchange among those who were heard, whatever one of them said."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from vedette.errors import VedetteError
from vedette.message import Message
from vedette.runtimes.checkpoint import State
from vedette.runtimes.meetings import Attackers, Hearing, Meeting
from vedette.runtimes.phase import Phase

__all__ = ["exchanged"]

log = logging.getLogger(__name__)

SPOILT = (VedetteError, ArithmeticError, LookupError, TypeError, ValueError)
"""What an exchange may raise over an answer that looks well and is not."""


def exchanged(
    phase: Phase, heard: Mapping[str, Message], state: State, who: str = "*", receivers: tuple[str, ...] = ()
) -> tuple[Hearing, int]:
    """Exchange, into the run's state; without one of those who were heard, if only that can be done.

    Parameters
    ----------
    phase, state
        Where the run stands.
    heard
        Answers by node.
    who, receivers
        Who carries the exchange out, and for whom; all who were heard unless it is said.

    Returns
    -------
    tuple
        What was heard of whom, and the bytes that a coordinator sends back.

    Raises
    ------
    VedetteError
        It cannot be done whoever is left out.
    """
    first: Exception | None = None
    # Without the only one there would be nobody.
    for left_out in (None, *(sorted(heard) if len(heard) > 1 else ())):
        members = tuple(node for node in sorted(heard) if node != left_out)
        hearing = Hearing(phase.strategy, {who: Meeting(members, receivers or members)}, state.groups, Attackers())
        try:
            for node in members:
                hearing.hear(node, heard[node])
            received = phase.exchange(hearing, {}, state)
        except SPOILT as error:
            first = first or error
            continue
        if left_out is not None:
            hearing.refused[left_out] = f"node '{left_out}' says what nothing can be made of ({first})"
        for node, reason in hearing.refused.items():
            log.warning("answer refused", extra={"node": node, "reason": reason})
        return hearing, received
    assert first is not None
    raise first if isinstance(first, VedetteError) else VedetteError(f"the exchange of '{phase.name}' failed: {first}") from first
