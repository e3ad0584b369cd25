"""What tests of sources share: a decoder, and a feed read until it has said enough."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vedette.data.table import Feature
from vedette.edge.decoding import Decoder
from vedette.edge.format import Format
from vedette.edge.readings import Devices, Readings
from vedette.edge.sources.base import Feed, Source

TWO = (Feature("flow"), Feature("pressure"))


def decoder(features: tuple[Feature, ...] = TWO, most: int = 100, **format: Any) -> Decoder:
    return Decoder(features, Devices(most=most), Format.model_validate(format))


@contextmanager
def opened(source: Source, made: Decoder, position: str = "") -> Iterator[Any]:
    feed = source.open(made, position)
    try:
        yield feed
    finally:
        feed.close()


def read(feed: Feed, count: int, most: int = 65_536, settle: bool = True) -> tuple[Readings, str]:
    """Drain a feed until it gave so many readings; no more than these may come."""
    parts: list[Readings] = []
    position, deadline = "", time.monotonic() + 30
    while sum(map(len, parts)) < count and time.monotonic() < deadline:
        drained = feed.drain(0.1, most)
        if drained is not None:
            parts.append(drained.readings)
            position = drained.position
            if settle:
                feed.settle()
    assert sum(map(len, parts)) == count, f"{sum(map(len, parts))} readings, {dict(feed.counts)}"
    return Readings.concat(parts), position
