"""Sources: where readings come from. A source names itself and its settings; a feed is one that is open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, NamedTuple, TypeAlias

from vedette.data.table import Feature
from vedette.edge.counting import Counts
from vedette.edge.decoding import Decoder
from vedette.edge.readings import Readings
from vedette.registry import Registry
from vedette.settings import Settings, named

__all__ = ["SOURCES", "AnySource", "Drained", "Feed", "Source"]


class Drained(NamedTuple):
    """What was pending at a source.

    Attributes
    ----------
    readings
        In the order of arrival.
    position
        How far the source has been read with these, for `Source.open` after a restart; "" where it cannot be said.
    """

    readings: Readings
    position: str


class Feed(ABC):
    """A source that is open.

    Attributes
    ----------
    counts
        What was not as it should be, by kind (docs/live-sources.md): ``"garbage"``, ``"missing-field"``, ``"duplicate"``…
    """

    counts: Counts

    @abstractmethod
    def drain(self, wait: float, most: int = 65_536) -> Drained | None:
        """Return all readings that are pending; wait for the first so many seconds. None: there was none.

        From `most` on no further message is opened; one that holds many readings is not cut.
        """

    def settle(self) -> None:  # noqa: B027
        """All that was drained is stored now: the source may forget it."""

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more (a file was read to its end)."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open."""


class Source(Settings, ABC):
    """Base of sources: the fields are settings."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """What a reading holds where the source knows it by itself; empty where that is the detector's to say."""
        return ()

    @abstractmethod
    def open(self, decoder: Decoder, position: str = "") -> Feed:
        """Open it.

        Parameters
        ----------
        decoder
            Makes readings of what comes.
        position
            Where to go on, from `Drained`; "" at the beginning.

        Raises
        ------
        DataMissing, MissingExtra, RecipeError
            It cannot be opened, and waiting would not help.
        """


SOURCES: Registry[type[Source]] = Registry(
    "source",
    {
        "mqtt": "vedette.edge.sources.mqtt:Mqtt",
        "lines": "vedette.edge.sources.lines:Lines",
        "replay": "vedette.edge.sources.replay:Replay",
        "eve": "vedette.edge.sources.eve:Eve",
        "otlp": "vedette.edge.sources.otlp:Otlp",
        "host": "vedette.edge.sources.host:Host",
    },
)

AnySource: TypeAlias = Annotated[Source, *named(SOURCES)]
