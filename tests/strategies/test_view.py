"""Answers that would spoil those of all others are refused and leave no trace."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.errors import DetectorMisused
from vedette.message import Channel, Message, Vector
from vedette.seeds import stream
from vedette.strategies.base import Turn
from vedette.strategies.fedavg import FedAvg
from vedette.strategies.view import Answers

CHANNELS = [Channel("model", weights=("rows", "")), Channel("norms", combine="gather")]


def sent(value: float = 1.0, norm: float = 1.0, rows: object = 1.0, table: float = 0.0, name: str = "points", layout: str = "x") -> Message:
    vectors = {"model": Vector(np.array([value], dtype=np.float32), layout), "norms": Vector(np.array([norm], dtype=np.float32), "y")}
    facts = {} if rows is None else {"rows": rows}
    return Message(vectors, {name: np.array([[table, 1.0]], dtype=np.float32), "codes": np.array([1, 2])}, facts)  # type: ignore[arg-type]


SPOILT = {
    "parameters NaN": (sent(value=np.nan), "parameters that are not finite on channel 'model'"),
    "parameters infinite": (sent(norm=-np.inf), "parameters that are not finite on channel 'norms'"),
    "rows NaN": (sent(rows=float("nan")), "no positive number 'rows' to weight channel 'model' by (got nan)"),
    "rows infinite": (sent(rows=float("inf")), "no positive number 'rows'"),
    "rows beyond all sums": (sent(rows=1e300), "no positive number 'rows'"),
    "rows negative": (sent(rows=-1.0), "(got -1.0)"),
    "rows zero": (sent(rows=0.0), "(got 0.0)"),
    "rows in words": (sent(rows="many"), "(got 'many')"),
    "rows kept back": (sent(rows=None), "(got None)"),
    "table NaN": (sent(table=np.nan), "a table 'points' with values that are not finite"),
    "table infinite": (sent(table=np.inf), "a table 'points' with values that are not finite"),
    "summary NaN": (sent(table=np.nan, name="numbers"), "a table 'numbers' with values that are not finite"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("first", [True, False])
def test_a_spoilt_answer_leaves_no_trace(spoilt, first):
    message, reason = SPOILT[spoilt]
    groups = {"a": "g", "liar": "g"}
    view, without = Answers(CHANNELS, groups), Answers(CHANNELS, groups)
    for node in ("liar", "a") if first else ("a", "liar"):
        # Its layout would otherwise become everybody's.
        view.add(node, sent(3.0) if node == "a" else message)
    without.add("a", sent(3.0))
    for seen, wanted in ((view, without), (view.groups["g"], without.groups["g"])):
        assert list(seen.nodes) == ["a"]
        assert list(seen.refused) == ["liar"]
        assert seen.refused["liar"].startswith("node 'liar' sends ")
        assert reason in seen.refused["liar"]
        assert seen.facts("rows") == {"a": 1.0}
        assert list(seen.tables("points")) == ["a"]
        assert seen.each("norms")[0] == ["a"]
        assert all(seen.mean("model", weight).values == wanted.mean("model", weight).values for weight in ("rows", ""))


def test_a_refused_layout_is_forgotten():
    view = Answers(CHANNELS)
    view.add("liar", sent(value=np.nan, layout="another"))
    view.add("a", sent())
    assert view.layout("model") == "x"


def test_where_all_are_refused_the_first_reason_is_told():
    view = Answers(CHANNELS)
    view.add("a", sent(rows=-2.0))
    view.add("b", sent(value=np.nan))
    for ask in (lambda: view.mean("model"), lambda: view.each("norms")):
        with pytest.raises(DetectorMisused, match="every answer was refused; the first: node 'a' sends no positive number 'rows'"):
            ask()
    assert view.nodes == []


def test_extremes_of_columns_that_nobody_has_seen_are_no_reason():
    view = Answers(CHANNELS)
    view.add("a", sent(table=np.inf, name="numbers"))
    assert view.nodes == ["a"]
    assert view.refused == {}


def test_gathered_nodes_may_say_of_themselves_what_they_like():
    view = Answers([Channel("model", combine="gather")])
    view.add("a", Message({"model": Vector(np.ones(1, dtype=np.float32), "x")}, facts={"rows": float("nan")}))
    assert view.nodes == ["a"]


def test_what_settings_keep_apart_stays_an_error():
    view = Answers(CHANNELS)
    view.add("a", sent())
    with pytest.raises(DetectorMisused, match="node 'b' sends parameters of another layout on channel 'model'"):
        view.add("b", sent(value=np.nan, layout="another"))
    with pytest.raises(DetectorMisused, match="channel 'other'"):
        view.add("c", Message({"other": Vector(np.ones(1, dtype=np.float32), "x")}))
    empty = Answers(CHANNELS)
    with pytest.raises(DetectorMisused, match="no answer carries channel 'norms'"):
        empty.each("norms")


def test_a_run_goes_on_without_the_refused():
    for aggregator in ("mean", "median", "krum"):
        strategy = FedAvg(aggregator=aggregator)
        view = Answers(strategy.channels)
        view.add("a", sent(2.0))
        view.add("liar", sent(value=np.nan))
        view.add("z", sent(4.0))
        reply = strategy.exchange(Turn(0, "train", ("a", "liar", "z"), {}, stream(0)), view, {})
        assert reply.messages["*"].vectors["model"].values.tolist() == [3.0]
        assert "turns.liar" not in (reply.memory or {})
