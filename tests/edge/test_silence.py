"""Devices that nothing is heard of any more."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vedette.edge.silence import Silence

NAMES = ["a", "b", "c", "d", "e", "f", "g"]


def test_devices_are_silent_once_nothing_was_heard_of_them_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    silence = Silence(60.0, 2)
    assert silence.found(NAMES) == (0, [])
    now = 1030.0
    silence.hear(np.array([1, 1, 2]), 3)
    now = 1061.0
    assert silence.found(NAMES) == (1, [("a", 61.0)])
    silence.hear(np.array([0]), 7)
    now = 1091.0
    assert silence.found(NAMES) == (2, [("b", 61.0), ("c", 61.0)])
    # Of many those are named that have been silent longest.
    now = 2000.0
    count, longest = silence.found(NAMES)
    assert count == 7
    assert longest == [("b", 970.0), ("c", 970.0), ("a", 939.0), ("d", 939.0), ("e", 939.0)]
