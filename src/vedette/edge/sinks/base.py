"""Sinks: who is told of events. A sink names itself and its settings; an outlet is one that is open."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, TypeAlias

from pydantic import Field

from vedette.edge.events import Event, EventKind
from vedette.registry import Registry
from vedette.settings import Settings, named

__all__ = ["SINKS", "AnySink", "Outlet", "Sink", "Unaccepted"]


class Unaccepted(Exception):
    """Whoever should be told did not accept it: it is sent again later.

    Parameters
    ----------
    why
        In a few words, for the log.
    lasting
        Whether this very event will never be accepted (it was refused as such), so that it must not stop those behind it.
    after
        Seconds to wait, as whoever refused it asked for.
    """

    def __init__(self, why: str, lasting: bool = False, after: float = 0.0) -> None:
        super().__init__(why)
        self.lasting, self.after = lasting, after


class Outlet(ABC):
    """A sink that is open; used by one thread.

    Attributes
    ----------
    every
        Seconds after which it is reminded of the incidents that are open.
    """

    every: float = math.inf

    @abstractmethod
    def send(self, events: Sequence[Event]) -> None:
        """Tell events, in order; return once all are accepted.

        Raises
        ------
        Unaccepted
            They were not; some may have been, and will be sent again.
        """

    def remind(self, current: Sequence[Event]) -> None:  # noqa: B027
        """Tell of all open incidents again, as each was told of last; errors: see `send`."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open."""


class Sink(Settings, ABC):
    """Base of sinks: the fields are settings.

    Parameters
    ----------
    kinds
        What is told there.
    rate
        Events a second that are told at most of what has piled up during an outage.
    """

    kinds: tuple[EventKind, ...] = ("opened", "updated", "closed")
    rate: float = Field(100.0, gt=0)

    @abstractmethod
    def open(self) -> Outlet:
        """Open it; that nobody is there yet is no error, but shows when something is sent.

        Raises
        ------
        MissingExtra, RecipeError
            It cannot work, and waiting would not help.
        """


SINKS: Registry[type[Sink]] = Registry(
    "sink",
    {
        "stdout": "vedette.edge.sinks.stdout:Stdout",
        "eve": "vedette.edge.sinks.eve:EveLines",
        "mqtt": "vedette.edge.sinks.mqtt:MqttEvents",
        "webhook": "vedette.edge.sinks.webhook:Webhook",
        "alertmanager": "vedette.edge.sinks.alertmanager:Alertmanager",
    },
)

AnySink: TypeAlias = Annotated[Sink, *named(SINKS)]
