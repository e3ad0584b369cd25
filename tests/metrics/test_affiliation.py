"""Affiliation: distances worked out by hand, sums that add up, and what it gives away for nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from vedette.errors import MissingExtra
from vedette.metrics.affiliation import Affiliation, affiliation

#                 0  1  2  3  4  5  6  7  8  9
EVENT = np.array([0, 0, 0, 0, 1, 1, 0, 0, 0, 0])  # rows 4 and 5: the stretch from 4 to 6 of a zone from 0 to 10


def flags(*rows: int) -> np.ndarray:
    return np.isin(np.arange(10), rows).astype(np.int8)


def test_a_flag_beside_the_event_worked_out_by_hand() -> None:
    # Precision: a moment of row 6 is d = 0 to 1 from the event, and 10 - 2 - 2d of the zone's 10 are farther: 0.8 - 0.2 d, mean 0.7.
    # Recall: the moment t of the event is 6 - t from row 6, and 10 - 2 (6 - t) of 10 are farther: 0.2 t - 0.2, from 0.6 to 1, mean 0.8.
    found = affiliation(EVENT, flags(6))
    assert found == (1, pytest.approx(0.8), 1, pytest.approx(0.7))
    assert found.rates() == {"precision": pytest.approx(0.7), "recall": pytest.approx(0.8), "f1": pytest.approx(2 * 0.56 / 1.5)}


def test_perfect_silent_and_flagging_everything() -> None:
    assert affiliation(EVENT, EVENT).rates() == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert affiliation(EVENT, flags()) == (1, 0.0, 0, 0.0)
    assert affiliation(EVENT, flags()).rates() == {"precision": None, "recall": 0.0, "f1": 0.0}
    # A fifth of the zone is the event itself; the rest is 0 to 4 away: 0.8 - 0.2 d, mean 0.4.
    everything = affiliation(EVENT, flags(*range(10)))
    assert everything.rates() == {"precision": pytest.approx(0.2 + 0.8 * 0.4), "recall": 1.0, "f1": pytest.approx(2 * 0.52 / 1.52)}


def test_an_event_whose_zone_has_no_flag_has_no_precision() -> None:
    # Zones meet half way between the events, at 10; the second is found to the row, the first one's zone is empty.
    label, decision = np.concatenate([EVENT, EVENT]), np.concatenate([flags(), EVENT])
    assert affiliation(label, decision) == (2, pytest.approx(1), 1, pytest.approx(1))
    assert affiliation(label, decision).rates()["recall"] == pytest.approx(0.5)


def test_sums_of_series_add_up_and_a_series_without_events_has_none() -> None:
    one, other = affiliation(EVENT, flags(6)), affiliation(EVENT, flags())
    assert one.plus(other) == (2, pytest.approx(0.8), 1, pytest.approx(0.7))
    assert one.plus(other).rates()["recall"] == pytest.approx(0.4)
    assert affiliation(flags(), flags(1, 2)) == affiliation(np.array([]), np.array([])) == Affiliation()
    assert Affiliation().rates() == {"precision": None, "recall": None, "f1": None}


def test_it_rewards_chance() -> None:
    rng = np.random.default_rng(0)
    label = np.zeros(5000)
    label[np.arange(5000) % 1000 > 950] = 1
    for share in (0.5, 0.05):
        figures = affiliation(label, rng.random(5000) < share).rates()
        assert figures["precision"] == pytest.approx(0.5, abs=0.08)
        assert figures["recall"] > 0.9  # type: ignore[operator]


def test_what_cannot_be_judged_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="as many rows"):
        affiliation(EVENT, EVENT[1:])
    monkeypatch.setitem(sys.modules, "telemeval", None)
    with pytest.raises(MissingExtra, match=r"telemeval: pip install 'vedette\[diagnostics\]'"):
        affiliation(EVENT, EVENT)
